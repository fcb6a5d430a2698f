"""The plan: a network as a table, for the compiled function that runs whole epochs and predictions in one call.

Layers describe themselves (`Layer.describe`); this file lays out the table and the buffers, and nobody else knows
them. A layer that cannot describe itself makes the network run layer by layer: slower, never wrong.
"""

from collections.abc import Sequence
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np

from mlpx.layers import Buffers, Dropout, Layer
from mlpx.layers.base import PlanRow
from mlpx.ops.dispatch import fused_mode
from mlpx.overrides import overridden
from mlpx.typing import Array
from mlpx_kernels import Unsupported
from mlpx_kernels.activations import CODES, SAVES_INPUT

NO_MASK = np.empty((0, 0), np.bool_)
ASKED = frozenset({"config", "declare", "initialize", "input_size", "output_size", "size_error"})
"""Methods of layers that are called, or play no part, where a plan stands in for the rest."""
ALIGNMENT = 16
"""Buffers inside the work array start at multiples of this many elements."""
BLOCK_ELEMENTS = 1 << 17
"""Activations of one block of a prediction: they stay in a core's second-level cache."""


def kernels(module: str, device: str = "cpu") -> Any:
    """Return a module of the kernels for a device: "cpu" or "cuda".

    Raises
    ------
    Unsupported
        If fused kernels are switched off, or it cannot be imported.
    """
    if fused_mode() == "off":
        raise Unsupported("fused kernels are switched off (MLPX_FUSED=off)")
    try:
        return _imported(f"mlpx_kernels.{device}.{module}")
    except ImportError as error:
        raise Unsupported(f"mlpx_kernels.{device}.{module} cannot be imported: {error}") from error


_imported = cache(import_module)
"""A module by its name; a fit asks for a dozen."""


def describe(layers: Sequence[Layer], n_in: int | None, *, training: bool) -> list[PlanRow]:
    """Return the rows of a network's layers.

    Raises
    ------
    Unsupported
        If a layer has no description, or computes something else than the class that described it; or the input's
        width is not known.
    """
    if n_in is None:
        raise Unsupported("no layer fixes the width of the input")
    rows = []
    for layer in layers:
        if own := overridden(layer, _described_by(type(layer)), ASKED):
            raise Unsupported(f"{type(layer).__name__} has its own {min(own)}, so it runs layer by layer")
        if isinstance(layer, Dropout) and not training:
            continue
        row = layer.describe(n_in)
        if row is None or row.kind not in CODES:
            raise Unsupported(f"{type(layer).__name__} runs layer by layer")
        _check_shapes(layer, row, n_in)
        if row.op == "masked_softmax" and (training or layer is not layers[-1]):
            raise Unsupported("a masked softmax runs layer by layer, except at the end of the network")
        n_in = row.n_out
        rows.append(row)
    if not rows:
        raise Unsupported("there is nothing to compute")
    return rows


@cache
def _described_by(kind: type[Layer]) -> type[Layer]:
    """Return the class whose description a kind of layer has."""
    return next(each for each in kind.__mro__ if "describe" in vars(each))


def _check_shapes(layer: Layer, row: PlanRow, n_in: int) -> None:
    """Raise Unsupported for sizes that were set after the weights were made: compiled code would leave the buffers."""
    width = row.n_out if row.op == "dense" else n_in
    wanted = (width, n_in) if row.op == "dense" else (width,)
    fits = row.n_in == n_in and row.n_out == width and (row.weight is None or row.weight.shape == wanted)
    if not fits or any(p is not None and p.shape != (width,) for p in (row.bias, row.mean, row.var)):
        raise Unsupported(f"{type(layer).__name__} is of another size than its weights")


def padded(elements: int) -> int:
    """Return a number of elements rounded up to the alignment."""
    return -(-elements // ALIGNMENT) * ALIGNMENT


class Table:
    """The table, the pieces it calls, and where each buffer lies in the work array.

    Attributes
    ----------
    whole : array (layers, columns), int64
        After `split_first`, with as many rows more as there are blocks.
    reals : array (layers, N_REALS), float64
        The same rows.
    size : int
        Elements of the work array.
    pieces : list
        The compiled pieces; holding them keeps their addresses valid.
    """

    def __init__(self, rows: Sequence[PlanRow], n: int, reserved: int, dtype: str, *, training: bool) -> None:
        k, pieces = kernels("plan.layout"), kernels("plan.layer_pieces")
        self.whole = np.full((len(rows), k.N_COLUMNS), -1, np.int64)
        self.reals = np.zeros((len(rows), k.N_REALS))
        self.size = padded(reserved)
        self.pieces: list[Any] = []
        source, source_gradient = 0, -1
        for line, row in enumerate(rows):
            kind = CODES[row.kind]
            output = self._place(n * row.n_out)
            gradient = self._place(n * row.n_out) if training else -1
            # What the gradient needs: the output, or the pre-activation where the output does not determine it.
            saved, extra = output, -1
            if kind in SAVES_INPUT:
                saved = self._place(n * row.n_out) if row.op == "dense" else source
            if row.op == "dropout":
                extra = self._place(n * row.n_out)
            elif row.op in ("layer_norm", "batch_norm"):
                extra, saved = (self._place(n if row.op == "layer_norm" else row.n_out) for _ in range(2))
            entries = {
                k.N_IN: row.n_in,
                k.N_OUT: row.n_out,
                k.W: -1 if row.weight is None else row.weight.offset,
                k.B: -1 if row.bias is None else row.bias.offset,
                k.X: source,
                k.Y: output,
                k.Z: saved,
                k.D: gradient,
                k.DX: source_gradient,
                k.EXTRA: extra,
                k.NUMBER: row.number,
                k.MEAN: -1 if row.mean is None else row.mean.offset,
                k.VAR: -1 if row.var is None else row.var.offset,
                k.DENSE: row.op == "dense",
                k.FORWARD: self._address(pieces.FORWARDS[row.op](kind, dtype)),
                k.BACKWARD: 0,
                k.WEIGHTS: 0,
                k.APART: 0,
                k.ALIKE: 1,
                k.STRIDE: row.n_out,
            }
            # Below the first dense layer nobody wants a gradient, but a dense layer's own is always needed.
            if training and (source_gradient >= 0 or row.op in ("dense", "batch_norm")):
                entries[k.BACKWARD] = self._address(pieces.BACKWARDS[row.op](kind, dtype))
            if training and row.op in pieces.GRADIENTS:
                entries[k.WEIGHTS] = self._address(pieces.GRADIENTS[row.op](dtype))
            for column, value in entries.items():
                self.whole[line, column] = value
            self.reals[line] = row.real, *row.lr_factors, row.momentum
            source, source_gradient = output, gradient

    def split_first(self, blocks: int, step: int) -> None:
        """Append the first layer as each block of its outputs sees it; inputs of each lie ``step`` elements on."""
        k, cut = kernels("plan.layout"), kernels("plan.phases").cut
        first, lines = self.whole[0], np.tile(self.whole[0], (blocks, 1))
        for block, line in enumerate(lines):
            begin, end = (cut(first[k.N_OUT], number, blocks) for number in (block, block + 1))
            line[k.N_OUT] = end - begin
            line[k.X] += block * step
            line[k.W] += begin * first[k.N_IN]
            line[[k.B, k.Y, k.Z, k.D]] += np.where(first[[k.B, k.Y, k.Z, k.D]] < 0, 0, begin)
        self.whole = np.concatenate([self.whole, lines])
        self.reals = np.concatenate([self.reals, np.tile(self.reals[0], (blocks, 1))])

    def _place(self, elements: int) -> int:
        start = self.size
        self.size += padded(elements)
        return start

    def _address(self, piece: Any) -> int:
        self.pieces.append(piece)
        return int(piece.address)


class Predictor:
    """A network's prediction as one call into compiled code, rows taken in cache-sized blocks."""

    def __init__(self, layers: Sequence[Layer], n_in: int | None, buffers: Buffers, dtype: str) -> None:
        rows = describe(layers, n_in, training=False)
        self.run = kernels("plan.interpreter").predict
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
        self.share_rows = kernels("threading.parallel_rows").share_rows
        self.with_one_blas_thread = kernels("threading.blas_threads").with_one_blas_thread
        # In the units of row work, an element of a softmax: some thirty multiplications
        self.work_per_row = 1 + sum(
            row.n_out + (row.n_in * row.n_out // 32 if row.op == "dense" else 0) for row in rows
        )

    def _prepare(self, rows: list[PlanRow], n: int) -> Array:
        """Return the job for blocks of ``n`` rows; each call adds its data and its work array."""
        k, pieces = kernels("plan.layout"), kernels("plan.step_pieces")
        dtype = self.dtype.name
        table = Table(rows, n, n * self.n_in, dtype, training=False)
        job = np.zeros(k.JOB_SIZE + k.FRAME_SIZE, np.int64)
        job[k.TABLE], job[k.TABLE_OF_REALS] = table.whole.ctypes.data, table.reals.ctypes.data
        job[k.LAYERS] = len(rows)
        job[k.PARAMS], job[k.STATS] = (each.ctypes.data for each in self.held)
        job[k.GATHER] = table._address(pieces.copy_in(dtype))
        job[k.LOSS] = table._address(pieces.copy_out(dtype))
        job[k.N_FEATURES], job[k.BATCH], job[k.WORK_SIZE] = self.n_in, n, table.size
        self.tables.append(table)
        return job

    def over(self, parameters: Array, statistics: Array) -> "Predictor":
        """Return the predictor of a network of the same layers over other flat buffers."""
        made: Predictor = object.__new__(Predictor)
        made.__dict__.update(self.__dict__)
        k = kernels("plan.layout")
        made.held, made.lone, made.many = (parameters, statistics), self.lone.copy(), self.many.copy()
        for job in (made.lone, made.many):
            job[k.PARAMS], job[k.STATS] = (each.ctypes.data for each in made.held)
        return made

    def plain(self, x: Any) -> Array | None:
        """Return y for an ``x`` that can be used as it is: rows, C-contiguous, of the network's dtype, no mask needed.

        None for any other. In one piece, since each call of a function is a thirtieth of what a single row takes.
        """
        if self.masked or type(x) is not np.ndarray or x.dtype != self.dtype:
            return None
        shape = x.shape
        if len(shape) != 2 or shape[1] != self.n_in or not x.flags.c_contiguous:
            return None
        if shape[0] != 1:
            return self._rows(x, None)
        y = np.empty(self.lone_shape, self.dtype)
        self.run(self.lone, x, NO_MASK, y)
        return y

    def of_any_shape(self, x: Array, mask: Array | None) -> Array:
        """Return y (..., n_out) for any ``x`` (..., n_in) of the network's dtype."""
        flags = None if mask is None else mask.reshape(-1, self.n_out)
        y = self(np.ascontiguousarray(x).reshape(-1, self.n_in), flags)
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
