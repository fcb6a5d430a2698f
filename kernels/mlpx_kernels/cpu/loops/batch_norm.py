"""Batch normalisation: statistics of blocks of rows that are in cache, merged; scales per feature worked out once."""

import math

from mlpx_kernels.cpu.activation import sum_rows
from mlpx_kernels.cpu.lowlevel.compile import inlined, kernel
from mlpx_kernels.cpu.lowlevel.memory import alloc_scratch, free_scratch

BLOCK = 4096
"""Elements of a block of rows: the second look at it, for the squares, finds it in the first-level cache."""


@inlined
def squared_deviations(x, mean, out, rows, f):
    """Write the sums over rows of ``(x - mean)^2`` to ``out`` (f,)."""
    for j in range(f):
        out[j] = 0.0
    r = 0
    while r + 4 <= rows:
        a, b = x[r * f : (r + 1) * f], x[(r + 1) * f : (r + 2) * f]
        c, d = x[(r + 2) * f : (r + 3) * f], x[(r + 3) * f : (r + 4) * f]
        for j in range(f):
            s, t, u, v = a[j] - mean[j], b[j] - mean[j], c[j] - mean[j], d[j] - mean[j]
            out[j] += (s * s + t * t) + (u * u + v * v)
        r += 4
    while r < rows:
        a = x[r * f : (r + 1) * f]
        for j in range(f):
            s = a[j] - mean[j]
            out[j] += s * s
        r += 1


@inlined
def merge(total, square, rows, other_total, other_square, other_rows):
    """Add a block's sums and squared deviations to those of the rows before it (Chan et al. 1983, equation 2.1)."""
    real = total.dtype.type
    inverse, other_inverse = real(1.0 / max(rows, 1)), real(1.0 / max(other_rows, 1))
    weight = real(rows * other_rows / max(rows + other_rows, 1))
    for j in range(total.size):
        d = other_total[j] * other_inverse - total[j] * inverse
        square[j] += other_square[j] + d * d * weight
        total[j] += other_total[j]


@inlined
def sums_and_squares(x, total, square, rows, f):
    """Write each feature's sum over the rows of ``x`` (rows * f), and its squared deviations from their mean."""
    real = x.dtype.type
    for j in range(f):
        total[j] = 0.0
        square[j] = 0.0
    scratch = alloc_scratch(3 * f, real)
    t, m, s = scratch[:f], scratch[f : 2 * f], scratch[2 * f :]
    step = max(8, BLOCK // max(f, 1) // 4 * 4)
    for start in range(0, rows, step):
        n = min(step, rows - start)
        block, inverse = x[start * f : (start + n) * f], real(1.0 / n)
        sum_rows(block, t, n, f)
        for j in range(f):
            m[j] = t[j] * inverse
        squared_deviations(block, m, s, n, f)
        merge(total, square, start, t, s, n)
    free_scratch(scratch)


@inlined
def batch_statistics(x, mean, var, rows, f):
    """Write each feature's mean and variance (over n) of the flat block ``x`` (rows * f)."""
    inverse_n = x.dtype.type(1.0 / max(rows, 1))
    sums_and_squares(x, mean, var, rows, f)
    for j in range(f):
        mean[j] *= inverse_n
        var[j] *= inverse_n


@inlined
def batch_normalise(x, gamma, beta, mean, var, eps, y, rows, f):
    """Write ``y = gamma (x - mean) / sqrt(var + eps) + beta`` with given statistics."""
    e, scale = x.dtype.type(eps), alloc_scratch(f, x.dtype.type)
    for j in range(f):
        scale[j] = gamma[j] / math.sqrt(var[j] + e)
    for r in range(rows):
        a, b = x[r * f : (r + 1) * f], y[r * f : (r + 1) * f]
        for j in range(f):
            b[j] = (a[j] - mean[j]) * scale[j] + beta[j]
    free_scratch(scale)


@inlined
def batch_gain_grad(dy, x, mean, var, eps, dgamma, dbeta, rows, f):
    """Write ``dgamma = sum dy h`` and ``dbeta = sum dy``."""
    e = x.dtype.type(eps)
    for j in range(f):
        dgamma[j] = 0.0
        dbeta[j] = 0.0
    r = 0
    while r + 2 <= rows:
        d0, d1 = dy[r * f : (r + 1) * f], dy[(r + 1) * f : (r + 2) * f]
        a0, a1 = x[r * f : (r + 1) * f], x[(r + 1) * f : (r + 2) * f]
        for j in range(f):
            dbeta[j] += d0[j] + d1[j]
        for j in range(f):
            dgamma[j] += d0[j] * (a0[j] - mean[j]) + d1[j] * (a1[j] - mean[j])
        r += 2
    if r < rows:
        d0, a0 = dy[r * f : (r + 1) * f], x[r * f : (r + 1) * f]
        for j in range(f):
            dbeta[j] += d0[j]
        for j in range(f):
            dgamma[j] += d0[j] * (a0[j] - mean[j])
    for j in range(f):
        dgamma[j] /= math.sqrt(var[j] + e)


@inlined
def batch_norm_dx(dy, x, gamma, mean, var, eps, dgamma, dbeta, dx, rows, f, all_rows):
    """Write ``dx = gamma / sqrt(var + eps) (dy - (dbeta + h dgamma) / all_rows)``; ``dx`` may be ``dy``."""
    real = x.dtype.type
    e, inverse_n = real(eps), real(1.0 / max(all_rows, 1))
    scratch = alloc_scratch(3 * f, real)
    scale, shift, slope = scratch[:f], scratch[f : 2 * f], scratch[2 * f :]
    for j in range(f):
        inverse = real(1.0) / math.sqrt(var[j] + e)
        scale[j] = gamma[j] * inverse
        shift[j] = dbeta[j] * inverse_n
        slope[j] = inverse * dgamma[j] * inverse_n
    for r in range(rows):
        d, a, out = dy[r * f : (r + 1) * f], x[r * f : (r + 1) * f], dx[r * f : (r + 1) * f]
        for j in range(f):
            out[j] = scale[j] * (d[j] - shift[j] - (a[j] - mean[j]) * slope[j])
    free_scratch(scratch)


@inlined
def scale_rows(dy, gamma, var, eps, dx, rows, f):
    """Write ``dx = dy gamma / sqrt(var + eps)``."""
    e, scale = dy.dtype.type(eps), alloc_scratch(f, dy.dtype.type)
    for j in range(f):
        scale[j] = gamma[j] / math.sqrt(var[j] + e)
    for r in range(rows):
        d, out = dy[r * f : (r + 1) * f], dx[r * f : (r + 1) * f]
        for j in range(f):
            out[j] = d[j] * scale[j]
    free_scratch(scale)


@kernel
def run_batch_norm(x, gamma, beta, eps, y, mean, var, rows, f):
    """Compiled entry point for one part: statistics, then the normalised batch."""
    batch_statistics(x, mean, var, rows, f)
    batch_normalise(x, gamma, beta, mean, var, eps, y, rows, f)


@kernel
def run_batch_norm_grad(dy, x, gamma, mean, var, eps, dx, dgamma, dbeta, rows, f):
    """Compiled entry point of both gradients for one part."""
    batch_gain_grad(dy, x, mean, var, eps, dgamma, dbeta, rows, f)
    batch_norm_dx(dy, x, gamma, mean, var, eps, dgamma, dbeta, dx, rows, f, rows)


@kernel
def run_sums(x, total, square, rows, f):
    """Compiled entry point of `sums_and_squares`."""
    sums_and_squares(x, total, square, rows, f)


@kernel
def run_statistics(totals, squares, mean, var, rows, f):
    """Merge the parts' sums (parts * f) in order, and write mean and variance of all rows."""
    parts = totals.size // max(f, 1)
    for j in range(f):
        mean[j] = 0.0
        var[j] = 0.0
    for k in range(parts):
        first, last = rows * k // parts, rows * (k + 1) // parts
        merge(mean, var, first, totals[k * f : (k + 1) * f], squares[k * f : (k + 1) * f], last - first)
    inverse_n = mean.dtype.type(1.0 / max(rows, 1))
    for j in range(f):
        mean[j] *= inverse_n
        var[j] *= inverse_n


@kernel
def run_normalise(x, gamma, beta, mean, var, eps, y, rows, f):
    """Compiled entry point of `batch_normalise`."""
    batch_normalise(x, gamma, beta, mean, var, eps, y, rows, f)


@kernel
def run_gain_grad(dy, x, mean, var, eps, dgamma, dbeta, rows, f):
    """Compiled entry point of `batch_gain_grad`."""
    batch_gain_grad(dy, x, mean, var, eps, dgamma, dbeta, rows, f)


@kernel
def run_dx(dy, x, gamma, mean, var, eps, dgamma, dbeta, dx, rows, f, all_rows):
    """Compiled entry point of `batch_norm_dx`."""
    batch_norm_dx(dy, x, gamma, mean, var, eps, dgamma, dbeta, dx, rows, f, all_rows)


@kernel
def run_scale(dy, gamma, var, eps, dx, rows, f):
    """Compiled entry point of `scale_rows`."""
    scale_rows(dy, gamma, var, eps, dx, rows, f)
