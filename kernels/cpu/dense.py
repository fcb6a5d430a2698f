"""The dense layer: NumPy's BLAS for the product, then bias and activation in one pass; skinny outputs by hand."""

import math
from functools import cache

import numpy as np
from numba import types
from numba.extending import overload

from mlpx_kernels.activations import CODES, SAVES_INPUT
from mlpx_kernels.cpu.activation import (
    IDENTITY,
    add_bias,
    apply,
    apply_grad,
    real_array,
    sum_rows,
)
from mlpx_kernels.cpu.compile import FASTMATH, inlined, kernel
from mlpx_kernels.cpu.mathematics import JIT
from mlpx_kernels.cpu.threads import share_rows

BLOCK = 4096
"""Elements of the epilogue's block: bias and activation run while it is in the first-level cache."""
WIDE = 64
"""Outputs from which on a row is taken by itself, bias and activation in one loop; shorter rows waste vectors."""
SKINNY = 16
"""Outputs up to which the hand-written product is tried; x is read once, whatever the number of outputs."""
PIECE = 512
"""Inputs of a row taken at a time by the hand-written product."""
LONG = 1024
"""Inputs from which on it wins."""


def epilogue(code, z, b, y, rows, width):
    """Add the bias (if any) to ``z`` (rows * width) in place and write the activation to ``y``, block by block."""


@overload(epilogue, prefer_literal=True, jit_options={**JIT, "fastmath": FASTMATH}, strict=False)
def _epilogue(code, z, b, y, rows, width):
    if not isinstance(code, types.IntegerLiteral):
        return None
    kind = code.literal_value
    separate = kind in SAVES_INPUT

    def implementation(code, z, b, y, rows, width):
        if width >= WIDE and b.size and kind != IDENTITY:
            for r in range(rows):
                zs, ys = z[r * width : (r + 1) * width], y[r * width : (r + 1) * width]
                for j in range(width):
                    v = zs[j] + b[j]
                    if separate:
                        zs[j] = v
                    ys[j] = apply(kind, v)
            return
        step = max(1, BLOCK // max(width, 1))
        for start in range(0, rows, step):
            n = min(step, rows - start)
            zs, ys = z[start * width : (start + n) * width], y[start * width : (start + n) * width]
            if b.size:
                add_bias(zs, b, n, width)
            if kind != IDENTITY:
                for i in range(zs.size):
                    ys[i] = apply(kind, zs[i])

    return implementation


@inlined
def skinny_product(x, w, z, rows, n_in, n_out):
    """Write ``z = x @ w.T`` for few outputs: four rows by two outputs at a time, sums in vector registers.

    The inputs are taken in pieces: four rows and all weights of a piece stay in the first-level cache while every pair
    of outputs passes over them.
    """
    for k in range(rows * n_out):
        z[k] = 0.0
    last = rows - 1
    for r in range(0, rows, 4):
        n = min(4, rows - r)
        r1, r2, r3 = min(r + 1, last), min(r + 2, last), min(r + 3, last)
        for start in range(0, n_in, PIECE):
            m = min(PIECE, n_in - start)
            a0, a1 = x[r * n_in + start :][:m], x[r1 * n_in + start :][:m]
            a2, a3 = x[r2 * n_in + start :][:m], x[r3 * n_in + start :][:m]
            for o in range(0, n_out, 2):
                p = min(o + 1, n_out - 1)
                u, v = w[o * n_in + start :][:m], w[p * n_in + start :][:m]
                s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = x.dtype.type(0.0)
                for k in range(m):
                    s0 += a0[k] * u[k]
                    s1 += a1[k] * u[k]
                    s2 += a2[k] * u[k]
                    s3 += a3[k] * u[k]
                    t0 += a0[k] * v[k]
                    t1 += a1[k] * v[k]
                    t2 += a2[k] * v[k]
                    t3 += a3[k] * v[k]
                add_sums(z[r * n_out + o :], n_out, n, s0, s1, s2, s3)
                if p > o:
                    add_sums(z[r * n_out + p :], n_out, n, t0, t1, t2, t3)


@inlined
def add_sums(z, stride, n, s0, s1, s2, s3):
    """Add the sums of the first ``n`` of four rows to one output's column."""
    z[0] += s0
    if n > 1:
        z[stride] += s1
    if n > 2:
        z[2 * stride] += s2
    if n > 3:
        z[3 * stride] += s3


@cache
def epilogue_loop(code):
    """Return the compiled ``run(z, b, y, rows, width)`` of one activation's epilogue."""

    separate = code in SAVES_INPUT

    @kernel
    def run(z, b, y, rows, width):
        if separate:
            epilogue(code, z, b, y, rows, width)
        else:
            epilogue(code, z, b, z, rows, width)  # one array, as LLVM can see: else it would not vectorise

    return run


@kernel
def run_skinny(x, w, z, rows, n_in, n_out):
    """Compiled entry point of `skinny_product`."""
    skinny_product(x, w, z, rows, n_in, n_out)


@cache
def gradient_loop(code):
    """Return the compiled ``run(dy, saved, dz, db, rows, width)``: dz and its sums over the rows, block by block."""

    @kernel
    def run(dy, saved, dz, db, rows, width):
        step = max(1, BLOCK // max(width, 1))
        part = np.empty(width, dz.dtype)
        for j in range(width):
            db[j] = 0.0
        for start in range(0, rows, step):
            n = min(step, rows - start)
            a, b = start * width, (start + n) * width
            d, s, out = dy[a:b], saved[a:b], dz[a:b]
            for i in range(d.size):
                out[i] = apply_grad(code, d[i], s[i])
            sum_rows(out, part, n, width)
            for j in range(width):
                db[j] += part[j]

    return run


def dense(x, w, b, *, activation="identity"):
    """One write of z by the product, one pass over it in cache-sized blocks; none at all for long, skinny products."""
    kind = CODES[activation]
    x, w = real_array(x, name="dense"), real_array(w, name="dense")
    n_out, n_in = w.shape
    shape = (*x.shape[:-1], n_out)
    rows = math.prod(x.shape[:-1])
    bias = np.empty(0, x.dtype) if b is None else real_array(b, name="dense").reshape(-1)
    x2 = x.reshape(rows, n_in)
    skinny = n_out <= SKINNY and n_in >= LONG
    with np.errstate(all="ignore"):  # NaN and overflow are results
        z = np.empty((rows, n_out), x.dtype) if skinny else x2 @ w.T
    separate = kind in SAVES_INPUT
    y = np.empty_like(z) if separate else z
    x_flat, w_flat, z_flat, y_flat = x2.reshape(-1), w.reshape(-1), z.reshape(-1), y.reshape(-1)

    def some(start, stop):
        zs, ys = z_flat[start * n_out : stop * n_out], y_flat[start * n_out : stop * n_out]
        if skinny:
            xs = x_flat[start * n_in : stop * n_in]
            run_skinny(xs, w_flat, zs, stop - start, n_in, n_out)
        run(zs, bias, ys, stop - start, n_out)

    run = epilogue_loop(kind)
    if skinny or b is not None or kind != IDENTITY:
        share_rows(some, rows, x.size if skinny else z.size)
    y = y.reshape(shape)
    return y, (z.reshape(shape) if separate else y)


def dense_grad(dy, x, w, saved, *, activation="identity", need_dx=True):
    """``dz`` and ``db`` in one pass, then one product for each of dw and dx."""
    kind = CODES[activation]
    dy, x, w, saved = (real_array(a, name="dense_grad") for a in (dy, x, w, saved))
    n_out, n_in = w.shape
    rows = math.prod(dy.shape[:-1])
    dz, db = np.empty((rows, n_out), w.dtype), np.empty(n_out, w.dtype)
    gradient_loop(kind)(dy.reshape(-1), saved.reshape(-1), dz.reshape(-1), db, rows, n_out)
    with np.errstate(all="ignore"):  # NaN and overflow are results
        dx = (dz @ w).reshape(x.shape) if need_dx else None
        return dx, dz.T @ x.reshape(rows, n_in), db


@cache
def outer_loop(code):
    """Return the compiled ``run(dy, x, saved, dw, dz, rows, n_in, n_out)``: each row's ``dz`` and ``dw = dz x^T``."""

    @kernel
    def run(dy, x, saved, dw, dz, rows, n_in, n_out):
        for k in range(rows * n_out):
            d = apply_grad(code, dy[k], saved[k])
            dz[k] = d
            r = k // n_out
            a, out = x[r * n_in : (r + 1) * n_in], dw[k * n_in : (k + 1) * n_in]
            for j in range(n_in):
                out[j] = d * a[j]

    return run


def dense_grad_rows(dy, x, saved, *, activation="identity"):
    """One write of dw, row by row."""
    dy, x, saved = (real_array(a, name="dense_grad_rows") for a in (dy, x, saved))
    (rows, n_out), n_in = dy.shape, x.shape[1]
    dw, dz = np.empty((rows, n_out, n_in), dy.dtype), np.empty((rows, n_out), dy.dtype)
    d, xs, s, out, z = (a.reshape(-1) for a in (dy, x, saved, dw, dz))
    loop = outer_loop(CODES[activation])

    def some(a, b):
        here, wide = slice(a * n_out, b * n_out), slice(a * n_out * n_in, b * n_out * n_in)
        loop(d[here], xs[a * n_in : b * n_in], s[here], out[wide], z[here], b - a, n_in, n_out)

    share_rows(some, rows, dw.size // 4)
    return dw, dz
