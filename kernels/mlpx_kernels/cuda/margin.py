"""Hinge and focal losses on CUDA; those of single outputs go by the kernel of loss.py."""

from functools import partial
from typing import Any

import numpy as np

from mlpx_kernels.cuda.loss import BINARY_FOCAL, HINGE, LONG_ROWS, of_classes, of_elements, sums
from mlpx_kernels.cuda.runtime.arrays import Launch, ctype, group_rows, held_rows, pointer, row_grid
from mlpx_kernels.cuda.runtime.compile import kernel


def focal(
    z: Any,
    dz: Any,
    *,
    bias: Any = None,
    labels: Any = None,
    dense: Any = None,
    sample_weight: Any = None,
    class_weight: None = None,
    mask: Any = None,
    focus: float = 2.0,
    total: Any = None,
    loss: Any = None,
    losses: Any = None,
    clock: Any = None,
) -> Launch:
    """Return the launch of the softmax focal loss of ``z + bias`` (rows, cols) and its gradient ``dz``, maybe ``z``.

    ``focus`` is at least 0; there are no class weights. The others as in `mlpx_kernels.cuda.loss.cross_entropy`.
    """
    rows, cols = z.shape
    held = held_rows(cols, 8192 if z.dtype == np.float32 else 2048)
    group = LONG_ROWS if held is None else held[0]
    form = f"_long<{ctype(z)}, {group}>" if held is None else f"<{ctype(z)}, {group}, {held[1]}>"
    threads, at_once = group_rows(group)
    blocks = row_grid(rows, at_once)
    given = (pointer(a) for a in (bias, labels, dense, sample_weight, mask))
    written = (dz, *(pointer(a) for a in (loss, losses, clock)), *sums(blocks))
    args = (z, *given, np.float64(focus), pointer(total), *written, np.int64(rows), np.int64(cols))
    return partial(kernel("margin", f"softmax_focal{form}"), blocks, threads, args)


def softmax_focal(z, target, sample_weight=None, mask=None, *, focus=2.0):
    """One read of z, one write of dz; two exponentials an element, and a power for each target that is not 0."""
    return of_classes(focal, z, target, sample_weight, None, mask, focus=focus, name="softmax_focal")


def sigmoid_focal(z, target, sample_weight=None, mask=None, *, focus=2.0):
    """Two reads and one write an element; powers of probabilities as exponentials of their logarithms."""
    return of_elements(BINARY_FOCAL, z, target, sample_weight, mask, option=focus, name="sigmoid_focal")


def hinge(y, target, sample_weight=None, mask=None):
    """Two reads and one write an element."""
    return of_elements(HINGE, y, target, sample_weight, mask, name="hinge")
