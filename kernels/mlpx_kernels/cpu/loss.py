"""Losses with their gradients in one pass, as ops: cross-entropy (cross_entropy.py) and losses of single elements
(element_loss.py)."""

import math

import numpy as np

from mlpx_kernels.cpu.loops.cross_entropy import plain_cross_entropy_loop, run_cross_entropy, run_total
from mlpx_kernels.cpu.loops.element_loss import ABSOLUTE, BINARY, HUBER, POISSON, QUANTILE, SQUARED, loss_loop
from mlpx_kernels.cpu.loops.narrow_rows import NARROW
from mlpx_kernels.cpu.lowlevel.arrays import class_numbers, flat, optional, real_array
from mlpx_kernels.cpu.lowlevel.compile import kernel
from mlpx_kernels.cpu.threading.parallel_rows import fixed_parts, share_parts


@kernel
def labels_outside(labels, c):
    """Return whether a class number lies outside 0 to c - 1."""
    outside = False
    for i in range(labels.size):
        outside |= labels[i] < 0 or labels[i] >= c
    return outside


NO_LABELS = np.empty(0, np.int64)


def rounded(losses, real):
    """Return the sum of parts of a loss in a dtype; infinite, without a warning, where it is beyond that."""
    with np.errstate(over="ignore"):
        return real.type(math.fsum(losses))


def softmax_cross_entropy(z, target, sample_weight=None, class_weight=None, mask=None, *, label_smoothing=0.0):
    """One read of z, one write of dz; the loss is summed in float64.

    Without class weights and smoothing the gradient costs one exponential and two multiplications an element.
    """
    name = "softmax_cross_entropy"
    z = real_array(z, name=name)
    c = z.shape[-1]
    rows = z.size // c
    real = z.dtype
    integers = target.dtype.kind in "iu"
    labels = class_numbers(target, rows, name=name) if integers else NO_LABELS
    if integers and labels_outside(labels, c):
        raise ValueError(
            f"softmax_cross_entropy: target holds class numbers from {labels.min()} to {labels.max()}; expected 0 to "
            f"{c - 1} for z with {c} classes."
        )
    dense = np.empty(0, real) if integers else flat(target, z.size, real, name=name)
    sw, cw = optional(sample_weight, rows, real, name=name), optional(class_weight, c, real, name=name)
    m = optional(mask, z.size, np.bool_, name=name)
    dz = np.empty(z.shape, real)
    z_flat, dz_flat = z.reshape(-1), dz.reshape(-1)
    plain = integers and class_weight is None and mask is None and not label_smoothing
    if plain:
        total = float(rows) if sample_weight is None else float(sw.sum(dtype=np.float64))
    else:
        total = run_total(rows, c, sw, cw, m, labels, dense)
    parts = fixed_parts(rows, z.size)
    losses = np.zeros(parts)

    def some(part, a, b):
        rows_z, rows_dz = z_flat[a * c : b * c], dz_flat[a * c : b * c]
        if plain:
            losses[part] = plain_cross_entropy_loop(c <= NARROW)(rows_z, labels[a:b], sw[a:b], total, rows_dz, b - a, c)
            return
        targets, allowed = dense[a * c : b * c], m[a * c : b * c]
        losses[part] = run_cross_entropy(
            rows_z, labels[a:b], targets, sw[a:b], cw, allowed, label_smoothing, total, rows_dz, b - a, c
        )

    share_parts(some, rows, parts)
    return rounded(losses, real), dz


def elementwise(kind, z, target, sample_weight, column, mask, option, *, name):
    """Return (loss, gradient) of an element-wise loss; row losses in the dtype of z, their sum in float64.

    Rows are cut into parts by the shape alone, and the parts' losses added exactly, so the number of threads changes
    nothing.
    """
    z = real_array(z, name=name)
    c = z.shape[-1]
    rows = z.size // c if c else 0
    real = z.dtype
    t, sw = flat(target, z.size, real, name=name), optional(sample_weight, rows, real, name=name)
    columns = 1 if column is not None and column.size == 1 else c  # one for all of them, or one each
    col, m = optional(column, columns, real, name=name), optional(mask, z.size, np.bool_, name=name)
    dz = np.empty(z.shape, real)
    total = float(rows) if sample_weight is None else float(sw.sum(dtype=np.float64))
    z_flat, dz_flat, loop = z.reshape(-1), dz.reshape(-1), loss_loop(kind)
    parts = fixed_parts(rows, z.size // (1 if kind in (BINARY, POISSON) else 2))
    losses = np.zeros(parts)

    def some(part, a, b):
        i = slice(a * c, b * c)
        losses[part] = loop(z_flat[i], t[i], sw[a:b], col, m[i], option, total, dz_flat[i], b - a, c)

    share_parts(some, rows, parts)
    return rounded(losses, real), dz


def sigmoid_cross_entropy(z, target, sample_weight=None, pos_weight=None, mask=None, *, label_smoothing=0.0):
    """One read of z and target, one write of dz."""
    name = "sigmoid_cross_entropy"
    return elementwise(BINARY, z, target, sample_weight, pos_weight, mask, label_smoothing, name=name)


def squared_error(y, target, sample_weight=None, mask=None):
    """One read of y and target, one write of dy."""
    return elementwise(SQUARED, y, target, sample_weight, None, mask, 0.0, name="squared_error")


def absolute_error(y, target, sample_weight=None, mask=None):
    """One read of y and target, one write of dy."""
    return elementwise(ABSOLUTE, y, target, sample_weight, None, mask, 0.0, name="absolute_error")


def huber(y, target, sample_weight=None, mask=None, *, delta=1.0):
    """One read of y and target, one write of dy."""
    return elementwise(HUBER, y, target, sample_weight, None, mask, delta, name="huber")


def quantile(y, target, sample_weight=None, mask=None, *, q=(0.5,)):
    """One read of y and target, one write of dy; levels are rounded to the dtype of y."""
    y, name = real_array(y, name="quantile"), "quantile"
    return elementwise(QUANTILE, y, target, sample_weight, np.array(q, y.dtype), mask, 0.0, name=name)
