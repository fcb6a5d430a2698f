"""Tiles of a product: some rows of the result by some vectors, in registers over the whole sum.

Each step adds the products of a number of every row of ``a`` and vectors from a row of ``b``. Every sum runs in the
order of k, whatever the tile, so results do not depend on where rows are cut.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mlpx_kernels.cpu.gemm.blas import NT
from mlpx_kernels.cpu.lowlevel.compile import inlined, merged
from mlpx_kernels.cpu.lowlevel.memory import size_of
from mlpx_kernels.cpu.lowlevel.simd import (
    MANY_REGISTERS,
    VECTOR_BYTES,
    access,
    first_lanes,
    splat,
    transpose_from_rows,
    vector,
)

ROWS, VECTORS = (8 if MANY_REGISTERS else 6), 2
"""A tile: so many rows of the result by so many vectors; the other registers hold operands."""


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
            first = (access(builder, kind, builder.add(bias, v), mask) for v in across)
            first = [builder.select(biased, value, zero) for value in first]
            sums = [[cgutils.alloca_once_value(builder, value) for value in first] for _ in range(rows)]
            with cgutils.for_range(builder, k) as loop:
                here = builder.add(b, builder.mul(loop.index, ldb))
                factors = [access(builder, kind, builder.add(here, v), mask) for v in across]
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
                    access(builder, kind, builder.add(out, v), mask, builder.load(place))
            return context.get_dummy_value()

        return types.void(real, *(types.int64,) * 10), codegen

    return tile


_FULL, _CUT = _tile(ROWS, VECTORS, False), _tile(ROWS, 1, True)


@intrinsic
def _copy(typingctx, real, source, n, target):
    """Copy a vector, of which the first ``n`` numbers are looked at; the rest become 0."""
    dtype = real.instance_type

    def codegen(context, builder, signature, args):
        kind = vector(context, dtype)
        source, n, target = args[1:]
        value = access(builder, kind, source, first_lanes(builder, kind.count, n))
        access(builder, kind, target, None, value)
        return context.get_dummy_value()

    return types.void(real, *(types.int64,) * 3), codegen


@inlined
def padded(n, step):
    """Return ``n`` rounded up to a multiple of ``step``."""
    return (n + step - 1) // step * step


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
