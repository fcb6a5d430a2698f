"""Predictions on a CPU: a network as one call into compiled code."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from mlpx.layers import Buffers, Layer
from mlpx.layers.base import PlanRow
from mlpx.ops.dispatch import declined
from mlpx.plan.description import describe
from mlpx.plan.table import Table
from mlpx.typing import Array
from mlpx_kernels import CannotCompile
from mlpx_kernels.cpu.plan import interpreter, layout, step_pieces
from mlpx_kernels.cpu.threading import blas_threads, parallel_rows

NO_MASK = np.empty((0, 0), np.bool_)
BLOCK_ELEMENTS = 1 << 17
"""Activations of one block of a prediction: they stay in a core's second-level cache."""


class Predictor:
    """A network's prediction as one call into compiled code, rows taken in cache-sized blocks."""

    def __init__(self, layers: Sequence[Layer], n_in: int | None, buffers: Buffers, dtype: str) -> None:
        rows = describe(layers, n_in, training=False)
        self.run = interpreter.predict
        self.dtype = np.dtype(dtype)
        self.n_in, self.n_out = rows[0].n_in, rows[-1].n_out
        self.lone_shape = 1, self.n_out
        self.masked = rows[-1].op == "masked_softmax"
        self.block = max(32, min(1024, BLOCK_ELEMENTS // (self.n_in + sum(row.n_out for row in rows))))
        self.held, self.tables = (
            (buffers.parameters, buffers.statistics),
            list[Table](),
        )  # held, since the jobs carry their addresses
        self.lone, self.many = (self._prepare(rows, n) for n in (1, self.block))
        self.share_rows = parallel_rows.share_rows
        self.with_one_blas_thread = blas_threads.with_one_blas_thread
        # In the units of row work, an element of a softmax: some thirty multiplications
        self.work_per_row = 1 + sum(
            row.n_out + (row.n_in * row.n_out // 32 if row.op == "dense" else 0) for row in rows
        )

    def _prepare(self, rows: list[PlanRow], n: int) -> Array:
        """Return the job for blocks of ``n`` rows; each call adds its data and its work array."""
        dtype = self.dtype.name
        table = Table(rows, n, n * self.n_in, dtype, training=False)
        job = np.zeros(layout.JOB_SIZE + layout.FRAME_SIZE, np.int64)
        job[layout.TABLE], job[layout.TABLE_OF_REALS] = table.whole.ctypes.data, table.reals.ctypes.data
        job[layout.LAYERS] = len(rows)
        job[layout.PARAMS], job[layout.STATS] = (each.ctypes.data for each in self.held)
        job[layout.GATHER] = table._address(step_pieces.copy_in(dtype))
        job[layout.LOSS] = table._address(step_pieces.copy_out(dtype))
        job[layout.N_FEATURES], job[layout.BATCH], job[layout.WORK_SIZE] = self.n_in, n, table.size
        self.tables.append(table)
        return job

    def over(self, parameters: Array, statistics: Array) -> "Predictor":
        """Return the predictor of a network of the same layers over other flat buffers."""
        made: Predictor = object.__new__(Predictor)
        made.__dict__.update(self.__dict__)
        made.held, made.lone, made.many = (parameters, statistics), self.lone.copy(), self.many.copy()
        for job in (made.lone, made.many):
            job[layout.PARAMS], job[layout.STATS] = (each.ctypes.data for each in made.held)
        return made

    def plain(self, x: Any) -> Array | None:
        """Return y for an ``x`` that can be used as it is: rows, C-contiguous, of the network's dtype, no mask needed.

        None for any other, and where this cannot be compiled. In one piece, since each call of a function is a
        thirtieth of what a single row takes.
        """
        if self.masked or type(x) is not np.ndarray or x.dtype != self.dtype:
            return None
        shape = x.shape
        if len(shape) != 2 or shape[1] != self.n_in or not x.flags.c_contiguous:
            return None
        try:
            if shape[0] != 1:
                return self._rows(x, None)
            y = np.empty(self.lone_shape, self.dtype)
            self.run(self.lone, x, NO_MASK, y)
        except CannotCompile as reason:
            declined(reason)
            return None
        return y

    def of_any_shape(self, x: Array, mask: Array | None) -> Array | None:
        """Return y (..., n_out) for any ``x`` (..., n_in) of the network's dtype; None where it cannot be compiled."""
        flags = None if mask is None else mask.reshape(-1, self.n_out)
        try:
            y = self(np.ascontiguousarray(x).reshape(-1, self.n_in), flags)
        except CannotCompile as reason:
            declined(reason)
            return None
        return y.reshape(*x.shape[:-1], self.n_out)

    def __call__(self, x: Array, mask: Array | None) -> Array:
        """Return y (n, n_out) for a C-contiguous ``x`` (n, n_in) of the network's dtype and a bool mask (n, n_out)."""
        if x.shape[0] != 1:
            return self._rows(x, mask)
        y = np.empty(self.lone_shape, self.dtype)
        self.run(self.lone, x, NO_MASK if mask is None else np.ascontiguousarray(mask), y)
        return y

    def _rows(self, x: Array, mask: Array | None) -> Array:
        """Return y for many rows, which threads share."""
        n = x.shape[0]
        y = np.empty((n, self.n_out), self.dtype)
        flags = NO_MASK if mask is None else np.ascontiguousarray(mask)

        def some(start: int, stop: int) -> None:
            self.run(self.many, x[start:stop], flags if mask is None else flags[start:stop], y[start:stop])

        share = partial(self.with_one_blas_thread, self.share_rows) if n > self.block else self.share_rows
        share(some, n, n * self.work_per_row)
        return y
