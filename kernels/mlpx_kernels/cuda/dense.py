"""The dense layer on CUDA: cuBLAS for the products, one kernel for what stands around each."""

from functools import partial
from typing import Any

import numpy as np

from mlpx_kernels.activations import CODES, SAVES_INPUT
from mlpx_kernels.cuda.runtime.arrays import Launch, column_grid, column_sums, ctype, pointer, real_arrays, row_count
from mlpx_kernels.cuda.runtime.compile import kernel

IDENTITY = CODES["identity"]


def bias_activate(z: Any, bias: Any, y: Any, saved: Any, kind: str) -> Launch:
    """Return the launch of ``y = f(z + bias)`` over (rows, cols) arrays; also ``saved = z + bias`` unless it is None.

    ``bias`` (cols,), of the dtype that `summed` tells, may be None; ``y`` or ``saved`` may be ``z``.
    """
    rows, cols = z.shape
    grid, block = column_grid(z, rows, cols)
    args = (z, pointer(bias), y, pointer(saved), np.int64(rows), np.int64(cols))
    return partial(kernel("dense", f"bias_activate<{ctype(z)}, {CODES[kind]}>"), grid, block, args)


def activation_grad_bias_grad(dy: Any, saved: Any, dz: Any, db: Any, kind: str) -> Launch:
    """Return the launch of ``dz = dy f'(z)`` and, unless it is None, ``db = dz.sum(0)``; ``dz`` may be ``dy``.

    Deterministic: blocks leave partial sums, and the last one to finish adds them in a fixed order.
    """
    rows, cols = dy.shape
    grid, block = column_grid(dy, rows, cols, summed=db is not None)
    sums = column_sums(grid, block, cols, 1, dy)
    args = (dy, pointer(saved), dz, pointer(db), *sums, np.int64(rows), np.int64(cols))
    return partial(kernel("dense", f"activation_grad_bias_grad<{ctype(dy)}, {CODES[kind]}>"), grid, block, args)


def dense(x, w, b, *, activation="identity"):
    """cuBLAS, then bias and activation in one kernel, in place where the output is what the gradient needs."""
    import cupy

    (n_out, n_in), rows = w.shape, row_count(x)
    w, x, b = real_arrays(w, (x, rows * n_in), optional=[(b, n_out)], name="dense")
    z = cupy.matmul(x.reshape(rows, n_in), w.T)
    separate = CODES[activation] in SAVES_INPUT
    y = cupy.empty(z.shape, z.dtype) if separate else z
    if z.size and (b is not None or CODES[activation] != IDENTITY):
        bias_activate(z, None if b is None else b.reshape(-1), y, z if separate else None, activation)()
    shape = (*x.shape[:-1], n_out)
    return y.reshape(shape), (z if separate else y).reshape(shape)


def dense_grad(dy, x, w, saved, *, activation="identity", need_dx=True):
    """``dz`` and ``db`` in one kernel, then one product for each of dw and dx."""
    import cupy

    (n_out, n_in), rows = w.shape, row_count(dy)
    size = rows * n_out
    w, dy, x, saved = real_arrays(w, (dy, size), (x, rows * n_in), (saved, size), name="dense_grad")
    dz, db = cupy.empty((rows, n_out), w.dtype), cupy.empty(n_out, w.dtype)
    if n_out:
        activation_grad_bias_grad(dy.reshape(rows, n_out), saved.reshape(rows, n_out), dz, db, activation)()
    dx = cupy.matmul(dz, w).reshape(x.shape) if need_dx else None
    return dx, cupy.matmul(dz.T, x.reshape(rows, n_in)), db
