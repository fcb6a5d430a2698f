"""Losses with their gradients on CUDA: one launch each, and one more for the total weight where rows differ in weight.

The mean needs that total before the first gradient can be written. A second, small launch is the cheapest way that is
deterministic: every block summing all weights itself would read rows times blocks of them, and scaling the gradients
later would cost a pass.
"""

import math
from functools import partial
from typing import Any

import numpy as np

from mlpx_kernels.cuda.runtime.arrays import (
    THREADS,
    Launch,
    class_numbers,
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

BINARY, SQUARED, ABSOLUTE, HUBER, QUANTILE, POISSON, GAMMA, HINGE, BINARY_FOCAL = range(1, 10)
CLIPPED_BINARY = 11
"""Codes of the losses of single outputs; in element_loss.cuh."""
LONG_ROWS = 1024
"""Threads of the block that takes a row too long to be held in registers."""


def sums(blocks: int) -> tuple[Any, Any]:
    """Return room for the partial sums of so many blocks, and their counter at 0."""
    import cupy

    return cupy.empty(blocks, np.float64), cupy.zeros(1, np.uint32)


def total_weight(
    total: Any,
    shape: tuple[int, int],
    *,
    labels: Any = None,
    dense: Any = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    mask: Any = None,
    real: str = "float",
) -> Launch:
    """Return the launch that writes the normaliser of a loss over ``shape`` = (rows, cols) to ``total`` (1,), float64.

    Arrays as in `cross_entropy`; ``real`` is the C type of the float ones.
    """
    rows, cols = shape
    wide = mask is not None or (class_weight is not None and labels is None)
    blocks = row_grid(rows, THREADS // 32 if wide else THREADS)
    given = (pointer(a) for a in (labels, dense, sample_weight, class_weight, mask))
    args = (*given, total, *sums(blocks), np.int64(rows), np.int64(cols))
    return partial(kernel("loss", f"total_weight<{real}>"), blocks, THREADS, args)


def cross_entropy(
    z: Any,
    dz: Any,
    *,
    bias: Any = None,
    labels: Any = None,
    dense: Any = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    mask: Any = None,
    smoothing: float = 0.0,
    ceiling: float = math.inf,
    total: Any = None,
    loss: Any = None,
    losses: Any = None,
    clock: Any = None,
) -> Launch:
    """Return the launch of the softmax cross-entropy of ``z + bias`` (rows, cols) and its gradient ``dz``.

    Parameters
    ----------
    z, dz : array (rows, cols)
        ``dz`` may be ``z``.
    bias : array (cols,), optional
    labels : array (rows,), int64, or dense : array (rows, cols)
        The targets.
    sample_weight, class_weight, mask, smoothing
        As in `mlpx.ops.softmax_cross_entropy`.
    ceiling : float
        -log eps for the loss (not the gradient) of probabilities clipped to [eps, 1 - eps]; only for class numbers
        without class weights, mask and smoothing.
    total : array (1,), float64, optional
        The normaliser, written by `total_weight`; needed with weights or a mask, otherwise it is the number of rows.
    loss : array (), optional
    losses : array (steps,), float64, optional
        Where the loss goes: to ``loss``, and to the place of the step that the clock tells.
    clock : array (5,), int64, optional
        The step's clock; see common.cuh.
    """
    rows, cols = z.shape
    plain = labels is not None and class_weight is None and mask is None and smoothing == 0.0
    held = held_rows(cols, 8192 if plain or z.dtype == np.float32 else 4096)
    if held is None:
        name, group = f"softmax_cross_entropy_long<{ctype(z)}, {LONG_ROWS}>", LONG_ROWS
    else:
        group, items = held
        name = f"softmax_cross_entropy<{ctype(z)}, {group}, {items}, {str(plain).lower()}>"
    threads, at_once = group_rows(group)
    blocks = row_grid(rows, at_once)
    given = (pointer(a) for a in (bias, labels, dense, sample_weight, class_weight, mask))
    written = (dz, *(pointer(a) for a in (loss, losses, clock)), *sums(blocks))
    sizes = (np.int64(rows), np.int64(cols))
    args = (z, *given, np.float64(smoothing), np.float64(ceiling), pointer(total), *written, *sizes)
    return partial(kernel("loss", name), blocks, threads, args)


def element_loss(
    code: int,
    y: Any,
    target: Any,
    dy: Any,
    *,
    bias: Any = None,
    sample_weight: Any = None,
    column: Any = None,
    mask: Any = None,
    level: float = 1.0,
    option: float = 0.0,
    total: Any = None,
    loss: Any = None,
    losses: Any = None,
    clock: Any = None,
) -> Launch:
    """Return the launch of a loss of single outputs of ``y + bias`` (rows, cols) and its gradient ``dy``, maybe ``y``.

    ``column`` (cols,), or ``level`` for all of them, is the positive weight or the quantile's level; ``option`` the
    label smoothing, Huber's delta, the focus, or the ceiling for CLIPPED_BINARY, which has neither of the two. The
    others as in `cross_entropy`.
    """
    rows, cols = y.shape
    blocks = row_grid(y.size, THREADS)
    given = (pointer(bias), target, *(pointer(a) for a in (sample_weight, column, mask)))
    written = (dy, *(pointer(a) for a in (loss, losses, clock)), *sums(blocks))
    numbers = (np.float64(level), np.float64(option), pointer(total))
    args = (y, *given, *numbers, *written, np.int64(rows), np.int64(cols))
    return partial(kernel("element_loss", f"element_losses<{ctype(y)}, {code}>"), blocks, THREADS, args)


def of_classes(launch, z, target, sample_weight, class_weight, mask, *, name, **options):
    """Return (loss, gradient) of a loss of classes, for logits of any leading axes; ``launch`` as `cross_entropy`."""
    import cupy

    integers = target.dtype.kind in "iu"
    rows, c = shape = (row_count(z), z.shape[-1])
    weights = [(sample_weight, rows), (class_weight, c)]
    if integers:
        z, sample_weight, class_weight = real_arrays(z, optional=weights, name=name)
        labels, dense = class_numbers(target, rows, name=name), None
    else:
        z, dense, sample_weight, class_weight = real_arrays(z, (target, z.size), optional=weights, name=name)
        labels = None
    targets = {
        "labels": labels,
        "dense": dense,
        "sample_weight": sample_weight,
        "class_weight": class_weight,
        "mask": None if mask is None else flag_array(mask, z.size, name=name),
    }
    total = None
    if not (sample_weight is None and class_weight is None and mask is None):
        total = cupy.empty(1, np.float64)
        total_weight(total, shape, **targets, real=ctype(z))()
    dz, loss = cupy.empty(z.shape, z.dtype), cupy.empty((), z.dtype)
    launch(z.reshape(shape), dz.reshape(shape), **targets, **options, total=total, loss=loss)()
    return loss, dz


def softmax_cross_entropy(z, target, sample_weight=None, class_weight=None, mask=None, *, label_smoothing=0.0):
    """One read of z, one write of dz; row losses in the dtype of z, their sum in float64."""
    options = {"smoothing": label_smoothing, "name": "softmax_cross_entropy"}
    return of_classes(cross_entropy, z, target, sample_weight, class_weight, mask, **options)


def of_elements(code, y, target, sample_weight, mask, *, column=None, level=1.0, option=0.0, name):
    """Return (loss, gradient) of a loss of single outputs, for arrays of any leading axes."""
    import cupy

    rows, o = shape = (row_count(y), y.shape[-1])
    y, target, sample_weight, column = real_arrays(
        y, (target, y.size), optional=[(sample_weight, rows), (column, o)], name=name
    )
    total = None
    if sample_weight is not None:
        total = cupy.empty(1, np.float64)
        total_weight(total, shape, sample_weight=sample_weight, real=ctype(y))()
    dy, loss = cupy.empty(y.shape, y.dtype), cupy.empty((), y.dtype)
    element_loss(
        code,
        *(a.reshape(shape) for a in (y, target, dy)),
        sample_weight=sample_weight,
        column=column,
        mask=None if mask is None else flag_array(mask, y.size, name=name),
        level=level,
        option=option,
        total=total,
        loss=loss,
    )()
    return loss, dy


def sigmoid_cross_entropy(z, target, sample_weight=None, pos_weight=None, mask=None, *, label_smoothing=0.0):
    """Two reads and one write an element."""
    return of_elements(
        BINARY,
        z,
        target,
        sample_weight,
        mask,
        column=pos_weight,
        option=label_smoothing,
        name="sigmoid_cross_entropy",
    )


def squared_error(y, target, sample_weight=None, mask=None):
    """Two reads and one write an element."""
    return of_elements(SQUARED, y, target, sample_weight, mask, name="squared_error")


def absolute_error(y, target, sample_weight=None, mask=None):
    """Two reads and one write an element."""
    return of_elements(ABSOLUTE, y, target, sample_weight, mask, name="absolute_error")


def huber(y, target, sample_weight=None, mask=None, *, delta=1.0):
    """Two reads and one write an element."""
    return of_elements(HUBER, y, target, sample_weight, mask, option=delta, name="huber")


def quantile(y, target, sample_weight=None, mask=None, *, q=(0.5,)):
    """Two reads and one write an element."""
    import cupy

    column = None if len(q) == 1 else cupy.asarray(np.array(q, str(y.dtype)))
    return of_elements(QUANTILE, y, target, sample_weight, mask, column=column, level=q[0], name="quantile")
