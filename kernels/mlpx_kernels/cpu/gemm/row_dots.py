"""Products with few outputs, or of a single row: sums along both rows at once, in vector registers.

Where there are too few columns to fill a tile's vectors (product.py), the vectors run along the sum instead. Some rows
of each operand are taken at a time, so that every vector that is loaded takes part in several products.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mlpx_kernels.cpu.lowlevel.compile import inlined, merged
from mlpx_kernels.cpu.lowlevel.memory import alloc_scratch, free_scratch, size_of
from mlpx_kernels.cpu.lowlevel.simd import (
    MANY_REGISTERS,
    NEAR,
    NEAREST,
    VECTOR_BYTES,
    access,
    copy_lanes,
    in_vectors,
    lane_sum,
    prefetch,
    vector,
)


def _dot_tile(rows, outputs, cache=None):
    """Return the intrinsic for ``rows`` rows of a by ``outputs`` rows of b; those beyond the last repeat it.

    It goes over a part of the sums: they begin at 0 if that is the ``first``, else with the vectors at ``kept``; after
    the ``last`` they are written to ``c``, else left at ``kept``. It asks for what lies ``ahead`` of the rows of a, to
    be brought to a ``cache``, if one is given.
    """

    @intrinsic
    def tile(typingctx, real, a, lda, last_a, b, ldb, last_b, c, step_a, step_b, k, ahead, kept, first, last):
        dtype = real.instance_type
        bytes_ = dtype.bitwidth // 8
        i64 = ir.IntType(64)

        def codegen(context, builder, signature, args):
            kind = vector(context, dtype)
            a, lda, last_a, b, ldb, last_b, c, step_a, step_b, k, ahead, kept, first, last = args[1:]
            size = ir.Constant(i64, bytes_)

            def places(base, stride, last, count):
                numbers = [ir.Constant(i64, i) for i in range(count)]
                numbers = [builder.select(builder.icmp_signed("<", i, last), i, last) for i in numbers]
                return numbers, [builder.add(base, builder.mul(builder.mul(i, stride), size)) for i in numbers]

            numbers_a, rows_a = places(a, lda, last_a, rows)
            numbers_b, rows_b = places(b, ldb, last_b, outputs)
            pairs = [(i, j) for i in range(rows) for j in range(outputs)]
            vectors = {p: builder.add(kept, ir.Constant(i64, n * VECTOR_BYTES)) for n, p in enumerate(pairs)}
            sums = {p: cgutils.alloca_once_value(builder, ir.Constant(kind, None)) for p in pairs}
            with builder.if_then(builder.not_(cgutils.is_not_null(builder, first))):
                for p in pairs:
                    builder.store(access(builder, kind, vectors[p], None), sums[p])

            def add(first, mask):
                at = builder.mul(first, size)
                if cache is not None and mask is None:
                    for i in range(rows):
                        row = builder.mul(builder.mul(ir.Constant(i64, i), lda), size)
                        prefetch(builder, builder.add(builder.add(a, builder.add(at, ahead)), row), cache)
                xs = [access(builder, kind, builder.add(row, at), mask) for row in rows_a]
                for j, row in enumerate(rows_b):
                    y = access(builder, kind, builder.add(row, at), mask)
                    for i, x in enumerate(xs):
                        product = builder.fmul(x, y, flags=("contract",))
                        total = builder.fadd(builder.load(sums[i, j]), product, flags=("contract",))
                        builder.store(total, sums[i, j])

            in_vectors(builder, kind.count, k, add)
            with builder.if_else(cgutils.is_not_null(builder, last)) as (over, going_on):
                with over:
                    for i, j in pairs:
                        at = builder.add(builder.mul(numbers_a[i], step_a), builder.mul(numbers_b[j], step_b))
                        out = builder.inttoptr(builder.add(c, builder.mul(at, size)), kind.element.as_pointer())
                        builder.store(lane_sum(builder, builder.load(sums[i, j])), out)
                with going_on:
                    for p in pairs:
                        access(builder, kind, vectors[p], None, builder.load(sums[p]))
            return context.get_dummy_value()

        return types.void(real, *(types.int64,) * 14), codegen

    return tile


ROWS, OUTPUTS = (4 if MANY_REGISTERS else 2), 5
LONE = 8
"""Rows of weights at a time for a single row of inputs."""
BLOCK, PART = 64, 2048
"""So many rows go through so many bytes of the weights' rows, which stay in the first-level cache meanwhile; a tile's
rows are read from there for all outputs but the first."""
MANY, NEAR_BYTES = 64, 1 << 19
"""Rows from which on the weights are copied to whole cache lines, since each of them is read so often; if they are no
more than that, and so stay in the second-level cache."""
_TILE, _LAST_TILE, _LONE = _dot_tile(ROWS, OUTPUTS, NEAR), _dot_tile(ROWS, OUTPUTS, NEAREST), _dot_tile(LONE, 1)
FAR = 2 * ROWS
"""Rows ahead that all tiles of outputs but the last ask for, to come to the second-level cache. The last one asks for
the next rows: from memory they would come too late, and the first-level cache has no room for more."""


@inlined
def ahead(count, r, rows, lda, part, start, last):
    """Return how many numbers ahead that row lies which is read ``count`` rows after row ``r`` of a block of ``rows``.

    After a block's last row it is the first one's next part; after the last part, the next block.
    """
    if r + count < rows:
        return count * lda
    return count * lda - start if last else (count - rows) * lda + part


@merged
def dots(real, a, b, c, m, n, k, lda, ldb, ldc):
    """Write ``c (m, n) = a (m, k) @ b (n, k).T``; addresses, and strides in elements.

    While some rows are summed, those that come next are asked for.
    """
    size = size_of(real)
    part = PART // size if 2 * m >= BLOCK else k
    tiles = (n + OUTPUTS - 1) // OUTPUTS
    kept = alloc_scratch(BLOCK * tiles * OUTPUTS * VECTOR_BYTES // size, real)
    copied = m >= MANY and n * k * size <= NEAR_BYTES
    near_b = alloc_scratch(n * ((k + part - 1) // part * part) if copied else 0, real)
    if copied:
        for start in range(0, k, part):
            for o in range(n):
                source, target = b + (o * ldb + start) * size, near_b.ctypes.data + (start * n + o * part) * size
                copy_lanes(real, source, min(part, k - start), target)
    for top in range(0, m, BLOCK):
        rows = min(BLOCK, m - top)
        for start in range(0, k, part):
            width, first, last = min(part, k - start), np.int64(start == 0), np.int64(start + part >= k)
            rows_b, step_b = b + start * size, ldb
            if copied:
                rows_b, step_b = near_b.ctypes.data + start * n * size, part
            for r in range(0, rows, ROWS):
                x = a + ((top + r) * lda + start) * size
                near = ahead(ROWS, r, rows, lda, part, start, last) * size
                far = ahead(FAR, r, rows, lda, part, start, last) * size
                for tile in range(tiles):
                    o = tile * OUTPUTS
                    y, z = rows_b + o * step_b * size, c + ((top + r) * ldc + o) * size
                    at = kept.ctypes.data + (r * tiles + tile * ROWS) * OUTPUTS * VECTOR_BYTES
                    if tile < tiles - 1:
                        _TILE(real, x, lda, rows - 1 - r, y, step_b, n - 1 - o, z, ldc, 1, width, far, at, first, last)
                    else:
                        _LAST_TILE(
                            real, x, lda, rows - 1 - r, y, step_b, n - 1 - o, z, ldc, 1, width, near, at, first, last
                        )
    free_scratch(near_b)
    free_scratch(kept)


@merged
def lone_row(real, a, b, c, n, k, ldb):
    """Write ``c (n,) = b (n, k) @ a (k,)``; addresses, and a stride in elements."""
    size = size_of(real)
    for o in range(0, n, LONE):
        _LONE(real, b + o * ldb * size, ldb, n - 1 - o, a, 0, 0, c + o * size, 1, 0, k, 0, 0, 1, 1)
