"""Softmax, its masked form and its logarithm for flat blocks of rows.

Rows narrower than `WIDE` come in blocks: what is done to each element runs over the whole block, with no tail per row,
and rows.py gives the rows' maxima and sums. Wide rows are taken one by one.
"""

import math

import numpy as np

from mlpx_kernels.cpu.loops.reductions import SPARE, row_max, row_sums, row_tops, spread
from mlpx_kernels.cpu.lowlevel.compile import inlined
from mlpx_kernels.cpu.lowlevel.mathematics import exp, log
from mlpx_kernels.cpu.lowlevel.memory import alloc_scratch, free_scratch

BLOCK = 2048
"""Elements per block: four such arrays of float32 fit in a core's first-level cache."""
WIDE = 256
"""Rows from this width on are taken one by one."""
GROUP = 16
"""A block's rows are a multiple of this, and so of every vector's lanes."""


@inlined
def rows_per_block(width):
    """Return how many rows make a block."""
    return max(1, BLOCK // width // GROUP) * GROUP


@inlined
def scratch(x, n, c):
    """Return scratch memory, and in it two arrays for n * c numbers of x's dtype and `SPARE` more, and one for n."""
    size = n * c + SPARE
    whole = alloc_scratch(2 * size + n, x.dtype.type)
    return whole, whole[:size], whole[size : 2 * size], whole[2 * size :]


@inlined
def wide_softmax_row(a, b):
    """Write the softmax of one row: the exponential and its sum in one pass, tails do not weigh."""
    top, total = row_max(a), a.dtype.type(0.0)
    for j in range(a.size):
        e = exp(a[j] - top)
        b[j] = e
        total += e
    inverse = a.dtype.type(1.0) / total
    for j in range(a.size):
        b[j] *= inverse


@inlined
def exponentials(x, e, each, number, n, c):
    """Write ``exp(x - row maximum)`` of n rows to ``e`` and their sums to ``number``.

    ``each`` keeps the maximum of its row for each element. No array may be another: LLVM would take the scalar loop.
    """
    row_tops(x, number, n, c)
    spread(number, each, n, c)
    for i in range(n * c):
        e[i] = exp(x[i] - each[i])
    row_sums(e, number, n, c)


@inlined
def finish(e, y, number, each, n, c):
    """Write the exponentials ``e`` of n rows, divided by their sums, to ``y``; ``number`` goes from sums to 1 / sum."""
    one = y.dtype.type(1.0)
    for r in range(n):
        number[r] = one / number[r]
    spread(number, each, n, c)
    for i in range(n * c):
        y[i] = e[i] * each[i]


@inlined
def softmax_rows(x, y, rows, c):
    """Write the softmax of each row of the flat block ``x`` (rows * c) to ``y``; ``y`` may be ``x``."""
    if c >= WIDE:
        for r in range(rows):
            wide_softmax_row(x[r * c : (r + 1) * c], y[r * c : (r + 1) * c])
        return
    step = rows_per_block(c)
    whole, e, each, number = scratch(x, step, c)
    for start in range(0, rows, step):
        n = min(step, rows - start)
        exponentials(x[start * c : (start + n) * c], e, each, number, n, c)
        finish(e, y[start * c : (start + n) * c], number, each, n, c)
    free_scratch(whole)


@inlined
def allows_nothing(mask):
    """Return whether a row's mask is all False."""
    found = False
    for j in range(mask.size):
        found |= mask[j] != 0
    return not found


@inlined
def wide_masked_softmax_row(a, m, b):
    """Write the softmax over the allowed classes of one row."""
    zero, lowest = b.dtype.type(0.0), b.dtype.type(-np.inf)
    for j in range(a.size):
        v = a[j]
        b[j] = v if m[j] else lowest
    top, total = row_max(b), zero
    for j in range(b.size):
        e = exp(b[j] - top)
        b[j] = e
        total += e
    inverse = b.dtype.type(1.0) / total
    if total != total and allows_nothing(m):
        for j in range(b.size):
            b[j] = zero
        return
    for j in range(b.size):
        b[j] *= inverse


@inlined
def masked_softmax_rows(x, mask, y, rows, c):
    """Write the softmax over the allowed classes of each row; ``mask`` (rows * c) is bool.

    What is forbidden counts as -inf. (A load behind a condition would keep a loop scalar: first the number is read,
    then it is chosen.) A row of nothing but -inf gives NaN, and only then it matters whether any of it is allowed.
    """
    zero, lowest = x.dtype.type(0.0), x.dtype.type(-np.inf)
    if c >= WIDE:
        for r in range(rows):
            here = slice(r * c, (r + 1) * c)
            wide_masked_softmax_row(x[here], mask[here], y[here])
        return
    step = rows_per_block(c)
    whole, e, each, number = scratch(x, step, c)
    for start in range(0, rows, step):
        n = min(step, rows - start)
        here = slice(start * c, (start + n) * c)
        xs, ys, ms = x[here], y[here], mask[here]
        for i in range(n * c):
            v = xs[i]
            ys[i] = v if ms[i] else lowest
        exponentials(ys, e, each, number, n, c)
        finish(e, ys, number, each, n, c)
        for r in range(n):
            if number[r] != number[r] and allows_nothing(ms[r * c : (r + 1) * c]):
                for i in range(r * c, (r + 1) * c):
                    ys[i] = zero
    free_scratch(whole)


@inlined
def wide_log_softmax_row(a, b):
    """Write the logarithm of the softmax of one row."""
    real = a.dtype.type
    top, total = row_max(a), real(0.0)
    for j in range(a.size):
        total += exp(a[j] - top)
    shift = real(math.log(total))
    for j in range(a.size):
        b[j] = (a[j] - top) - shift


@inlined
def log_softmax_rows(x, y, rows, c):
    """Write the logarithm of the softmax of each row of the flat block ``x`` (rows * c) to ``y``."""
    if c >= WIDE:
        for r in range(rows):
            wide_log_softmax_row(x[r * c : (r + 1) * c], y[r * c : (r + 1) * c])
        return
    step = rows_per_block(c)
    whole, e, each, number = scratch(x, step, c)
    for start in range(0, rows, step):
        n = min(step, rows - start)
        xs, ys = x[start * c : (start + n) * c], y[start * c : (start + n) * c]
        exponentials(xs, e, each, number, n, c)
        for r in range(n):
            number[r] = log(number[r])
        spread(number, e, n, c)
        for i in range(n * c):
            ys[i] = (xs[i] - each[i]) - e[i]
    free_scratch(whole)
