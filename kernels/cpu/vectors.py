"""Vectors in the code of intrinsics: for the few loops that LLVM does not vectorise well by itself."""

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils

_FEATURES = llvmlite.binding.get_host_cpu_features()
VECTOR_BYTES = 64 if _FEATURES.get("avx512f") else 32 if _FEATURES.get("avx") else 16
MANY_REGISTERS = VECTOR_BYTES == 64 or not (_FEATURES.get("sse2") or _FEATURES.get("avx"))
"""Whether there are 32 vector registers, as AVX-512 and ARM have, or 16."""


def vector(context, real):
    """Return the LLVM type of as many numbers of a dtype as fill a register."""
    value = context.get_value_type(real)
    return ir.VectorType(value, VECTOR_BYTES * 8 // real.bitwidth)


def splat(builder, kind, value):
    """Return the vector that holds a number in every lane."""
    undefined = ir.Constant(kind, ir.Undefined)
    i32 = ir.IntType(32)
    first = builder.insert_element(undefined, value, ir.Constant(i32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(i32, kind.count), [0] * kind.count))


def first_lanes(builder, lanes, n):
    """Return the mask of the first ``n`` (an int64) lanes."""
    kind = ir.VectorType(ir.IntType(32), lanes)
    return builder.icmp_signed(
        "<", ir.Constant(kind, list(range(lanes))), splat(builder, kind, builder.trunc(n, kind.element))
    )


def access(builder, kind, bytes_, place, mask, value=None):
    """Load a vector from a place, or store ``value`` there; with a mask only its lanes (others load as 0)."""
    pointer = builder.inttoptr(place, kind.as_pointer())
    if mask is None:
        return builder.load(pointer, align=bytes_) if value is None else builder.store(value, pointer, align=bytes_)
    align, suffix = ir.Constant(ir.IntType(32), bytes_), f"v{kind.count}f{8 * bytes_}.p0"
    if value is None:
        args, result, what = [pointer, align, mask, ir.Constant(kind, None)], kind, "load"
    else:
        args, result, what = [value, pointer, align, mask], ir.VoidType(), "store"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(result, [x.type for x in args]), f"llvm.masked.{what}.{suffix}"
    )
    return builder.call(function, args)


def lane_sum(builder, value):
    """Return the sum of a vector's lanes, added in halves."""
    n, i32 = value.type.count, ir.IntType(32)
    while n > 1:
        n //= 2
        undefined, kind = ir.Constant(value.type, ir.Undefined), ir.VectorType(i32, n)
        low, high = ir.Constant(kind, list(range(n))), ir.Constant(kind, list(range(n, 2 * n)))
        low, high = builder.shuffle_vector(value, undefined, low), builder.shuffle_vector(value, undefined, high)
        value = builder.fadd(low, high)
    return builder.extract_element(value, ir.Constant(i32, 0))


def prefetch(builder, place):
    """Ask for the cache line at a place, which need not exist, to be brought to the second-level cache."""
    i32 = ir.IntType(32)
    pointer = builder.inttoptr(place, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [pointer, ir.Constant(i32, 0), ir.Constant(i32, 2), ir.Constant(i32, 1)])
