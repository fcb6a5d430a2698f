"""Hinge and focal losses with their gradients; the loop of the element-wise ones is in element_loss.py."""

import math

import numpy as np

from mlpx_kernels.cpu.loops.cross_entropy import clear_forbidden, copy_allowed, row_weight, run_total
from mlpx_kernels.cpu.loops.element_loss import BINARY_FOCAL, HINGE
from mlpx_kernels.cpu.loops.narrow_rows import COLUMNS, NARROW, SIDE, exponentials, scale, write_rows
from mlpx_kernels.cpu.loops.reductions import row_max
from mlpx_kernels.cpu.loss import NO_LABELS, elementwise, labels_outside, rounded
from mlpx_kernels.cpu.lowlevel.arrays import class_numbers, flat, optional, real_array
from mlpx_kernels.cpu.lowlevel.compile import inlined, kernel
from mlpx_kernels.cpu.lowlevel.mathematics import exp
from mlpx_kernels.cpu.lowlevel.memory import alloc_scratch, free_scratch
from mlpx_kernels.cpu.threading.parallel_rows import fixed_parts, share_parts

FOCAL = 10
"""Code of the focal loss in plans."""


@inlined
def focal_of(p, log_p, focus):
    """Return ``-(1 - p)^f log p`` and its derivative times p, in float64, with their limits at p = 0 and 1."""
    rest = 1.0 - p if p < 0.5 else -math.expm1(log_p)
    easy = rest * rest  # for the usual focus of 2; C's power takes as long as all the rest
    if focus != 2.0:
        easy = rest**focus if focus > 0.0 else 1.0
    slope = 0.0 if p == 0.0 else -1.0
    if p > 0.0 and rest > 0.0:
        slope = p * log_p / rest
    return -easy * log_p, easy * (focus * slope - 1.0)


@inlined
def focal_rows(z, labels, dense, sample_weight, mask, focus, total, dz, rows, c):
    """Write the gradient of the softmax focal loss for a flat block of rows; return its share of the loss.

    Arguments as those of `cross_entropy_rows` (cross_entropy.py). The power is taken in float64, once for each target
    that is not 0: once a row for class numbers.
    """
    real = z.dtype.type
    zero = real(0.0)
    inverse_total = 1.0 / total if total > 0.0 else 1.0
    none = sample_weight[:0]
    loss = 0.0
    for r in range(rows):
        a, d = z[r * c : (r + 1) * c], dz[r * c : (r + 1) * c]
        w, _ = row_weight(r, c, sample_weight, none, mask, labels, dense)
        if w <= 0.0:
            for j in range(c):
                d[j] = zero
            continue
        copy_allowed(a, mask, r, d)
        top, partition = row_max(d), zero
        for j in range(c):
            d[j] = exp(d[j] - top)
            partition += d[j]
        shift = np.float64(top) + math.log(np.float64(partition))
        each, slopes, slope = 0.0, 0.0, 0.0
        first, last = (labels[r], labels[r] + 1) if labels.size else (0, c)
        for j in range(first, last):
            t = 1.0 if labels.size else np.float64(dense[r * c + j])
            if t != 0.0:
                allowed = mask.size == 0 or mask[r * c + j]
                log_p = np.float64(a[j]) - shift if allowed else -np.inf
                value, slope = focal_of(math.exp(log_p), log_p, focus)
                each += t * value
                slopes += t * slope
        loss += w * each
        share = w * inverse_total
        factor = real(-share * slopes / np.float64(partition))
        for j in range(c):
            d[j] *= factor
        for j in range(first, last):
            t = 1.0 if labels.size else np.float64(dense[r * c + j])
            if t != 0.0:
                if labels.size == 0:
                    allowed = mask.size == 0 or mask[r * c + j]
                    log_p = np.float64(a[j]) - shift if allowed else -np.inf
                    slope = focal_of(math.exp(log_p), log_p, focus)[1]
                d[j] += real(share * t * slope)
        clear_forbidden(mask, r, d)
    return loss * inverse_total


@kernel
def run_narrow_focal(z, labels, sample_weight, focus, total, dz, rows, c):
    """Do what `focal_rows` does for class numbers without a mask and rows up to `NARROW`, taken side by side."""
    real = z.dtype.type
    inverse_total = 1.0 / total if total > 0.0 else 1.0
    loss = 0.0
    scratch = alloc_scratch(COLUMNS + 4 * SIDE, real)
    top, partition, factor = scratch[:SIDE], scratch[SIDE : 2 * SIDE], scratch[2 * SIDE : 3 * SIDE]
    own, columns = scratch[3 * SIDE : 4 * SIDE], scratch[4 * SIDE :]
    for start in range(0, rows, SIDE):
        n = min(SIDE, rows - start)
        block, gradient = z[start * c : (start + n) * c], dz[start * c : (start + n) * c]
        exponentials(block, columns, top, partition, n, c)
        for r in range(n):
            label = labels[start + r]
            w = 1.0 if sample_weight.size == 0 else np.float64(sample_weight[start + r])
            whole = np.float64(partition[r])
            log_p = np.float64(block[r * c + label]) - np.float64(top[r]) - math.log(whole)
            value, slope = focal_of(np.float64(columns[label * SIDE + r]) / whole, log_p, focus)
            loss += w * value if w > 0.0 else 0.0
            own[r] = real(w * inverse_total * slope)
            factor[r] = real(-w * inverse_total * slope / whole)
        scale(columns, factor, n, c)
        write_rows(columns, gradient, n, c)
        for r in range(n):
            d = gradient[r * c : (r + 1) * c]
            d[labels[start + r]] += own[r]
            if sample_weight.size and not sample_weight[start + r] > 0.0:
                for j in range(c):
                    d[j] = 0.0
    free_scratch(scratch)
    return loss * inverse_total


@kernel
def run_focal(z, labels, dense, sample_weight, mask, focus, total, dz, rows, c):
    """Compiled entry point of `focal_rows`."""
    return focal_rows(z, labels, dense, sample_weight, mask, focus, total, dz, rows, c)


def softmax_focal(z, target, sample_weight=None, mask=None, *, focus=2.0):
    """One read of z, one write of dz; one exponential an element."""
    z = real_array(z, name="softmax_focal")
    c, real = z.shape[-1], z.dtype
    rows = z.size // c
    integers = target.dtype.kind in "iu"
    labels = class_numbers(target, rows, name="softmax_focal") if integers else NO_LABELS
    if integers and labels_outside(labels, c):
        raise ValueError(
            f"softmax_focal: target holds class numbers from {labels.min()} to {labels.max()}; expected 0 to {c - 1} "
            f"for z with {c} classes."
        )
    dense = np.empty(0, real) if integers else flat(target, z.size, real, name="softmax_focal")
    sw = optional(sample_weight, rows, real, name="softmax_focal")
    m = optional(mask, z.size, np.bool_, name="softmax_focal")
    dz = np.empty(z.shape, real)
    z_flat, dz_flat = z.reshape(-1), dz.reshape(-1)
    total = run_total(rows, c, sw, sw[:0], m, labels, dense)
    narrow = integers and mask is None and c <= NARROW
    parts = fixed_parts(rows, z.size)
    losses = np.zeros(parts)

    def some(part, a, b):
        i = slice(a * c, b * c)
        given, then = (z_flat[i], labels[a:b]), (float(focus), total, dz_flat[i], b - a, c)
        if narrow:
            losses[part] = run_narrow_focal(*given, sw[a:b], *then)
        else:
            losses[part] = run_focal(*given, dense[i], sw[a:b], m[i], *then)

    share_parts(some, rows, parts)
    return rounded(losses, real), dz


def sigmoid_focal(z, target, sample_weight=None, mask=None, *, focus=2.0):
    """One read of z and target, one write of dz; powers of probabilities as exponentials of their logarithms."""
    return elementwise(BINARY_FOCAL, z, target, sample_weight, None, mask, float(focus), name="sigmoid_focal")


def hinge(y, target, sample_weight=None, mask=None):
    """One read of y and target, one write of dy."""
    return elementwise(HINGE, y, target, sample_weight, None, mask, 0.0, name="hinge")
