"""The softmax cross-entropy of rows, with its gradient, in one pass: all weights, masks and smoothing inside."""

import math
from functools import cache

import numpy as np

from mlpx_kernels.cpu.loops.narrow_rows import COLUMNS, SIDE, exponentials, scale, write_rows
from mlpx_kernels.cpu.loops.reductions import row_max
from mlpx_kernels.cpu.lowlevel.compile import inlined, kernel
from mlpx_kernels.cpu.lowlevel.mathematics import exp
from mlpx_kernels.cpu.lowlevel.memory import alloc_scratch, free_scratch

CROSS_ENTROPY = 0
"""Code of the cross-entropy in plans; those of the element-wise losses are in element_loss.py."""


@inlined
def row_weight(r, c, sample_weight, class_weight, mask, labels, dense):
    """Return (weight in the gradient, share of the normaliser) of row ``r``; 0 for rows that allow nothing."""
    w = 1.0 if sample_weight.size == 0 else np.float64(sample_weight[r])
    if mask.size:
        m = mask[r * c : (r + 1) * c]
        allowed = False
        for j in range(c):
            allowed |= m[j]
        if not allowed:
            return 0.0, 0.0
    if class_weight.size == 0 or w <= 0.0:
        return w, w
    if labels.size:
        return w, w * class_weight[labels[r]]
    t = dense[r * c : (r + 1) * c]
    s = 0.0
    for j in range(c):
        s += np.float64(t[j]) * class_weight[j]
    return w, w * s


@inlined
def total_weight(rows, c, sample_weight, class_weight, mask, labels, dense):
    """Return the normaliser R of all rows."""
    if sample_weight.size == 0 and class_weight.size == 0 and mask.size == 0:
        return np.float64(rows)
    total = 0.0
    for r in range(rows):
        total += row_weight(r, c, sample_weight, class_weight, mask, labels, dense)[1]
    return total


@inlined
def copy_allowed(a, mask, r, d):
    """Copy the logits of row ``r`` to ``d``, forbidden ones as -inf; return how many are allowed (no mask: all)."""
    c, lowest = d.size, d.dtype.type(-np.inf)
    if mask.size == 0:
        for j in range(c):
            d[j] = a[j]
        return c
    allowed, m = 0, mask[r * c : (r + 1) * c]
    for j in range(c):
        v = a[j]  # read first, then chosen: a load behind a condition would keep the loop scalar
        d[j] = v if m[j] else lowest
        allowed += 1 if m[j] else 0
    return allowed


@inlined
def clear_forbidden(mask, r, d):
    """Write 0 to the forbidden places of row ``r``."""
    if mask.size:
        m = mask[r * d.size : (r + 1) * d.size]
        for j in range(d.size):
            v = d[j]
            d[j] = v if m[j] else d.dtype.type(0.0)


def _plain_cross_entropy_rows(narrow):
    """Return ``run(z, labels, sample_weight, total, dz, rows, c, ceiling)``, for rows up to `NARROW` or for wider ones.

    It writes the gradient for class numbers without class weights, smoothing or mask, and returns the share of the
    loss: the common case, one exponential and one multiplication an element. ``sample_weight`` has size 0 where not
    given; ``total`` is the normaliser over all rows of the batch. Narrow rows are taken side by side.

    ``ceiling`` is the most that a row's loss may be: infinite, or -log eps for the loss (not the gradient) of
    probabilities that were clipped to [eps, 1 - eps], which is what scikit-learn reports.
    """
    step = SIDE if narrow else 1

    @inlined
    def run(z, labels, sample_weight, total, dz, rows, c, ceiling):
        real = z.dtype.type
        certain, least = ceiling, 1.0
        if ceiling < np.inf:
            certain, least = ceiling - math.log(c), 1.0 + math.exp(-ceiling)
        inverse_total = 1.0 / total if total > 0.0 else 1.0
        weighted = sample_weight.size > 0
        loss, product = 0.0, 1.0
        scratch = alloc_scratch((COLUMNS if narrow else c) + 3 * step, real)
        top, partition, factor = scratch[:step], scratch[step : 2 * step], scratch[2 * step : 3 * step]
        columns = scratch[3 * step :]
        for start in range(0, rows, step):
            n = min(step, rows - start)
            block, gradient = z[start * c : (start + n) * c], dz[start * c : (start + n) * c]
            if narrow:
                exponentials(block, columns, top, partition, n, c)
            else:
                highest, all_ = row_max(block), real(0.0)
                for j in range(c):
                    e = exp(block[j] - highest)
                    columns[j] = e
                    all_ += e
                top[0], partition[0] = highest, all_
            for r in range(n):
                w = np.float64(sample_weight[start + r]) if weighted else 1.0
                factor[r] = real(w * inverse_total) / partition[r]
            if narrow:
                scale(columns, factor, n, c)
            else:
                for j in range(c):
                    gradient[j] = columns[j] * factor[0]
            shares = columns if narrow else gradient  # number j of row r is at j * step + r
            for r in range(n):
                i = start + r
                w = np.float64(sample_weight[i]) if weighted else 1.0
                if w <= 0.0:
                    for j in range(c):
                        shares[j * step + r] = 0.0
                    continue
                shares[labels[i] * step + r] -= real(w * inverse_total)
                gap, summed = np.float64(top[r]) - np.float64(block[r * c + labels[i]]), np.float64(partition[r])
                summed = least if summed < least else summed
                if weighted or not gap <= certain:
                    each = gap + math.log(summed)
                    loss += w * (ceiling if each > ceiling else each)
                    continue
                loss += gap
                product *= summed  # one logarithm for many rows, taken before it can overflow
                if product > 1e200:
                    loss += math.log(product)
                    product = 1.0
            if narrow:
                write_rows(columns, gradient, n, c)
        free_scratch(scratch)
        return (loss + math.log(product)) * inverse_total

    return run


narrow_cross_entropy_rows, wide_cross_entropy_rows = (_plain_cross_entropy_rows(narrow) for narrow in (True, False))


@inlined
def cross_entropy_rows(z, labels, dense, sample_weight, class_weight, mask, smoothing, total, dz, rows, c):
    """Write the gradient of the softmax cross-entropy for a flat block of rows; return its share of the loss.

    ``labels`` (rows,) or ``dense`` (rows * c) holds the targets; the other one, and weights and masks that are not
    given, have size 0. ``total`` is the normaliser over all rows of the batch.
    """
    real = z.dtype.type
    zero = real(0.0)
    inverse_total = 1.0 / total if total > 0.0 else 1.0
    loss = 0.0
    for r in range(rows):
        a, d = z[r * c : (r + 1) * c], dz[r * c : (r + 1) * c]
        w, _ = row_weight(r, c, sample_weight, class_weight, mask, labels, dense)
        if w <= 0.0:
            for j in range(c):
                d[j] = zero
            continue
        allowed = copy_allowed(a, mask, r, d)
        top = row_max(d)
        q_sum, nll = 0.0, 0.0
        for j in range(c):
            d[j] = d[j] - top
            q = target_of(r, j, c, labels, dense, class_weight, mask, smoothing, allowed)
            q_sum += q
            nll -= q * np.float64(d[j]) if q != 0.0 else 0.0
        partition = zero
        for j in range(c):
            d[j] = exp(d[j])
            partition += d[j]
        loss += w * (nll + q_sum * math.log(np.float64(partition)))
        share, wide = w * inverse_total, q_sum / np.float64(partition)
        for j in range(c):
            q = target_of(r, j, c, labels, dense, class_weight, mask, smoothing, allowed)
            d[j] = real(share * (np.float64(d[j]) * wide - q))
        clear_forbidden(mask, r, d)
    return loss * inverse_total


@inlined
def target_of(i, j, c, labels, dense, class_weight, mask, smoothing, allowed):
    """Return q_ij: the smoothed, weighted target of row i and class j."""
    t = np.float64(labels[i] == j) if labels.size else np.float64(dense[i * c + j])
    if smoothing != 0.0:
        t *= 1.0 - smoothing
        if mask.size == 0 or mask[i * c + j]:
            t += smoothing / allowed
    return t if class_weight.size == 0 else t * np.float64(class_weight[j])


@cache
def plain_cross_entropy_loop(narrow):
    """Return the compiled entry point of the losses of narrow or of wide rows; the other one is not compiled."""

    @kernel
    def run(z, labels, sample_weight, total, dz, rows, c):
        if narrow:
            return narrow_cross_entropy_rows(z, labels, sample_weight, total, dz, rows, c, np.inf)
        return wide_cross_entropy_rows(z, labels, sample_weight, total, dz, rows, c, np.inf)

    return run


@kernel
def run_cross_entropy(z, labels, dense, sample_weight, class_weight, mask, smoothing, total, dz, rows, c):
    """Compiled entry point of `cross_entropy_rows`."""
    return cross_entropy_rows(z, labels, dense, sample_weight, class_weight, mask, smoothing, total, dz, rows, c)


@kernel
def run_total(rows, c, sample_weight, class_weight, mask, labels, dense):
    """Compiled entry point of `total_weight`."""
    return total_weight(rows, c, sample_weight, class_weight, mask, labels, dense)
