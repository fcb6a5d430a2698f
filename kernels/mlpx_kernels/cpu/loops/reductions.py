"""Maxima and sums of rows that lie one after another, and numbers spread over them, whatever the rows' width.

LLVM takes rows one by one, and what fills no vector in scalar steps: for rows of a hundred that is a third of the time,
for rows of ten all of it. Here as many rows as a vector has lanes are taken at a time, their ends under a mask, and
their vectors folded into one that holds a number for each row. Together with loops over whole blocks, which have one
end for many rows, that makes softmax and its kin.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from mlpx_kernels.cpu.lowlevel.compile import inlined
from mlpx_kernels.cpu.lowlevel.mathematics import JIT, bits_of, float_of
from mlpx_kernels.cpu.lowlevel.memory import size_of
from mlpx_kernels.cpu.lowlevel.simd import VECTOR_BYTES, access, in_vectors, splat, vector

SHORT = 32
"""Rows up to this width have their maximum found by comparisons of numbers."""
SPARE = VECTOR_BYTES // 4
"""Elements beyond the last row that `spread` may write."""


@inlined
def row_max(x):
    """Return the largest element of a row; NaN counts as above or below everything and comes out later, in the sum."""
    if x.size <= SHORT:
        top = x[0]
        for j in range(1, x.size):
            top = x[j] if x[j] > top else top
        return top
    return wide_max(x)


def wide_max(x):
    """Return the largest element by the bits: sign-magnitude turned to two's complement keeps the order."""


@overload(wide_max, jit_options=JIT)
def _wide_max(x):
    if x.dtype == types.float32:

        def single(x):
            top = np.int32(-2147483648)
            for j in range(x.size):
                k = bits_of(x[j])
                k = np.int32(k ^ np.int32(np.int32(k >> 31) & 0x7FFFFFFF))
                top = k if k > top else top
            return float_of(np.int32(top ^ np.int32(np.int32(top >> 31) & 0x7FFFFFFF)))

        return single

    def double(x):
        top = np.int64(-9223372036854775807)
        for j in range(x.size):
            k = bits_of(x[j])
            k = k ^ ((k >> 63) & 0x7FFFFFFFFFFFFFFF)
            top = k if k > top else top
        return float_of(top ^ ((top >> 63) & 0x7FFFFFFFFFFFFFFF))

    return double


def _larger(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _added(builder, a, b):
    return builder.fadd(a, b)


def _folded(builder, combine, rows):
    """Return the vector whose lane i combines all lanes of row i: two rows share a vector, then four, then all."""
    lanes = len(rows)
    kind, half = ir.VectorType(ir.IntType(32), lanes), lanes // 2
    while half:
        low = ir.Constant(kind, [j if not j & half else lanes + j - half for j in range(lanes)])
        high = ir.Constant(kind, [j + half if not j & half else lanes + j for j in range(lanes)])
        pairs = list(zip(rows[: len(rows) // 2], rows[len(rows) // 2 :], strict=True))
        rows = [
            combine(builder, builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)) for a, b in pairs
        ]
        half //= 2
    return rows[0]


def _reduction(combine, neutral):
    """Return the intrinsic that writes a number for each of as many rows as a vector has lanes.

    There are no more rows than ``last + 1``; those beyond repeat the last, and so do their numbers.
    """

    @intrinsic
    def reduce(typingctx, real, source, c, last, target):
        i64 = ir.IntType(64)

        def codegen(context, builder, signature, args):
            kind = vector(context, real.instance_type)
            source, c, last, target = args[1:]
            size = ir.Constant(i64, VECTOR_BYTES // kind.count)
            nothing = ir.Constant(kind, [neutral] * kind.count)
            numbers = [ir.Constant(i64, i) for i in range(kind.count)]
            numbers = [builder.select(builder.icmp_signed("<", i, last), i, last) for i in numbers]
            rows = [builder.add(source, builder.mul(builder.mul(i, c), size)) for i in numbers]
            parts = [cgutils.alloca_once_value(builder, nothing) for _ in rows]

            def take(first, mask):
                at = builder.mul(first, size)
                for row, part in zip(rows, parts, strict=True):
                    value = access(builder, kind, builder.add(row, at), mask, other=nothing)
                    builder.store(combine(builder, builder.load(part), value), part)

            in_vectors(builder, kind.count, c, take)
            result = _folded(builder, combine, [builder.load(part) for part in parts])
            access(builder, kind, target, None, result)
            return context.get_dummy_value()

        return types.void(real, *(types.int64,) * 4), codegen

    return reduce


_tops, _sums = _reduction(_larger, float("-inf")), _reduction(_added, 0.0)


@inlined
def row_tops(x, top, rows, c):
    """Write the largest number of each row of the flat block ``x`` (rows * c) to ``top``, which is whole vectors.

    NaN counts as above or below everything.
    """
    real = x.dtype.type
    size = size_of(real)
    for r in range(0, rows, VECTOR_BYTES // size):
        _tops(real, x.ctypes.data + r * c * size, c, rows - 1 - r, top.ctypes.data + r * size)


@inlined
def row_sums(x, total, rows, c):
    """Write the sum of each row of the flat block ``x`` (rows * c) to ``total``, which is whole vectors."""
    real = x.dtype.type
    size = size_of(real)
    for r in range(0, rows, VECTOR_BYTES // size):
        _sums(real, x.ctypes.data + r * c * size, c, rows - 1 - r, total.ctypes.data + r * size)


@intrinsic
def _fill(typingctx, real, value, target, n):
    """Write a number to so many whole vectors."""

    def codegen(context, builder, signature, args):
        kind, (value, target, n) = vector(context, real.instance_type), args[1:]
        value = splat(builder, kind, value)
        with cgutils.for_range(builder, n) as loop:
            at = builder.add(target, builder.mul(loop.index, ir.Constant(ir.IntType(64), VECTOR_BYTES)))
            access(builder, kind, at, None, value)
        return context.get_dummy_value()

    return types.void(real, real.instance_type, types.int64, types.int64), codegen


@inlined
def spread(value, out, rows, c):
    """Write each row's number to its ``c`` places in ``out``, and to up to `SPARE` elements beyond the last row."""
    real = value.dtype.type
    size = size_of(real)
    lanes = VECTOR_BYTES // size
    for r in range(rows):
        _fill(real, value[r], out.ctypes.data + r * c * size, (c + lanes - 1) // lanes)
