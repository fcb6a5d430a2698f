"""Softmax, its masked form and its logarithm on CUDA: a part of a warp, a warp or a block per row, by its width."""

from functools import partial
from typing import Any

import numpy as np

from mlpx_kernels.cuda.runtime.arrays import (
    Launch,
    ctype,
    flag_array,
    group_rows,
    held_rows,
    pointer,
    real_arrays,
    row_count,
    row_grid,
)
from mlpx_kernels.cuda.runtime.compile import kernel

PLAIN, MASKED, LOGARITHM = range(3)
"""Kinds, as in softmax.cu."""
LONG_ROWS = 1024
"""Threads of the block that takes a row too long to be held in registers."""


def _launch(name: str, kind: int, arrays: tuple[Any, ...], shape: tuple[int, int]) -> Launch:
    rows, cols = shape
    held = held_rows(cols)
    group = LONG_ROWS if held is None else held[0]
    form = f"{name}_long<{ctype(arrays[0])}, {kind}, {group}>"
    if held is not None:
        form = f"{name}<{ctype(arrays[0])}, {kind}, {group}, {held[1]}>"
    threads, at_once = group_rows(group)
    args = (*map(pointer, arrays), np.int64(rows), np.int64(cols))
    return partial(kernel("softmax", form), row_grid(rows, at_once), threads, args)


def forward(kind: int, x: Any, mask: Any, y: Any) -> Launch:
    """Return the launch of ``y = softmax(x)`` of one kind over (rows, cols) arrays; ``y`` may be ``x``."""
    return _launch("softmax", kind, (x, mask, y), x.shape)


def backward(kind: int, dy: Any, y: Any, mask: Any, dx: Any) -> Launch:
    """Return the launch of the gradient, from the output ``y``; ``dx`` may be ``dy``."""
    return _launch("softmax_grad", kind, (dy, y, mask, dx), dy.shape)


def _of_rows(launch, kind, arrays, mask, name):
    import cupy

    first, size = arrays[0], arrays[0].size
    arrays = real_arrays(first, *((a, size) for a in arrays[1:]), name=name)
    shape = (row_count(first), first.shape[-1])
    out = cupy.empty(first.shape, first.dtype)
    flags = flag_array(mask, size, name=name) if kind == MASKED else None
    if out.size:
        launch(kind, *(a.reshape(shape) for a in arrays), flags, out.reshape(shape))()
    return out


def softmax(x):
    """One read and one write of each element up to 8,192 columns, two reads beyond."""
    return _of_rows(forward, PLAIN, (x,), None, "softmax")


def softmax_grad(dy, y):
    """Two reads and one write of each element."""
    return _of_rows(backward, PLAIN, (dy, y), None, "softmax_grad")


def masked_softmax(x, mask):
    """As `softmax`, and a byte of the mask; forbidden logits are never computed with."""
    return _of_rows(forward, MASKED, (x,), mask, "masked_softmax")


def masked_softmax_grad(dy, y, mask):
    """As `softmax_grad`, and a byte of the mask."""
    return _of_rows(backward, MASKED, (dy, y), mask, "masked_softmax_grad")


def log_softmax(x):
    """As `softmax`; one logarithm a row."""
    return _of_rows(forward, LOGARITHM, (x,), None, "log_softmax")


def log_softmax_grad(dy, y):
    """As `softmax_grad`."""
    return _of_rows(backward, LOGARITHM, (dy, y), None, "log_softmax_grad")
