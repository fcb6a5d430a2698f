"""Layer normalisation: statistics, result and gradients of a row while it is in the first-level cache."""

import math

from mlpx_kernels.cpu.lowlevel.compile import inlined, kernel


@inlined
def layer_norm_rows(x, gamma, beta, eps, y, mean, var, rows, f):
    """Write each row's normalised form to ``y`` and its statistics to ``mean``, ``var`` (rows,)."""
    real = x.dtype.type
    inverse_f, e = real(1.0 / f), real(eps)
    for r in range(rows):
        a, b = x[r * f : (r + 1) * f], y[r * f : (r + 1) * f]
        total = real(0.0)
        for j in range(f):
            total += a[j]
        m = total * inverse_f
        square = real(0.0)
        for j in range(f):
            d = a[j] - m
            square += d * d
        v = square * inverse_f
        inverse = real(1.0) / math.sqrt(v + e)
        for j in range(f):
            b[j] = (a[j] - m) * inverse * gamma[j] + beta[j]
        mean[r], var[r] = m, v


@inlined
def layer_norm_grad_rows(dy, x, gamma, mean, var, eps, dx, rows, f):
    """Write ``dx`` for each row; `layer_norm_gain_grad` does dgamma and dbeta. ``dx`` may be ``dy``."""
    real = x.dtype.type
    inverse_f, e = real(1.0 / f), real(eps)
    for r in range(rows):
        d, a, out = dy[r * f : (r + 1) * f], x[r * f : (r + 1) * f], dx[r * f : (r + 1) * f]
        m, inverse = mean[r], real(1.0) / math.sqrt(var[r] + e)
        g_sum, gh_sum = real(0.0), real(0.0)
        for j in range(f):
            g = d[j] * gamma[j]
            out[j] = g  # stored, so that a row of one feature cancels exactly below
            g_sum += g
            gh_sum += g * ((a[j] - m) * inverse)
        g_mean, gh_mean = g_sum * inverse_f, gh_sum * inverse_f
        for j in range(f):
            h = (a[j] - m) * inverse
            out[j] = (out[j] - g_mean - h * gh_mean) * inverse


@inlined
def layer_norm_gain_grad(dy, x, mean, var, eps, dgamma, dbeta, rows, f):
    """Write ``dgamma = sum dy h`` and ``dbeta = sum dy`` over the rows."""
    real = x.dtype.type
    e = real(eps)
    for j in range(f):
        dgamma[j] = 0.0
        dbeta[j] = 0.0
    for r in range(rows):
        d, a = dy[r * f : (r + 1) * f], x[r * f : (r + 1) * f]
        m, inverse = mean[r], real(1.0) / math.sqrt(var[r] + e)
        for j in range(f):
            dgamma[j] += d[j] * ((a[j] - m) * inverse)
            dbeta[j] += d[j]


@kernel
def run_layer_norm(x, gamma, beta, eps, y, mean, var, rows, f):
    """Compiled entry point of `layer_norm_rows`."""
    layer_norm_rows(x, gamma, beta, eps, y, mean, var, rows, f)


@kernel
def run_layer_norm_grad(dy, x, gamma, mean, var, eps, dx, dgamma, dbeta, rows, f):
    """Compiled entry point of both gradients of the layer norm."""
    layer_norm_grad_rows(dy, x, gamma, mean, var, eps, dx, rows, f)
    layer_norm_gain_grad(dy, x, mean, var, eps, dgamma, dbeta, rows, f)
