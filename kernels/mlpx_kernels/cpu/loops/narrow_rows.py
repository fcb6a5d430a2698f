"""Narrow rows, side by side: a row of ten leaves most of a vector idle, the same column of sixteen rows fills it.

Rows are turned into columns and back a square block at a time, by shuffles.
"""

from mlpx_kernels.cpu.lowlevel.compile import inlined
from mlpx_kernels.cpu.lowlevel.mathematics import exp
from mlpx_kernels.cpu.lowlevel.memory import size_of
from mlpx_kernels.cpu.lowlevel.simd import VECTOR_BYTES, transpose_from_rows, transpose_to_rows

NARROW = 32
"""Rows up to this width are taken side by side."""
SIDE = 64
"""So many at a time; a multiple of the lanes of a vector."""
COLUMNS = NARROW * SIDE
"""Elements of the columns of so many rows."""


@inlined
def exponentials(x, columns, top, total, n, c):
    """Write ``exp(x - row maximum)`` of ``n`` rows column by column, their maxima and their sums.

    ``columns`` (`COLUMNS`) holds column j from j * SIDE on; ``top`` and ``total`` are (SIDE,).
    """
    real = x.dtype.type
    size = size_of(real)
    lanes = VECTOR_BYTES // size
    for r in range(0, n, lanes):
        for j in range(0, c, lanes):
            source, target = x.ctypes.data + (r * c + j) * size, columns.ctypes.data + (j * SIDE + r) * size
            transpose_from_rows(real, source, c, n - 1 - r, c - j, target, SIDE)
    for r in range(n):
        top[r] = columns[r]
        total[r] = 0.0
    for j in range(1, c):
        column = columns[j * SIDE : j * SIDE + n]
        for r in range(n):
            top[r] = column[r] if column[r] > top[r] else top[r]
    for j in range(c):
        column = columns[j * SIDE : j * SIDE + n]
        for r in range(n):
            e = exp(column[r] - top[r])
            column[r] = e
            total[r] += e


@inlined
def scale(columns, factor, n, c):
    """Multiply each row's numbers in the columns by the row's factor."""
    for j in range(c):
        column = columns[j * SIDE : j * SIDE + n]
        for r in range(n):
            column[r] *= factor[r]


@inlined
def write_rows(columns, y, n, c):
    """Write ``n`` rows of ``y`` from their columns."""
    real = y.dtype.type
    size = size_of(real)
    lanes = VECTOR_BYTES // size
    for j in range(0, c, lanes):
        for r in range(0, n, lanes):
            source, target = columns.ctypes.data + (j * SIDE + r) * size, y.ctypes.data + (r * c + j) * size
            transpose_to_rows(real, source, SIDE, n - 1 - r, c - j, target, c)
