"""Losses with their gradients in one pass: all weights, masks and smoothing inside."""

import math

import numpy as np
from mlpx_kernels.cpu.activation import real_array
from mlpx_kernels.cpu.compile import inlined, kernel
from mlpx_kernels.cpu.mathematics import exp, sigmoid, softplus
from mlpx_kernels.cpu.softmax import row_max, rows_per_block
from mlpx_kernels.cpu.threads import share_rows

CROSS_ENTROPY, BINARY, SQUARED, ABSOLUTE, HUBER, QUANTILE, POISSON = range(7)


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
def cross_entropy_rows(z, labels, dense, sample_weight, class_weight, mask, smoothing, total, dz, rows, c):
    """Write the gradient of the softmax cross-entropy for a flat block of rows; return its share of the loss.

    ``labels`` (rows,) or ``dense`` (rows * c) holds the targets; the other one, and weights and masks that are not
    given, have size 0. ``total`` is the normaliser over all rows of the batch.
    """
    real = z.dtype.type
    zero = real(0.0)
    inverse_total = 1.0 / total if total > 0.0 else 1.0
    loss = 0.0
    step = rows_per_block(c)
    for start in range(0, rows, step):
        n = min(step, rows - start)
        zs, ds = z[start * c : (start + n) * c], dz[start * c : (start + n) * c]
        for r in range(n):
            a, d = zs[r * c : (r + 1) * c], ds[r * c : (r + 1) * c]
            if mask.size:
                m = mask[(start + r) * c : (start + r + 1) * c]
                for j in range(c):
                    d[j] = a[j] if m[j] else real(-np.inf)
                top = row_max(d)
            else:
                top = row_max(a)
                for j in range(c):
                    d[j] = a[j]
            for j in range(c):
                d[j] = d[j] - top
        # The logits, shifted, stand in dz; the loss needs them before the exponential overwrites them.
        for r in range(n):
            i = start + r
            d = ds[r * c : (r + 1) * c]
            w, _ = row_weight(i, c, sample_weight, class_weight, mask, labels, dense)
            if w <= 0.0:
                for j in range(c):
                    d[j] = zero
                continue
            if labels.size and class_weight.size == 0 and smoothing == 0.0:
                loss -= w * inverse_total * np.float64(d[labels[i]])
                continue
            allowed = c
            if mask.size:
                m = mask[i * c : (i + 1) * c]
                allowed = 0
                for j in range(c):
                    allowed += m[j]
            for j in range(c):
                q = target_of(i, j, c, labels, dense, class_weight, mask, smoothing, allowed)
                if q != 0.0:
                    loss -= w * inverse_total * q * np.float64(d[j])
        for k in range(n * c):
            ds[k] = exp(ds[k])
        for r in range(n):
            i = start + r
            d = ds[r * c : (r + 1) * c]
            w, _ = row_weight(i, c, sample_weight, class_weight, mask, labels, dense)
            if w <= 0.0:
                for j in range(c):
                    d[j] = zero
                continue
            partition = zero
            for j in range(c):
                partition += d[j]
            share = real(w * inverse_total)
            if labels.size and class_weight.size == 0 and smoothing == 0.0:
                loss += w * inverse_total * math.log(np.float64(partition))
                factor = share / partition
                for j in range(c):
                    d[j] *= factor
                if mask.size == 0 or mask[i * c + labels[i]]:
                    d[labels[i]] -= share
                continue
            allowed = c
            if mask.size:
                m = mask[i * c : (i + 1) * c]
                allowed = 0
                for j in range(c):
                    allowed += m[j]
            q_sum = 0.0
            for j in range(c):
                q_sum += target_of(i, j, c, labels, dense, class_weight, mask, smoothing, allowed)
            loss += w * inverse_total * q_sum * math.log(np.float64(partition))
            wide = q_sum / np.float64(partition)
            for j in range(c):
                q = target_of(i, j, c, labels, dense, class_weight, mask, smoothing, allowed)
                d[j] = real(w * inverse_total * (np.float64(d[j]) * wide - q))
            if mask.size:
                m = mask[i * c : (i + 1) * c]
                for j in range(c):
                    d[j] = d[j] if m[j] else zero
    return loss


@inlined
def target_of(i, j, c, labels, dense, class_weight, mask, smoothing, allowed):
    """Return q_ij: the smoothed, weighted target of row i and class j."""
    t = np.float64(labels[i] == j) if labels.size else np.float64(dense[i * c + j])
    if smoothing != 0.0:
        t *= 1.0 - smoothing
        if mask.size == 0 or mask[i * c + j]:
            t += smoothing / allowed
    return t if class_weight.size == 0 else t * np.float64(class_weight[j])


@inlined
def elementwise_rows(kind, z, t, sample_weight, column, mask, option, total, dz, rows, c):
    """Write the gradient of an element-wise loss for a flat block of rows; return its share of the loss.

    ``column`` (c,) holds positive weights (BINARY) or quantile levels (QUANTILE), or has size 0; ``option`` is the
    label smoothing (BINARY) or Huber's delta. Rows of weight 0 and masked elements give 0 whatever they hold.
    """
    real = z.dtype.type
    zero, one, half = real(0.0), real(1.0), real(0.5)
    inverse_total = 1.0 / total if total > 0.0 else 1.0
    loss = 0.0
    o = real(option)
    for r in range(rows):
        w = 1.0 if sample_weight.size == 0 else np.float64(sample_weight[r])
        share = real(w * inverse_total)
        a, b, d = z[r * c : (r + 1) * c], t[r * c : (r + 1) * c], dz[r * c : (r + 1) * c]
        if w <= 0.0:
            for j in range(c):
                d[j] = zero
            continue
        each = zero
        for j in range(c):
            if mask.size and not mask[r * c + j]:
                d[j] = zero
                continue
            if kind == SQUARED:
                e = a[j] - b[j]
                each += half * e * e
                d[j] = share * e
            elif kind == BINARY:
                y = b[j] * (one - o) + half * o if o != zero else b[j]
                p = y * column[j] if column.size else y
                v = zero
                if p != zero:
                    v += p * softplus(-a[j])
                if y != one:
                    v += (one - y) * softplus(a[j])
                each += v
                d[j] = share * (sigmoid(a[j]) * (p + one - y) - p)
            elif kind == ABSOLUTE:
                e = a[j] - b[j]
                each += abs(e)
                d[j] = share * (one if e > zero else (-one if e < zero else e))
            elif kind == HUBER:
                e = a[j] - b[j]
                near = -o if e < -o else (o if e > o else e)
                each += near * (e - half * near)
                d[j] = share * near
            elif kind == QUANTILE:
                e = b[j] - a[j]
                q = column[j] if column.size > 1 else column[0]
                each += q * e if e > zero else (q - one) * e
                d[j] = share * (-q if e > zero else (one - q if e < zero else e))
            else:
                rate = exp(a[j])
                each += rate - b[j] * a[j]
                d[j] = share * (rate - b[j])
        loss += np.float64(share) * np.float64(each)
    return loss


@kernel
def run_cross_entropy(z, labels, dense, sample_weight, class_weight, mask, smoothing, total, dz, rows, c):
    """Compiled entry point of `cross_entropy_rows`."""
    return cross_entropy_rows(z, labels, dense, sample_weight, class_weight, mask, smoothing, total, dz, rows, c)


@kernel
def run_elementwise(kind, z, t, sample_weight, column, mask, option, total, dz, rows, c):
    """Compiled entry point of `elementwise_rows`."""
    return elementwise_rows(kind, z, t, sample_weight, column, mask, option, total, dz, rows, c)


@kernel
def run_total(rows, c, sample_weight, class_weight, mask, labels, dense):
    """Compiled entry point of `total_weight`."""
    return total_weight(rows, c, sample_weight, class_weight, mask, labels, dense)


NO_LABELS = np.empty(0, np.int64)
NO_MASK = np.empty(0, np.bool_)


def flat(x, dtype):
    """Return an optional array flat and contiguous in ``dtype``; None becomes an array of size 0."""
    return np.empty(0, dtype) if x is None else np.ascontiguousarray(x, dtype).reshape(-1)


def softmax_cross_entropy(z, target, sample_weight=None, class_weight=None, mask=None, *, label_smoothing=0.0):
    """One read of z, one write of dz; the loss is summed in float64.

    Without class weights and smoothing the gradient costs one exponential and two multiplications an element.
    """
    z = real_array(z, name="softmax_cross_entropy")
    c = z.shape[-1]
    rows = z.size // c
    real = z.dtype
    integers = target.dtype.kind in "iu"
    labels = flat(target, np.int64) if integers else NO_LABELS
    if integers and rows and (labels.min() < 0 or labels.max() >= c):
        raise ValueError(
            f"softmax_cross_entropy: target holds class numbers from {labels.min()} to {labels.max()}; expected 0 to "
            f"{c - 1} for z with {c} classes."
        )
    dense = flat(None if integers else target, real)
    sw, cw = flat(sample_weight, real), flat(class_weight, real)
    m = NO_MASK if mask is None else flat(mask, np.bool_)
    dz = np.empty(z.shape, real)
    z_flat, dz_flat = z.reshape(-1), dz.reshape(-1)
    total = run_total(rows, c, sw, cw, m, labels, dense)
    losses = {}

    def some(a, b):
        losses[a] = run_cross_entropy(
            z_flat[a * c : b * c],
            labels[a:b],
            dense[a * c : b * c],
            sw[a:b],
            cw,
            m[a * c : b * c],
            label_smoothing,
            total,
            dz_flat[a * c : b * c],
            b - a,
            c,
        )

    share_rows(some, rows, z.size)
    return real.type(math.fsum(losses.values())), dz


def sigmoid_cross_entropy(z, target, sample_weight=None, pos_weight=None, mask=None, *, label_smoothing=0.0):
    """One read of z and target, one write of dz; row losses in the dtype of z, their sum in float64."""
    z = real_array(z, name="sigmoid_cross_entropy")
    c = z.shape[-1]
    rows = z.size // c if c else 0
    real = z.dtype
    t, sw, pw = flat(target, real), flat(sample_weight, real), flat(pos_weight, real)
    m = NO_MASK if mask is None else flat(mask, np.bool_)
    dz = np.empty(z.shape, real)
    total = float(rows) if sample_weight is None else float(sw.sum(dtype=np.float64))
    loss = run_elementwise(BINARY, z.reshape(-1), t, sw, pw, m, label_smoothing, total, dz.reshape(-1), rows, c)
    return real.type(loss), dz
