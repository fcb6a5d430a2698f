"""Dropout on CUDA: masks are computed where they are used, never stored."""

import math
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np

from mlpx_kernels import Unsupported
from mlpx_kernels.cuda.runtime.arrays import THREADS, Launch, ctype, pointer, real_arrays, row_grid
from mlpx_kernels.cuda.runtime.compile import kernel


def drop(
    x: Any,
    y: Any,
    *,
    p: float,
    seed: int,
    step: int = 0,
    layer: int = 0,
    clock: Any = None,
    runs: tuple[int, int, int, int] | None = None,
) -> Launch:
    """Return the launch of ``y = dropout(x)``; ``y`` may be ``x``. The gradient is the same launch over gradients.

    Parameters
    ----------
    x, y : C-contiguous arrays of one size, not empty
    p, seed, step, layer
        As in `mlpx.ops.dropout`.
    clock : array (5,), int64, optional
        The step's clock, which then counts the steps.
    runs : tuple of four int, optional
        How axes share a mask; see `shared_runs`.
    """
    threshold, scale = np.uint64(round(p * 2.0**32)), np.float64(1.0 / (1.0 - p))
    key = np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
    shape = () if runs is None else tuple(map(np.int64, runs))
    args = (
        x,
        y,
        np.int64(x.size),
        *shape,
        threshold,
        scale,
        key,
        np.uint64(step).view(np.int64),
        np.uint32(layer),
        pointer(clock),
    )
    name = f"dropout<{ctype(x)}>" if runs is None else f"dropout_shared<{ctype(x)}>"
    return partial(kernel("dropout", name), row_grid(x.size, 4 * THREADS), THREADS, args)


def shared_runs(shape: tuple[int, ...], shared: set[int]) -> tuple[int, int, int, int]:
    """Return the sizes of the runs of axes that share a mask and of those that do not, as `dropout_shared` takes them.

    Raises
    ------
    Unsupported
        If axes that share and axes that do not take turns more often than the kernel knows.
    """
    kinds = [(is_shared, math.prod(shape[axis] for axis in axes)) for is_shared, axes in _runs(shape, shared)]
    last = kinds.pop()[1] if kinds and kinds[-1][0] else 1
    inner = kinds.pop()[1] if kinds else 1
    between = kinds.pop()[1] if kinds else 1
    outer = kinds.pop()[1] if kinds else 1
    if len(kinds) > 1:
        raise Unsupported("dropout: shared_axes take turns with the others more than twice")
    return outer, between, inner, last


def _runs(shape, shared):
    return [(kind, list(axes)) for kind, axes in groupby(range(len(shape)), lambda axis: axis in shared)]


def dropout(x, *, p, seed, step=0, layer=0, shared_axes=()):
    """One read and one write of each element; ten rounds of two products for each four of them."""
    import cupy

    (x,) = real_arrays(x, name="dropout")
    shared = {axis % x.ndim for axis in shared_axes}
    y = cupy.empty(x.shape, x.dtype)
    if x.size:
        runs = shared_runs(x.shape, shared) if shared else None
        drop(x, y, p=p, seed=seed, step=step, layer=layer, runs=runs)()
    return y
