"""Matrix products in tiles of vector registers, where they beat the BLAS.

A tile of the result, some rows by some vectors, stays in registers over the whole sum; each step adds the products of
a number of every row of ``a`` and vectors from a row of ``b``. Nothing is packed but a ``b`` that comes transposed. A
BLAS packs both operands and chooses its way per call; at the sizes of a batch through a layer that costs it 10 to 40 %.
Every sum runs in the order of k, whatever the tile, so results do not depend on where rows are cut.
"""

import os
from functools import cache

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mlpx_kernels.cpu.blas import LIBRARY, NT, TN, blas_product
from mlpx_kernels.cpu.compile import cached_callback, inlined, merged
from mlpx_kernels.cpu.dots import dots, lone_row
from mlpx_kernels.cpu.memory import leave, room, size_of, view
from mlpx_kernels.cpu.vectors import (
    MANY_REGISTERS,
    VECTOR_BYTES,
    access,
    add_rows,
    first_lanes,
    splat,
    transpose_from_rows,
    vector,
)

ROWS, VECTORS = (8 if MANY_REGISTERS else 6), 2
"""A tile: so many rows of the result by so many vectors; the other registers hold operands."""
SKINNY, LONG = 16, 1024
"""Outputs up to which, and inputs from which on, sums of products along the rows (dots.py) are faster than tiles."""
FAR, OFTEN = 2048, 128
"""Bytes between rows beyond which they are copied side by side, if every number is used so many times: rows a page
apart share a few places of each cache, and drive each other out."""
BLAS_IS_QUICK = 1 << 17
"""Multiplications up to which OpenBLAS has a quicker way of its own, which wins over tiles that are not filled."""


def _tile(rows, vectors, masked):
    """Return the intrinsic that computes a tile of ``rows`` by ``vectors``, the last of which may be cut short.

    Every row's sums begin at the numbers at the address ``bias``; at 0, if that is 0.
    """

    @intrinsic
    def tile(typingctx, real, a, a_row, a_k, b, ldb, bias, c, ldc, k, n):
        dtype = real.instance_type
        bytes_ = dtype.bitwidth // 8
        i64 = ir.IntType(64)

        def codegen(context, builder, signature, args):
            kind = vector(context, dtype)
            a, a_row, a_k, b, ldb, bias, c, ldc, k, n = args[1:]
            size, zero = ir.Constant(i64, bytes_), ir.Constant(kind, None)
            a_row, a_k, ldb, ldc = (builder.mul(stride, size) for stride in (a_row, a_k, ldb, ldc))
            mask = first_lanes(builder, kind.count, n) if masked else None
            across = [ir.Constant(i64, v * VECTOR_BYTES) for v in range(vectors)]
            starts = [builder.add(a, builder.mul(a_row, ir.Constant(i64, r))) for r in range(rows)]
            biased = builder.icmp_signed("!=", bias, ir.Constant(i64, 0))
            bias = builder.select(biased, bias, c)  # a load without effect must be from a place that exists: else slow
            first = (access(builder, kind, bytes_, builder.add(bias, v), mask) for v in across)
            first = [builder.select(biased, value, zero) for value in first]
            sums = [[cgutils.alloca_once_value(builder, zero) for _ in across] for _ in range(rows)]
            for row in sums:
                for place, value in zip(row, first, strict=True):
                    builder.store(value, place)
            with cgutils.for_range(builder, k) as loop:
                here = builder.add(b, builder.mul(loop.index, ldb))
                factors = [access(builder, kind, bytes_, builder.add(here, v), mask) for v in across]
                along = builder.mul(loop.index, a_k)
                for r in range(rows):
                    scalar = builder.inttoptr(builder.add(starts[r], along), kind.element.as_pointer())
                    number = splat(builder, kind, builder.load(scalar))
                    for place, factor in zip(sums[r], factors, strict=True):
                        product = builder.fmul(number, factor, flags=("contract",))
                        builder.store(builder.fadd(builder.load(place), product, flags=("contract",)), place)
            for r in range(rows):
                out = builder.add(c, builder.mul(ldc, ir.Constant(i64, r)))
                for place, v in zip(sums[r], across, strict=True):
                    access(builder, kind, bytes_, builder.add(out, v), mask, builder.load(place))
            return context.get_dummy_value()

        return types.void(real, *(types.int64,) * 10), codegen

    return tile


_FULL, _CUT = _tile(ROWS, VECTORS, False), _tile(ROWS, 1, True)


@intrinsic
def _copy(typingctx, real, source, n, target):
    """Copy a vector, of which the first ``n`` numbers are looked at; the rest become 0."""
    dtype = real.instance_type

    def codegen(context, builder, signature, args):
        kind, bytes_ = vector(context, dtype), dtype.bitwidth // 8
        source, n, target = args[1:]
        value = access(builder, kind, bytes_, source, first_lanes(builder, kind.count, n))
        access(builder, kind, bytes_, target, None, value)
        return context.get_dummy_value()

    return types.void(real, *(types.int64,) * 3), codegen


PACK, PACKED, TILES = 3, 4, 8
"""For those who share the rows of one product, all of which must be computed alike: write ``b`` (n, k) to the panel
``c``; ``a @ panel``; and what is added to NN or TN so that tiles are taken without asking."""


@inlined
def padded(n, step):
    """Return ``n`` rounded up to a multiple of ``step``."""
    return (n + step - 1) // step * step


def panel_size(n, k, dtype):
    """Return the elements of the panel for ``b`` (n, k)."""
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    return padded(n, VECTORS * lanes) * padded(k, lanes)


@inlined
def pack(real, transposed, b, ldb, n, k, wide, out):
    """Write ``b``, (n, k) if it is to be transposed, else (k, n), as rows of k: a stripe of ``wide`` columns after the
    other."""
    size = size_of(real)
    lanes = VECTOR_BYTES // size
    stripe = wide * padded(k, lanes)
    for j in range(0, n, lanes):
        start = out + (j // wide * stripe + j % wide) * size
        if transposed:
            for i in range(0, k, lanes):
                transpose_from_rows(
                    real, b + (j * ldb + i) * size, ldb, n - 1 - j, k - i, start + i * wide * size, wide
                )
        else:
            for i in range(k):
                _copy(real, b + (i * ldb + j) * size, n - j, start + i * wide * size)


@merged
def multiply(real, a, a_row, a_k, a_stripe, form, b, ldb, b_stripe, packing, packed, bias, c, ldc, m, n, k):
    """Write ``c (m, n) = a (m, k) @ b (k, n) + bias`` for m of at least `ROWS`; addresses, and strides in elements.

    Rows of b and c are contiguous. The columns of b lie in stripes of `VECTORS` vectors, ``b_stripe`` apart, the rows
    of a in stripes of one vector, ``a_stripe`` apart. With ``packing``, each stripe of b is copied to ``packed`` before
    it is used (for NT: transposed). The address ``bias`` of n numbers may be 0.
    """
    size = size_of(real)
    lanes = VECTOR_BYTES // size
    wide = VECTORS * lanes
    j = 0
    while j < n:
        here, step = b + j // wide * b_stripe * size, ldb
        if packing:
            pack(real, form == NT, here, ldb, min(wide, n - j), k, wide, packed)
            here, step = packed, wide
        full = j + wide <= n
        v = 0
        while v < min(wide, n - j):
            first = bias + (j + v) * size if bias else 0
            r = 0
            while r < m:
                r = min(r, m - ROWS)  # the last tile takes some rows again, rather than few at a time
                x, z = a + (r // lanes * a_stripe + r % lanes * a_row) * size, c + (r * ldc + j + v) * size
                if full:
                    _FULL(real, x, a_row, a_k, here, step, first, z, ldc, k, 0)
                else:
                    _CUT(real, x, a_row, a_k, here + v * size, step, first, z, ldc, k, n - j - v)
                r += ROWS
            v += wide if full else lanes
        j += wide


@merged
def fits_tiles(form, m, n, k, lanes):
    """Return whether tiles are faster than the BLAS: their vectors must be filled, and packing must pay.

    Where rows are those of a batch (all but TN) their number hardly counts: cutting a batch elsewhere should not turn
    it over to the BLAS, whose sums run in another order. Sums of a few numbers are over before a BLAS has begun.
    """
    if m < (2 * ROWS if form == NT else ROWS):
        return False
    if form == NT and k <= lanes:
        return True
    filled = n / padded(n, lanes)
    if form == TN:
        filled *= m / padded(m, ROWS)
    return filled >= 0.8 or (filled >= 0.6 and m * n * k >= BLAS_IS_QUICK)


@inlined
def add_to_rows(real, bias, c, m, n, ldc):
    """Add the n numbers at the address ``bias``, if it is not 0, to the rows of ``c``."""
    size = size_of(real)
    if bias:
        for r in range(m):
            for j in range(0, n, VECTOR_BYTES // size):
                add_rows(real, bias + j * size, 0, 1, n - j, c + (r * ldc + j) * size)


@inlined
def by_blas(real, form, a, b, bias, c, m, n, k, lda, ldb, ldc):
    """A product by the BLAS, then the bias."""
    blas_product(form, view(a, 0, 1, real), view(b, 0, 1, real), view(c, 0, 1, real), m, n, k, lda, ldb, ldc)
    add_to_rows(real, bias, c, m, n, ldc)


@cache
def products(dtype):
    """Return the compiled ``run(form, a, b, bias, c, m, n, k, lda, ldb, ldc)`` of a dtype, which writes ``c``.

    Addresses, and strides in elements. Rows of c begin as the n numbers at ``bias``; as 0, if that is 0.
    """
    real = np.dtype(dtype).type

    @cached_callback(types.void(*(types.int64,) * 11))
    def run(form, a, b, bias, c, m, n, k, lda, ldb, ldc):
        size = size_of(real)
        lanes = VECTOR_BYTES // size
        asking, form = form < TILES, form % TILES
        if form == NT and (m == 1 or (n <= SKINNY and k >= LONG)):
            if m == 1:
                lone_row(real, a, b, c, n, k, ldb)
            else:
                dots(real, a, b, c, m, n, k, lda, ldb, ldc)
            add_to_rows(real, bias, c, m, n, ldc)
            return
        if asking and form <= TN and not fits_tiles(form, m, n, k, lanes):
            by_blas(real, form, a, b, bias, c, m, n, k, lda, ldb, ldc)
            return
        wide, deep = VECTORS * lanes, padded(k, lanes)
        b_stripe = wide * deep if form == PACKED else wide * (ldb if form == NT else 1)
        a_row, a_k, a_stripe = (1, lda, lanes) if form == TN else (lda, 1, lanes * lda)
        pack_b = form == NT or (form != PACKED and ldb * size > FAR and m >= OFTEN)
        pack_a = form == TN and lda * size > FAR and n >= OFTEN and m % ROWS == 0 and lanes % ROWS == 0
        stripe = wide * deep if pack_b else 0
        scratch = room(stripe + (padded(m, lanes) * deep if pack_a else 0), real)
        packed = scratch.ctypes.data
        if form == PACK or pack_a:  # one call for both: every further one is compiled again
            first = form == TN
            source, step, columns, width = (a, lda, m, lanes) if first else (b, ldb, n, wide)
            target = packed + stripe * size if first else c
            pack(real, not first, source, step, columns, k, width, target)
            a, a_k, a_stripe = target, lanes, lanes * deep
        if form != PACK:
            step = wide if form == PACKED else ldb
            multiply(real, a, a_row, a_k, a_stripe, form, b, step, b_stripe, pack_b, packed, bias, c, ldc, m, n, k)
        leave(scratch)

    return run


@cache
def blas_products(dtype):
    """Return a function as `products` gives, for processors or users that want nothing but the BLAS."""
    real = np.dtype(dtype).type

    @cached_callback(types.void(*(types.int64,) * 11))
    def run(form, a, b, bias, c, m, n, k, lda, ldb, ldc):
        by_blas(real, form, a, b, bias, c, m, n, k, lda, ldb, ldc)

    return run


IN_TILES = VECTOR_BYTES >= 32 and LIBRARY == "openblas" and os.environ.get("MLPX_BLAS", "auto") == "auto"
"""Whether tiles may be taken: where they were measured, and unless a BLAS was asked for."""


@cache
def register(dtype):
    """Name the products of a dtype for compiled code, which must be done before that is compiled or loaded."""
    run = (products if IN_TILES else blas_products)(dtype)
    llvmlite.binding.add_symbol(f"mlpx_product_{np.dtype(dtype)}", run.address)
    return run


@intrinsic
def product(typingctx, form, a, b, bias, c, m, n, k, lda, ldb, ldc):
    """Write ``c (m, n)`` by tiles or the BLAS, whichever is faster; flat arrays that start at the first element.

    ``bias`` is the address of what is added to each row, or 0. Calls what is registered for the dtype of the arrays.
    """
    name = f"mlpx_product_{c.dtype}"

    def codegen(context, builder, signature, args):
        i64 = ir.IntType(64)

        def start(place):
            array = cgutils.create_struct_proxy(signature.args[place])(context, builder, value=args[place])
            return builder.ptrtoint(array.data, i64)

        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), [i64] * 11), name)
        builder.call(function, [args[0], start(1), start(2), args[3], start(4), *args[5:]])
        return context.get_dummy_value()

    whole = types.int64
    return types.void(whole, a, b, whole, c, *(whole,) * 6), codegen
