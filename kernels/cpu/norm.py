"""Layer and batch normalisation: statistics and result while the rows are in cache."""

import math

import numpy as np

from mlpx_kernels.cpu.activation import real_array
from mlpx_kernels.cpu.compile import inlined, kernel


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


@inlined
def batch_statistics(x, mean, var, rows, f):
    """Write each feature's mean and variance (over n) of the flat block ``x`` (rows * f)."""
    inverse_n = x.dtype.type(1.0 / max(rows, 1))
    for j in range(f):
        mean[j] = 0.0
        var[j] = 0.0
    for r in range(rows):
        a = x[r * f : (r + 1) * f]
        for j in range(f):
            mean[j] += a[j]
    for j in range(f):
        mean[j] *= inverse_n
    for r in range(rows):
        a = x[r * f : (r + 1) * f]
        for j in range(f):
            d = a[j] - mean[j]
            var[j] += d * d
    for j in range(f):
        var[j] *= inverse_n


@inlined
def batch_normalise(x, gamma, beta, mean, var, eps, y, rows, f):
    """Write ``y = gamma (x - mean) / sqrt(var + eps) + beta`` with given statistics."""
    e = x.dtype.type(eps)
    for r in range(rows):
        a, b = x[r * f : (r + 1) * f], y[r * f : (r + 1) * f]
        for j in range(f):
            b[j] = (a[j] - mean[j]) * (gamma[j] / math.sqrt(var[j] + e)) + beta[j]


@inlined
def batch_gain_grad(dy, x, mean, var, eps, dgamma, dbeta, rows, f):
    """Write ``dgamma = sum dy h`` and ``dbeta = sum dy``."""
    real = x.dtype.type
    e = real(eps)
    for j in range(f):
        dgamma[j] = 0.0
        dbeta[j] = 0.0
    for r in range(rows):
        d, a = dy[r * f : (r + 1) * f], x[r * f : (r + 1) * f]
        for j in range(f):
            dgamma[j] += d[j] * ((a[j] - mean[j]) * (real(1.0) / math.sqrt(var[j] + e)))
            dbeta[j] += d[j]


@inlined
def batch_norm_dx(dy, x, gamma, mean, var, eps, dgamma, dbeta, dx, rows, f):
    """Write ``dx = gamma / sqrt(var + eps) (dy - (dbeta + h dgamma) / n)``; ``dx`` may be ``dy``."""
    real = x.dtype.type
    e, inverse_n = real(eps), real(1.0 / max(rows, 1))
    for r in range(rows):
        d, a, out = dy[r * f : (r + 1) * f], x[r * f : (r + 1) * f], dx[r * f : (r + 1) * f]
        for j in range(f):
            inverse = real(1.0) / math.sqrt(var[j] + e)
            h = (a[j] - mean[j]) * inverse
            out[j] = gamma[j] * inverse * (d[j] - (dbeta[j] + h * dgamma[j]) * inverse_n)


@kernel
def run_layer_norm(x, gamma, beta, eps, y, mean, var, rows, f):
    """Compiled entry point of `layer_norm_rows`."""
    layer_norm_rows(x, gamma, beta, eps, y, mean, var, rows, f)


@kernel
def run_layer_norm_grad(dy, x, gamma, mean, var, eps, dx, dgamma, dbeta, rows, f):
    """Compiled entry point of both gradients of the layer norm."""
    layer_norm_grad_rows(dy, x, gamma, mean, var, eps, dx, rows, f)
    layer_norm_gain_grad(dy, x, mean, var, eps, dgamma, dbeta, rows, f)


@kernel
def run_batch_norm(x, gamma, beta, eps, y, mean, var, rows, f):
    """Compiled entry point: statistics, then the normalised batch."""
    batch_statistics(x, mean, var, rows, f)
    batch_normalise(x, gamma, beta, mean, var, eps, y, rows, f)


@kernel
def run_batch_norm_grad(dy, x, gamma, mean, var, eps, dx, dgamma, dbeta, rows, f):
    """Compiled entry point of both gradients of the batch norm."""
    batch_gain_grad(dy, x, mean, var, eps, dgamma, dbeta, rows, f)
    batch_norm_dx(dy, x, gamma, mean, var, eps, dgamma, dbeta, dx, rows, f)


def _flat(*arrays, name):
    return [real_array(a, name=name).reshape(-1) for a in arrays]


def layer_norm(x, gamma, beta, *, eps):
    """Three passes over a row that is in cache after the first."""
    shape, f = x.shape, x.shape[-1]
    x, gamma, beta = _flat(x, gamma, beta, name="layer_norm")
    rows = x.size // f if f else 0
    y, stats = np.empty_like(x), np.empty((2, rows), x.dtype)
    run_layer_norm(x, gamma, beta, eps, y, stats[0], stats[1], rows, f)
    lead = (*shape[:-1], 1)
    return y.reshape(shape), stats[0].reshape(lead), stats[1].reshape(lead)


def layer_norm_grad(dy, x, gamma, mean, var, *, eps):
    """Two passes over each row for dx, one over the batch for dgamma and dbeta."""
    shape, f = x.shape, x.shape[-1]
    dy, x, gamma, mean, var = _flat(dy, x, gamma, mean, var, name="layer_norm_grad")
    dx, dgamma, dbeta = np.empty_like(x), np.empty_like(gamma), np.empty_like(gamma)
    run_layer_norm_grad(dy, x, gamma, mean, var, eps, dx, dgamma, dbeta, x.size // f if f else 0, f)
    return dx.reshape(shape), dgamma, dbeta


def batch_norm(x, gamma, beta, *, eps):
    """Two passes for the statistics, which keeps their digits, one for the result."""
    shape, f = x.shape, x.shape[-1]
    x, gamma, beta = _flat(x, gamma, beta, name="batch_norm")
    y, mean, var = np.empty_like(x), np.empty_like(gamma), np.empty_like(gamma)
    run_batch_norm(x, gamma, beta, eps, y, mean, var, x.size // f if f else 0, f)
    return y.reshape(shape), mean, var


def batch_norm_grad(dy, x, gamma, mean, var, *, eps):
    """One pass for dgamma and dbeta, one for dx."""
    shape, f = x.shape, x.shape[-1]
    dy, x, gamma, mean, var = _flat(dy, x, gamma, mean, var, name="batch_norm_grad")
    dx, dgamma, dbeta = np.empty_like(x), np.empty_like(gamma), np.empty_like(gamma)
    run_batch_norm_grad(dy, x, gamma, mean, var, eps, dx, dgamma, dbeta, x.size // f if f else 0, f)
    return dx.reshape(shape), dgamma, dbeta
