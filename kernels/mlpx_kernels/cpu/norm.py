"""Batch and layer normalisation: the kernels' entry points; their loops are in batch_norm.py and layer_norm.py."""

import numpy as np

from mlpx_kernels.cpu.loops.batch_norm import (
    run_batch_norm,
    run_batch_norm_grad,
    run_dx,
    run_gain_grad,
    run_normalise,
    run_scale,
    run_statistics,
    run_sums,
)
from mlpx_kernels.cpu.loops.layer_norm import run_layer_norm, run_layer_norm_grad
from mlpx_kernels.cpu.lowlevel.arrays import flat, real_array
from mlpx_kernels.cpu.threading.parallel_rows import fixed_parts, share_parts, share_rows


def _rows(x, features, *alike, rows=(), name):
    """Return the shape of ``x``, its rows and width, and arrays as compiled code takes them.

    ``x``, those ``alike``, those with a number per feature, and those with a number per row: flat, in this order.
    """
    x, shape, f = real_array(x, name=name), x.shape, x.shape[-1]
    n, real = x.size // f if f else 0, x.dtype
    others = [flat(a, x.size, real, name=name) for a in alike]
    others += [flat(a, f, real, name=name) for a in features]
    return shape, n, f, [x.reshape(-1), *others, *(flat(a, n, real, name=name) for a in rows)]


def layer_norm(x, gamma, beta, *, eps):
    """Three passes over a row that is in cache after the first."""
    shape, rows, f, (x, gamma, beta) = _rows(x, (gamma, beta), name="layer_norm")
    y, mean, var = np.empty_like(x), np.empty(rows, x.dtype), np.empty(rows, x.dtype)

    def some(a, b):
        run_layer_norm(x[a * f : b * f], gamma, beta, eps, y[a * f : b * f], mean[a:b], var[a:b], b - a, f)

    share_rows(some, rows, x.size // 2)
    lead = (*shape[:-1], 1)
    return y.reshape(shape), mean.reshape(lead), var.reshape(lead)


def layer_norm_grad(dy, x, gamma, mean, var, *, eps):
    """Two passes over each row for dx, one over the batch for dgamma and dbeta.

    Rows are cut into parts by the shape alone, and the parts' sums added in order: the number of threads changes
    nothing.
    """
    shape, rows, f, (x, dy, gamma, mean, var) = _rows(x, (gamma,), dy, rows=(mean, var), name="layer_norm_grad")
    parts = fixed_parts(rows, x.size // 2)
    dx, sums = np.empty_like(x), np.empty((parts, 2, f), x.dtype)
    if parts == 1:
        dgamma, dbeta = sums[0]
        run_layer_norm_grad(dy, x, gamma, mean, var, eps, dx, dgamma, dbeta, rows, f)
        return dx.reshape(shape), dgamma, dbeta

    def some(part, a, b):
        d, xs, out = dy[a * f : b * f], x[a * f : b * f], dx[a * f : b * f]
        run_layer_norm_grad(d, xs, gamma, mean[a:b], var[a:b], eps, out, *sums[part], b - a, f)

    share_parts(some, rows, parts)
    dgamma, dbeta = sums.sum(axis=0)
    return dx.reshape(shape), dgamma, dbeta


def _normalise(x, gamma, beta, mean, var, eps, rows, f):
    y = np.empty_like(x)

    def some(a, b):
        run_normalise(x[a * f : b * f], gamma, beta, mean, var, eps, y[a * f : b * f], b - a, f)

    share_rows(some, rows, x.size // 2)
    return y


def _gain_grad(dy, x, mean, var, eps, rows, f):
    """Return dgamma and dbeta: sums of parts that the shape alone cuts, added in order."""
    parts = fixed_parts(rows, x.size // 2)
    sums = np.empty((parts, 2, f), x.dtype)

    def some(part, a, b):
        run_gain_grad(dy[a * f : b * f], x[a * f : b * f], mean, var, eps, *sums[part], b - a, f)

    share_parts(some, rows, parts)
    return sums[0] if parts == 1 else sums.sum(axis=0)


def batch_norm(x, gamma, beta, *, eps):
    """Two reads of x, one write of y: squares are summed about the mean of a block that is in cache."""
    shape, rows, f, (x, gamma, beta) = _rows(x, (gamma, beta), name="batch_norm")
    parts = fixed_parts(rows, x.size // 2)
    mean, var = np.empty_like(gamma), np.empty_like(gamma)
    if parts == 1:
        y = np.empty_like(x)
        run_batch_norm(x, gamma, beta, eps, y, mean, var, rows, f)
        return y.reshape(shape), mean, var
    totals, squares = np.empty((2, parts * f), x.dtype)

    def some(part, a, b):
        here = slice(part * f, (part + 1) * f)
        run_sums(x[a * f : b * f], totals[here], squares[here], b - a, f)

    share_parts(some, rows, parts)
    run_statistics(totals, squares, mean, var, rows, f)
    return _normalise(x, gamma, beta, mean, var, eps, rows, f).reshape(shape), mean, var


def batch_norm_grad(dy, x, gamma, mean, var, *, eps):
    """One pass for dgamma and dbeta, one for dx."""
    shape, rows, f, (x, dy, gamma, mean, var) = _rows(x, (gamma, mean, var), dy, name="batch_norm_grad")
    dx = np.empty_like(x)
    if fixed_parts(rows, x.size // 2) == 1:
        dgamma, dbeta = np.empty_like(gamma), np.empty_like(gamma)
        run_batch_norm_grad(dy, x, gamma, mean, var, eps, dx, dgamma, dbeta, rows, f)
        return dx.reshape(shape), dgamma, dbeta
    dgamma, dbeta = _gain_grad(dy, x, mean, var, eps, rows, f)

    def some(a, b):
        here = slice(a * f, b * f)
        run_dx(dy[here], x[here], gamma, mean, var, eps, dgamma, dbeta, dx[here], b - a, f, rows)

    share_rows(some, rows, x.size // 2)
    return dx.reshape(shape), dgamma, dbeta


def batch_norm_inference(x, gamma, beta, mean, var, *, eps):
    """One read of x, one write of y."""
    shape, rows, f, (x, gamma, beta, mean, var) = _rows(x, (gamma, beta, mean, var), name="batch_norm_inference")
    return _normalise(x, gamma, beta, mean, var, eps, rows, f).reshape(shape)


def batch_norm_inference_grad(dy, x, gamma, mean, var, *, eps):
    """One pass for dgamma and dbeta, one for dx."""
    shape, rows, f, (x, dy, gamma, mean, var) = _rows(x, (gamma, mean, var), dy, name="batch_norm_inference_grad")
    dgamma, dbeta = _gain_grad(dy, x, mean, var, eps, rows, f)
    dx = np.empty_like(dy)

    def some(a, b):
        run_scale(dy[a * f : b * f], gamma, var, eps, dx[a * f : b * f], b - a, f)

    share_rows(some, rows, x.size // 2)
    return dx.reshape(shape), dgamma, dbeta
