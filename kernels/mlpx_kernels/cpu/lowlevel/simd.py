"""Vectors in the code of intrinsics: for the few loops that LLVM does not vectorise well by itself."""

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

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


_NUMBERS = {"i8": 1, "float": 4, "double": 8}
"""LLVM's names of a vector's numbers, and their bytes."""


def access(builder, kind, place, mask, value=None, other=None):
    """Load a vector from a place, or store ``value`` there; with a mask only its lanes.

    Other lanes load as those of ``other``, which are 0 unless given.
    """
    pointer, bytes_ = builder.inttoptr(place, kind.as_pointer()), _NUMBERS[str(kind.element)]
    if mask is None:
        return builder.load(pointer, align=bytes_) if value is None else builder.store(value, pointer, align=bytes_)
    letter = "i" if isinstance(kind.element, ir.IntType) else "f"
    align, suffix = ir.Constant(ir.IntType(32), bytes_), f"v{kind.count}{letter}{8 * bytes_}.p0"
    if value is None:
        args, result, what = [pointer, align, mask, other or ir.Constant(kind, None)], kind, "load"
    else:
        args, result, what = [value, pointer, align, mask], ir.VoidType(), "store"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(result, [x.type for x in args]), f"llvm.masked.{what}.{suffix}"
    )
    return builder.call(function, args)


def in_vectors(builder, lanes, n, take):
    """Call ``take(first, mask)`` for every ``lanes`` of ``n`` elements, and with a mask for those that are left.

    ``first`` is the number of the first element, an int64; the mask is None for whole vectors.
    """
    count = ir.Constant(n.type, lanes)
    whole = builder.sdiv(n, count)
    with cgutils.for_range(builder, whole) as loop:
        take(builder.mul(loop.index, count), None)
    done = builder.mul(whole, count)
    left = builder.sub(n, done)
    with builder.if_then(builder.icmp_signed(">", left, ir.Constant(n.type, 0))):
        take(done, first_lanes(builder, lanes, left))


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


NEAREST, NEAR = 3, 2
"""LLVM's names of the caches of the first and the second level."""


def prefetch(builder, place, level=NEAR):
    """Ask for the cache line at a place, which need not exist, to be brought to a cache."""
    i32 = ir.IntType(32)
    pointer = builder.inttoptr(place, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [pointer, ir.Constant(i32, 0), ir.Constant(i32, level), ir.Constant(i32, 1)])


@intrinsic
def copy_lanes(typingctx, real, source, n, target):
    """Copy ``n`` numbers of a dtype from an address to another; the last of them with a mask."""
    dtype = real.instance_type
    bytes_ = dtype.bitwidth // 8

    def codegen(context, builder, signature, args):
        kind, i64 = vector(context, dtype), ir.IntType(64)
        _, source, n, target = args

        def copy(first, mask):
            at = builder.mul(first, ir.Constant(i64, bytes_))
            value = access(builder, kind, builder.add(source, at), mask)
            access(builder, kind, builder.add(target, at), mask, value)

        in_vectors(builder, kind.count, n, copy)
        return context.get_dummy_value()

    return types.void(real, *(types.int64,) * 3), codegen


SUMMED = 8
"""Rows that `add_rows` adds pairwise before they go to the sum."""


@intrinsic
def add_rows(typingctx, real, source, stride, rows, n, target):
    """Add to a vector of ``n`` numbers the sums over rows of as many columns; ``stride`` in elements.

    More than a vector's lanes are not looked at. Each column is summed in the same order, wherever it lies in the
    vector.
    """
    dtype = real.instance_type
    bytes_ = dtype.bitwidth // 8

    def codegen(context, builder, signature, args):
        kind, i64 = vector(context, dtype), ir.IntType(64)
        _, source, stride, rows, n, target = args
        stride = builder.mul(stride, ir.Constant(i64, bytes_))
        mask = first_lanes(builder, kind.count, n)
        total = cgutils.alloca_once_value(builder, access(builder, kind, target, mask))

        def add(first, count):
            rows = (builder.add(first, ir.Constant(i64, i)) for i in range(count))
            values = [access(builder, kind, builder.add(source, builder.mul(r, stride)), mask) for r in rows]
            while len(values) > 1:
                values = [builder.fadd(a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
            builder.store(builder.fadd(builder.load(total), values[0]), total)

        several = ir.Constant(i64, SUMMED)
        whole = builder.sdiv(rows, several)
        with cgutils.for_range(builder, whole) as loop:
            add(builder.mul(loop.index, several), SUMMED)
        done = builder.mul(whole, several)
        with cgutils.for_range(builder, builder.sub(rows, done)) as loop:
            add(builder.add(done, loop.index), 1)
        access(builder, kind, target, mask, builder.load(total))
        return context.get_dummy_value()

    return types.void(real, *(types.int64,) * 5), codegen


def _shuffled(builder, rows):
    """Return the columns of a square block of vectors: its off-diagonal halves change places, then those of halves."""
    lanes, i32 = len(rows), ir.IntType(32)
    half = lanes // 2
    while half:
        low = [j if not j & half else lanes + j - half for j in range(lanes)]
        high = [j + half if not j & half else lanes + j for j in range(lanes)]
        low, high = (ir.Constant(ir.VectorType(i32, lanes), order) for order in (low, high))
        for i in range(lanes):
            if not i & half:
                a, b = rows[i], rows[i + half]
                rows[i], rows[i + half] = builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)
        half //= 2
    return rows


def _transposition(to_rows):
    """Return an intrinsic that writes a square block of ``lanes`` x ``lanes`` numbers transposed.

    One side of it is rows that belong to somebody else, of which there are no more than ``last + 1``, and of which
    ``n`` numbers may be looked at or written; the other is columns of whole vectors.
    """

    @intrinsic
    def transpose(typingctx, real, source, stride, last, n, target, target_stride):
        dtype = real.instance_type
        bytes_ = dtype.bitwidth // 8
        i64 = ir.IntType(64)

        def codegen(context, builder, signature, args):
            kind = vector(context, dtype)
            source, stride, last, n, target, target_stride = args[1:]
            mask = first_lanes(builder, kind.count, n)

            def place(base, stride, number):
                return builder.add(base, builder.mul(number, builder.mul(stride, ir.Constant(i64, bytes_))))

            every = [ir.Constant(i64, i) for i in range(kind.count)]
            there = [builder.select(builder.icmp_signed("<", i, last), i, last) for i in every]
            given, masked = (every, None) if to_rows else (there, mask)
            rows = [access(builder, kind, place(source, stride, i), masked) for i in given]
            columns = _shuffled(builder, rows)
            given, masked = (there, mask) if to_rows else (every, None)
            for i, column in reversed(list(zip(given, columns, strict=True))):  # the last row's own comes last
                access(builder, kind, place(target, target_stride, i), masked, column)
            return context.get_dummy_value()

        return types.void(real, *(types.int64,) * 6), codegen

    return transpose


transpose_from_rows, transpose_to_rows = _transposition(False), _transposition(True)
