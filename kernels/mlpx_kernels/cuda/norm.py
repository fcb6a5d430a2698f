"""Layer and batch normalisation on CUDA: one launch for rows, two where columns need their sums first."""

from functools import partial
from typing import Any

import numpy as np

from mlpx_kernels.cuda.runtime.arrays import (
    Launch,
    column_grid,
    column_sums,
    ctype,
    group_rows,
    held_rows,
    pointer,
    real_arrays,
    row_count,
    row_grid,
)
from mlpx_kernels.cuda.runtime.compile import kernel

LONG_ROWS = 1024
"""Threads of the block that takes a row too long to be held in registers."""


def _sizes(x: Any) -> tuple[Any, Any]:
    return np.int64(x.shape[0]), np.int64(x.shape[1])


def _of_rows(name: str, x: Any, args: tuple[Any, ...], most: int) -> Launch:
    rows, cols = x.shape
    held = held_rows(cols, most)
    group = LONG_ROWS if held is None else held[0]
    form = f"{name}_long<{ctype(x)}, {group}>" if held is None else f"{name}<{ctype(x)}, {group}, {held[1]}>"
    threads, at_once = group_rows(group)
    return partial(kernel("norm", form), row_grid(rows, at_once), threads, (*args, *_sizes(x)))


def normalise_rows(x: Any, gamma: Any, beta: Any, y: Any, mean: Any, var: Any, eps: float) -> Launch:
    """Return the launch of the layer norm of ``x`` (rows, cols); ``mean`` and ``var`` (rows,) are written too."""
    return _of_rows("layer_norm", x, (x, gamma, beta, np.float64(eps), y, mean, var), 8192)


def normalise_rows_grad(dy: Any, x: Any, gamma: Any, mean: Any, var: Any, dx: Any, eps: float) -> Launch:
    """Return the launch of layer norm's gradient for x; ``dx`` may be ``dy``, but `gain_grad` reads ``dy`` too."""
    most = 8192 if x.dtype == np.float32 else 4096
    return _of_rows("layer_norm_grad", x, (dy, x, gamma, mean, var, np.float64(eps), dx), most)


def gain_grad(
    dy: Any,
    x: Any,
    mean: Any,
    var: Any,
    dgamma: Any,
    dbeta: Any,
    eps: float,
    *,
    of_rows: bool,
    gamma: Any = None,
    dx: Any = None,
) -> Launch:
    """Return the launch of the gradients of gain and shift, for statistics of rows (layer norm) or columns.

    With ``gamma`` and ``dx`` also that of x, where the statistics, of columns, are held fixed; ``dx`` may be ``dy``.
    """
    rows, cols = x.shape
    grid, block = column_grid(x, rows, cols, summed=True, vectors=False)
    sums = column_sums(grid, block, cols, 2, x)
    given = (dy, x, pointer(gamma), mean, var, np.float64(eps))
    args = (*given, pointer(dx), dgamma, dbeta, *sums, *_sizes(x))
    return partial(kernel("norm", f"norm_gain_grad<{ctype(x)}, {str(of_rows).lower()}>"), grid, block, args)


def statistics(
    x: Any, mean: Any, var: Any, *, running: tuple[Any, Any] = (None, None), momentum: float = 0.0
) -> Launch:
    """Return the launch of mean and variance (cols,) of ``x`` (rows, cols), which may move running statistics too."""
    rows, cols = x.shape
    grid, block = column_grid(x, rows, cols, summed=True, vectors=False)
    sums = column_sums(grid, block, cols, 4, x)
    args = (x, mean, var, *map(pointer, running), np.float64(momentum), *sums, *_sizes(x))
    return partial(kernel("norm", f"batch_statistics<{ctype(x)}>"), grid, block, args)


def normalise_columns(x: Any, gamma: Any, beta: Any, mean: Any, var: Any, y: Any, eps: float) -> Launch:
    """Return the launch of the batch norm of ``x`` (rows, cols) with given statistics; ``y`` may be ``x``."""
    grid, block = column_grid(x, *x.shape, vectors=False)
    args = (x, gamma, beta, mean, var, np.float64(eps), y, *_sizes(x))
    return partial(kernel("norm", f"batch_normalise<{ctype(x)}>"), grid, block, args)


def normalise_columns_grad(
    dy: Any, x: Any, gamma: Any, mean: Any, var: Any, dgamma: Any, dbeta: Any, dx: Any, eps: float
) -> Launch:
    """Return the launch of batch norm's gradient for x, after `gain_grad`; ``dx`` may be ``dy``."""
    grid, block = column_grid(x, *x.shape, vectors=False)
    args = (dy, x, gamma, mean, var, dgamma, dbeta, np.float64(eps), dx, *_sizes(x))
    return partial(kernel("norm", f"batch_norm_dx<{ctype(x)}>"), grid, block, args)


def _rows(x: Any) -> Any:
    return x.reshape(row_count(x), x.shape[-1])


def _arrays(x: Any, features: tuple[Any, ...], *alike: Any, rows: tuple[Any, ...] = (), name: str) -> list[Any]:
    """Return ``x``, those ``alike``, those with a number per feature and those with a number per row, as kernels take
    them; see `real_arrays`.
    """
    f, n = x.shape[-1], row_count(x)
    sized = [*((a, x.size) for a in alike), *((a, f) for a in features), *((a, n) for a in rows)]
    first, *others = real_arrays(x, *sized, name=name)
    return [first, *(a.reshape(first.shape) for a in others[: len(alike)]), *others[len(alike) :]]


def _like(*arrays: Any) -> list[Any]:
    import cupy

    return [cupy.empty(a.shape, a.dtype) for a in arrays]


def layer_norm(x, gamma, beta, *, eps):
    """One read and one write of each element up to 8,192 features; three reads beyond."""
    import cupy

    x, gamma, beta = _arrays(x, (gamma, beta), name="layer_norm")
    y, mean, var = *_like(x), *(cupy.empty((*x.shape[:-1], 1), x.dtype) for _ in range(2))
    normalise_rows(_rows(x), gamma, beta, _rows(y), mean, var, eps)()
    return y, mean, var


def layer_norm_grad(dy, x, gamma, mean, var, *, eps):
    """Two launches, each with two reads of each element; one write."""
    x, dy, gamma, mean, var = _arrays(x, (gamma,), dy, rows=(mean, var), name="layer_norm_grad")
    dx, dgamma, dbeta = _like(x, gamma, gamma)
    normalise_rows_grad(_rows(dy), _rows(x), gamma, mean, var, _rows(dx), eps)()
    gain_grad(_rows(dy), _rows(x), mean, var, dgamma, dbeta, eps, of_rows=True)()
    return dx, dgamma, dbeta


def batch_norm(x, gamma, beta, *, eps):
    """One launch for the statistics, without cancellation in one pass, and one for the result."""
    x, gamma, beta = _arrays(x, (gamma, beta), name="batch_norm")
    y, mean, var = _like(x, gamma, gamma)
    statistics(_rows(x), mean, var)()
    normalise_columns(_rows(x), gamma, beta, mean, var, _rows(y), eps)()
    return y, mean, var


def batch_norm_grad(dy, x, gamma, mean, var, *, eps):
    """One launch for dgamma and dbeta, one for dx; each reads dy and x."""
    x, dy, gamma, mean, var = _arrays(x, (gamma, mean, var), dy, name="batch_norm_grad")
    dx, dgamma, dbeta = _like(x, gamma, gamma)
    gain_grad(_rows(dy), _rows(x), mean, var, dgamma, dbeta, eps, of_rows=False)()
    normalise_columns_grad(_rows(dy), _rows(x), gamma, mean, var, dgamma, dbeta, _rows(dx), eps)()
    return dx, dgamma, dbeta


def batch_norm_inference(x, gamma, beta, mean, var, *, eps):
    """One read and one write of each element."""
    x, gamma, beta, mean, var = _arrays(x, (gamma, beta, mean, var), name="batch_norm_inference")
    (y,) = _like(x)
    normalise_columns(_rows(x), gamma, beta, mean, var, _rows(y), eps)()
    return y


def batch_norm_inference_grad(dy, x, gamma, mean, var, *, eps):
    """All three gradients in one launch: two reads and one write of each element."""
    x, dy, gamma, mean, var = _arrays(x, (gamma, mean, var), dy, name="batch_norm_inference_grad")
    dx, dgamma, dbeta = _like(x, gamma, gamma)
    options = {"of_rows": False, "gamma": gamma, "dx": _rows(dx)}
    gain_grad(_rows(dy), _rows(x), mean, var, dgamma, dbeta, eps, **options)()
    return dx, dgamma, dbeta
