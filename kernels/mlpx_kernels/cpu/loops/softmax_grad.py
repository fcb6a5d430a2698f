"""Gradients of softmax, its masked form and its logarithm for flat blocks of rows.

Rows up to `WIDE` are taken in whole vectors, their ends under a mask, for LLVM would take the end of each row in scalar
steps. What lies a page ahead is asked for: the processor's own look-ahead ends with each page.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mlpx_kernels.cpu.loops.softmax_forward import WIDE
from mlpx_kernels.cpu.lowlevel.compile import inlined
from mlpx_kernels.cpu.lowlevel.mathematics import exp
from mlpx_kernels.cpu.lowlevel.memory import size_of
from mlpx_kernels.cpu.lowlevel.simd import VECTOR_BYTES, access, in_vectors, lane_sum, prefetch, splat, vector

AHEAD = 4096
"""Bytes from what is read to what is asked for."""


def _row_gradient(masked):
    """Return the intrinsic that writes ``out = p (d - sum d p)`` for a row, where allowed, and 0 elsewhere."""

    @intrinsic
    def gradient(typingctx, real, d, p, allowed, out, c):
        i64 = ir.IntType(64)

        def codegen(context, builder, signature, args):
            kind = vector(context, real.instance_type)
            d, p, allowed, out, c = args[1:]
            zero, flags = ir.Constant(kind, None), ir.VectorType(ir.IntType(8), kind.count)
            total = cgutils.alloca_once_value(builder, zero)

            def read(j, mask):
                at = builder.mul(j, ir.Constant(i64, VECTOR_BYTES // kind.count))
                places = builder.add(d, at), builder.add(p, at)
                return at, places, [access(builder, kind, place, mask) for place in places]

            def chosen(value, j, mask):
                if not masked:
                    return value
                flag = access(builder, flags, builder.add(allowed, j), mask)
                return builder.select(builder.icmp_unsigned("!=", flag, ir.Constant(flags, None)), value, zero)

            def add(j, mask):
                _, places, (dy, y) = read(j, mask)
                for place in places:
                    prefetch(builder, builder.add(place, ir.Constant(i64, AHEAD)))
                term = chosen(builder.fmul(dy, y, flags=("contract",)), j, mask)
                builder.store(builder.fadd(builder.load(total), term, flags=("contract",)), total)

            in_vectors(builder, kind.count, c, add)
            sum_ = splat(builder, kind, lane_sum(builder, builder.load(total)))

            def write(j, mask):
                at, _, (dy, y) = read(j, mask)
                dx = chosen(builder.fmul(y, builder.fsub(dy, sum_)), j, mask)
                access(builder, kind, builder.add(out, at), mask, dx)

            in_vectors(builder, kind.count, c, write)
            return context.get_dummy_value()

        return types.void(real, *(types.int64,) * 5), codegen

    return gradient


_gradient, _masked_gradient = _row_gradient(False), _row_gradient(True)


@inlined
def softmax_grad_rows(dy, y, dx, rows, c):
    """Write ``dx = y (dy - sum dy y)`` for each row."""
    real = dy.dtype.type
    for r in range(rows):
        if c < WIDE:
            at = r * c * size_of(real)
            _gradient(real, dy.ctypes.data + at, y.ctypes.data + at, 0, dx.ctypes.data + at, c)
            continue
        d, p, out = dy[r * c : (r + 1) * c], y[r * c : (r + 1) * c], dx[r * c : (r + 1) * c]
        total = real(0.0)
        for j in range(c):
            total += d[j] * p[j]
        for j in range(c):
            out[j] = p[j] * (d[j] - total)


@inlined
def masked_softmax_grad_rows(dy, y, mask, dx, rows, c):
    """Write `softmax_grad_rows` where allowed and 0 elsewhere, whatever a forbidden ``dy`` is."""
    real = dy.dtype.type
    zero = real(0.0)
    for r in range(rows):
        if c < WIDE:
            at = r * c * size_of(real)
            places = dy.ctypes.data + at, y.ctypes.data + at, mask.ctypes.data + r * c, dx.ctypes.data + at
            _masked_gradient(real, *places, c)
            continue
        d, p, out = dy[r * c : (r + 1) * c], y[r * c : (r + 1) * c], dx[r * c : (r + 1) * c]
        m = mask[r * c : (r + 1) * c]
        total = zero
        for j in range(c):
            v = d[j] * p[j]  # read first, then chosen: a load behind a condition would keep the loop scalar
            total += v if m[j] else zero
        for j in range(c):
            v = p[j] * (d[j] - total)
            out[j] = v if m[j] else zero


@inlined
def log_softmax_grad_rows(dy, y, dx, rows, c):
    """Write ``dx = dy - exp(y) sum dy`` for each row."""
    for r in range(rows):
        d, p, out = dy[r * c : (r + 1) * c], y[r * c : (r + 1) * c], dx[r * c : (r + 1) * c]
        total = dy.dtype.type(0.0)
        for j in range(c):
            total += d[j]
        for j in range(c):
            out[j] = d[j] - exp(p[j]) * total
