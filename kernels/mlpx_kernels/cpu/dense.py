"""The dense layer: a plan's piece (pieces_layers.py), or NumPy's product, then bias and activation in one pass."""

import math
from functools import cache

import numpy as np

from mlpx_kernels.activations import CODES, SAVES_INPUT
from mlpx_kernels.cpu.activation import (
    IDENTITY,
    add_bias,
    apply,
    apply_grad,
    sum_rows,
)
from mlpx_kernels.cpu.gemm.blas import NN, NT, TN
from mlpx_kernels.cpu.gemm.register_tiles import ROWS
from mlpx_kernels.cpu.gemm.select import (
    IN_TILES,
    LONG,
    SKINNY,
    TILES,
    batch_invariant_from,
    fits_tiles,
    has_quick_way,
    register,
)
from mlpx_kernels.cpu.lowlevel.arrays import flat, optional, real_array
from mlpx_kernels.cpu.lowlevel.compile import kernel
from mlpx_kernels.cpu.lowlevel.memory import alloc_scratch, free_scratch
from mlpx_kernels.cpu.lowlevel.simd import VECTOR_BYTES
from mlpx_kernels.cpu.plan.layer_pieces import dense_forward
from mlpx_kernels.cpu.plan.layout import JOB_SIZE, N_COLUMNS, N_IN, N_OUT, STRIDE, B, W, X, Y, Z
from mlpx_kernels.cpu.threading.parallel_rows import share_piece, share_rows

BLOCK = 4096
"""Elements of the epilogue's block: bias and activation run while it is in the first-level cache."""
WORTH_SHARING = 1 << 25
"""Multiplications from which on gradients' products in tiles, shared among threads, beat NumPy's BLAS with its own."""
WORTH_PIECES, PIECE_ROWS = 8_000_000, 32
"""The same for a layer by the plan's piece, whose rows threads share in compiled code; and how many each takes at
least. With so many, each must be computed alike whatever others come with it."""
AN_ELEMENT = 32
"""Multiplications that take as long as an element of other row work."""


@cache
def epilogue_loop(code):
    """Return the compiled ``run(z, b, y, rows, width)`` of one activation.

    It adds the bias (if any) to ``z`` (rows * width) in place and writes the activation to ``y``, block by block; to
    ``z`` itself where the gradient does not need that.
    """
    separate = code in SAVES_INPUT

    @kernel
    def run(z, b, y, rows, width):
        step = max(1, BLOCK // max(width, 1))
        for start in range(0, rows, step):
            n = min(step, rows - start)
            zs = z[start * width : (start + n) * width]
            if b.size:
                add_bias(zs, b, n, width)
            if code != IDENTITY:
                # One array where it is one, as LLVM can see: else it would not vectorise.
                ys = y[start * width : (start + n) * width] if separate else zs
                for i in range(zs.size):
                    ys[i] = apply(code, zs[i])

    return run


@cache
def gradient_loop(code):
    """Return the compiled ``run(dy, saved, dz, db, rows, width)``: dz and its sums over the rows, block by block."""

    @kernel
    def run(dy, saved, dz, db, rows, width):
        step = max(1, BLOCK // max(width, 1))
        part = alloc_scratch(width, dz.dtype.type)
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
        free_scratch(part)

    return run


def shared_product(form, a, b):
    """Return a product NN or TN, its rows shared among threads; None where a BLAS is faster or the user's choice."""
    m = a.shape[1] if form == TN else a.shape[0]
    k, n = b.shape
    lanes = VECTOR_BYTES // a.itemsize
    worth = m * n * k >= WORTH_SHARING and fits_tiles.py_func(form, m, n, k, lanes, has_quick_way())
    if not (IN_TILES and worth):
        return None
    run, c = register(a.dtype).ctypes, np.empty((m, n), a.dtype)
    step, lda, groups = (a.itemsize if form == TN else a.strides[0]), a.shape[1], max(1, m // ROWS)
    first, second, out = a.ctypes.data, b.ctypes.data, c.ctypes.data

    def some(start, stop):
        start, stop = start * ROWS, m if stop == groups else stop * ROWS
        place = out + start * n * c.itemsize
        run(form + TILES, first + start * step, second, 0, place, stop - start, n, k, lda, n, n)

    share_rows(some, groups, m * n * k // AN_ELEMENT)
    return c


def name_of(x):
    """Return the name of an array's dtype, which NumPy takes longer to find than a thousand multiplications."""
    return "float32" if x.itemsize == 4 else "float64"


def in_tiles(x, w, b):
    """Return whether the plan's piece is faster than NumPy's product, and each row's numbers are its own."""
    (n_out, n_in), multiplications = w.shape, x.shape[0] * w.size
    few = n_out <= SKINNY and n_in >= LONG
    if not multiplications or (multiplications < WORTH_PIECES and not few):
        return False
    alike = batch_invariant_from(NT, PIECE_ROWS, n_out, n_in, name_of(x)) <= min(PIECE_ROWS, x.shape[0])
    return alike and all(each.flags.aligned for each in (x, w, b))


def by_piece(kind, x, w, b, z, y):
    """Write the layer's ``z`` and ``y`` by the plan's piece, whose rows threads share in compiled code."""
    rows, (n_out, n_in) = len(x), w.shape
    row = np.zeros(N_COLUMNS + JOB_SIZE, np.int64)  # and behind it the job, all of whose buffers begin at address 0
    row[N_IN], row[N_OUT], row[STRIDE], row[B] = n_in, n_out, n_out, -1
    for column, array in ((X, x), (W, w), (B, b), (Z, z)):
        if array.size:
            row[column] = array.ctypes.data // x.itemsize
    row[Y] = row[Z] if y is z else y.ctypes.data // x.itemsize
    at = row.ctypes.data
    arguments = at, 0, at + N_COLUMNS * row.itemsize, 0
    share_piece(dense_forward(kind, name_of(x)), arguments, rows, PIECE_ROWS, rows * w.size // AN_ELEMENT)


def dense(x, w, b, *, activation="identity"):
    """The plan's piece for large products, else NumPy's, then bias and activation in one pass."""
    kind = CODES[activation]
    x, w = real_array(x, name="dense"), real_array(w, name="dense")
    n_out, n_in = w.shape
    shape, rows = (*x.shape[:-1], n_out), math.prod(x.shape[:-1])
    bias = optional(b, n_out, w.dtype, name="dense")
    x2, separate = flat(x, rows * n_in, w.dtype, name="dense").reshape(rows, n_in), kind in SAVES_INPUT
    y = np.empty((rows, n_out), x.dtype) if separate else None
    if in_tiles(x2, w, bias):
        z = np.empty((rows, n_out), x.dtype)
        by_piece(kind, x2, w, bias, z, y if separate else z)
    else:
        with np.errstate(all="ignore"):  # NaN and overflow are results
            z = x2 @ w.T
        if b is not None or kind != IDENTITY:
            run, zs, ys = epilogue_loop(kind), z.reshape(-1), (y if separate else z).reshape(-1)

            def finish(start, stop):
                here = slice(start * n_out, stop * n_out)
                run(zs[here], bias, ys[here], stop - start, n_out)

            share_rows(finish, rows, z.size)
    z = z.reshape(shape)
    return (y.reshape(shape) if separate else z), z


def dense_grad(dy, x, w, saved, *, activation="identity", need_dx=True):
    """``dz`` and ``db`` in one pass, then one product for each of dw and dx."""
    kind = CODES[activation]
    w, name = real_array(w, name="dense_grad"), "dense_grad"
    n_out, n_in = w.shape
    shape, rows, real = x.shape, math.prod(dy.shape[:-1]), w.dtype
    dy, saved = (flat(a, rows * n_out, real, name=name) for a in (dy, saved))
    x2 = flat(x, rows * n_in, real, name=name).reshape(rows, n_in)
    dz, db = np.empty((rows, n_out), real), np.empty(n_out, real)
    gradient_loop(kind)(dy, saved, dz.reshape(-1), db, rows, n_out)
    dx, dw = shared_product(NN, dz, w) if need_dx else None, shared_product(TN, dz, x2)
    with np.errstate(all="ignore"):  # NaN and overflow are results
        dx = dz @ w if dx is None and need_dx else dx
        dw = dz.T @ x2 if dw is None else dw
    return (dx.reshape(shape) if need_dx else None), dw, db


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
    dy, name = real_array(dy, name="dense_grad_rows"), "dense_grad_rows"
    (rows, n_out), n_in, real = dy.shape, x.shape[1], dy.dtype
    xs, s = flat(x, rows * n_in, real, name=name), flat(saved, dy.size, real, name=name)
    dw, dz = np.empty((rows, n_out, n_in), real), np.empty((rows, n_out), real)
    d, out, z = (a.reshape(-1) for a in (dy, dw, dz))
    loop = outer_loop(CODES[activation])

    def some(a, b):
        here, wide = slice(a * n_out, b * n_out), slice(a * n_out * n_in, b * n_out * n_in)
        loop(d[here], xs[a * n_in : b * n_in], s[here], out[wide], z[here], b - a, n_in, n_out)

    share_rows(some, rows, dw.size // 4)
    return dw, dz
