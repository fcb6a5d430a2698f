"""Products with few outputs, or of a single row: sums along both rows at once, in vector registers.

Where there are too few columns to fill a tile's vectors (product.py), the vectors run along the sum instead. Some rows
of each operand are taken at a time, so that every vector that is loaded takes part in several products.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mlpx_kernels.cpu.compile import merged
from mlpx_kernels.cpu.memory import size_of
from mlpx_kernels.cpu.vectors import MANY_REGISTERS, access, in_vectors, lane_sum, prefetch, vector


def _dot_tile(rows, outputs):
    """Return the intrinsic for ``rows`` rows of a by ``outputs`` rows of b; those beyond the last repeat it."""

    @intrinsic
    def tile(typingctx, real, a, lda, last_a, b, ldb, last_b, c, step_a, step_b, k, ahead):
        dtype = real.instance_type
        bytes_ = dtype.bitwidth // 8
        i64 = ir.IntType(64)

        def codegen(context, builder, signature, args):
            kind = vector(context, dtype)
            a, lda, last_a, b, ldb, last_b, c, step_a, step_b, k, ahead = args[1:]
            size = ir.Constant(i64, bytes_)

            def places(base, stride, last, count):
                numbers = [ir.Constant(i64, i) for i in range(count)]
                numbers = [builder.select(builder.icmp_signed("<", i, last), i, last) for i in numbers]
                return numbers, [builder.add(base, builder.mul(builder.mul(i, stride), size)) for i in numbers]

            numbers_a, rows_a = places(a, lda, last_a, rows)
            numbers_b, rows_b = places(b, ldb, last_b, outputs)
            zero = ir.Constant(kind, None)
            sums = [[cgutils.alloca_once_value(builder, zero) for _ in rows_b] for _ in rows_a]

            def add(first, mask):
                at = builder.mul(first, size)
                if mask is None:
                    for row in rows_a:
                        prefetch(builder, builder.add(builder.add(row, at), ahead))
                xs = [access(builder, kind, builder.add(row, at), mask) for row in rows_a]
                for j, row in enumerate(rows_b):
                    y = access(builder, kind, builder.add(row, at), mask)
                    for i, x in enumerate(xs):
                        product = builder.fmul(x, y, flags=("contract",))
                        total = builder.fadd(builder.load(sums[i][j]), product, flags=("contract",))
                        builder.store(total, sums[i][j])

            in_vectors(builder, kind.count, k, add)
            for i, row in enumerate(sums):
                for j, place in enumerate(row):
                    at = builder.add(builder.mul(numbers_a[i], step_a), builder.mul(numbers_b[j], step_b))
                    out = builder.inttoptr(builder.add(c, builder.mul(at, size)), kind.element.as_pointer())
                    builder.store(lane_sum(builder, builder.load(place)), out)
            return context.get_dummy_value()

        return types.void(real, *(types.int64,) * 11), codegen

    return tile


ROWS, OUTPUTS = (4 if MANY_REGISTERS else 2), 5
LONE = 8
"""Rows of weights at a time for a single row of inputs."""
_BLOCK, _LONE = _dot_tile(ROWS, OUTPUTS), _dot_tile(LONE, 1)


@merged
def dots(real, a, b, c, m, n, k, lda, ldb, ldc):
    """Write ``c (m, n) = a (m, k) @ b (n, k).T``; addresses, and strides in elements."""
    size = size_of(real)
    for r in range(0, m, ROWS):
        for o in range(0, n, OUTPUTS):
            x, y, z = a + r * lda * size, b + o * ldb * size, c + (r * ldc + o) * size
            ahead = ROWS * lda * size if o + OUTPUTS >= n else 0
            _BLOCK(real, x, lda, m - 1 - r, y, ldb, n - 1 - o, z, ldc, 1, k, ahead)


@merged
def lone_row(real, a, b, c, n, k, ldb):
    """Write ``c (n,) = b (n, k) @ a (k,)``; addresses, and a stride in elements."""
    size = size_of(real)
    for o in range(0, n, LONE):
        _LONE(real, b + o * ldb * size, ldb, n - 1 - o, a, 0, 0, c + o * size, 1, 0, k, 0)
