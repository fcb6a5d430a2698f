"""Row-wise softmax and its kin.

Narrow rows are taken side by side (narrow.py), those of middle width in blocks: the exponential then runs over the
whole block, with no tail per row. The maximum of a wide row is found over order-preserving integers, since LLVM will
not vectorise a float maximum.
"""

import math

import numpy as np
from numba import types
from numba.extending import overload

from mlpx_kernels.cpu.activation import real_array
from mlpx_kernels.cpu.compile import inlined, kernel
from mlpx_kernels.cpu.mathematics import JIT, bits_of, exp, float_of
from mlpx_kernels.cpu.narrow import NARROW, narrow_softmax_rows
from mlpx_kernels.cpu.threads import share_rows

BLOCK = 4096
"""Elements per block: three such float32 arrays fit in a core's first-level cache."""
WIDE = 256
"""Rows from this width on are taken one by one; between the two, the exponential runs over blocks of rows."""


@inlined
def row_max(x):
    """Return the largest element of a row; NaN counts as above or below everything and comes out later, in the sum."""
    if x.size <= NARROW:
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


@inlined
def rows_per_block(width):
    """Return how many rows make a block."""
    return max(1, BLOCK // width)


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
def softmax_rows(x, y, rows, c):
    """Write the softmax of each row of the flat block ``x`` (rows * c) to ``y``; ``y`` may be ``x``."""
    one = x.dtype.type(1.0)
    if c <= NARROW:
        narrow_softmax_rows(x, y, rows, c)
        return
    if c >= WIDE:
        for r in range(rows):
            wide_softmax_row(x[r * c : (r + 1) * c], y[r * c : (r + 1) * c])
        return
    step = rows_per_block(c)
    for start in range(0, rows, step):
        n = min(step, rows - start)
        xs, ys = x[start * c : (start + n) * c], y[start * c : (start + n) * c]
        for r in range(n):
            a, b = xs[r * c : (r + 1) * c], ys[r * c : (r + 1) * c]
            top = row_max(a)
            for j in range(c):
                b[j] = a[j] - top
        for i in range(n * c):
            ys[i] = exp(ys[i])
        for r in range(n):
            b = ys[r * c : (r + 1) * c]
            total = x.dtype.type(0.0)
            for j in range(c):
                total += b[j]
            inverse = one / total
            for j in range(c):
                b[j] *= inverse


@inlined
def masked_softmax_rows(x, mask, y, rows, c):
    """Write the softmax over the allowed classes of each row; ``mask`` (rows * c) is bool."""
    real = x.dtype.type
    zero, lowest = real(0.0), real(-np.inf)
    step = rows_per_block(c)
    for start in range(0, rows, step):
        n = min(step, rows - start)
        xs, ys = x[start * c : (start + n) * c], y[start * c : (start + n) * c]
        ms = mask[start * c : (start + n) * c]
        for r in range(n):
            a, b, m = xs[r * c : (r + 1) * c], ys[r * c : (r + 1) * c], ms[r * c : (r + 1) * c]
            for j in range(c):
                b[j] = a[j] if m[j] else lowest
            top = row_max(b)
            any_allowed = False
            for j in range(c):
                any_allowed |= m[j]
            top = top if any_allowed else zero
            for j in range(c):
                b[j] = b[j] - top
        for i in range(n * c):
            ys[i] = exp(ys[i]) if ms[i] else zero
        for r in range(n):
            b, m = ys[r * c : (r + 1) * c], ms[r * c : (r + 1) * c]
            total = zero
            any_allowed = False
            for j in range(c):
                total += b[j]
                any_allowed |= m[j]
            inverse = real(1.0) / total if any_allowed else zero
            for j in range(c):
                b[j] *= inverse


@inlined
def log_softmax_rows(x, y, rows, c):
    """Write the logarithm of the softmax of each row of the flat block ``x`` (rows * c) to ``y``."""
    real = x.dtype.type
    for r in range(rows):
        a, b = x[r * c : (r + 1) * c], y[r * c : (r + 1) * c]
        top = row_max(a)
        total = real(0.0)
        for j in range(c):
            total += exp(a[j] - top)
        shift = real(math.log(total))
        for j in range(c):
            b[j] = (a[j] - top) - shift


@inlined
def softmax_grad_rows(dy, y, dx, rows, c):
    """Write ``dx = y (dy - sum dy y)`` for each row."""
    for r in range(rows):
        d, p, out = dy[r * c : (r + 1) * c], y[r * c : (r + 1) * c], dx[r * c : (r + 1) * c]
        total = dy.dtype.type(0.0)
        for j in range(c):
            total += d[j] * p[j]
        for j in range(c):
            out[j] = p[j] * (d[j] - total)


@inlined
def masked_softmax_grad_rows(dy, y, mask, dx, rows, c):
    """Write `softmax_grad_rows` where allowed and 0 elsewhere, never looking at a forbidden ``dy``."""
    zero = dy.dtype.type(0.0)
    for r in range(rows):
        d, p, out = dy[r * c : (r + 1) * c], y[r * c : (r + 1) * c], dx[r * c : (r + 1) * c]
        m = mask[r * c : (r + 1) * c]
        total = zero
        for j in range(c):
            total += d[j] * p[j] if m[j] else zero
        for j in range(c):
            out[j] = p[j] * (d[j] - total) if m[j] else zero


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


@kernel
def run_softmax(x, y, rows, c):
    """Compiled entry point of `softmax_rows`."""
    softmax_rows(x, y, rows, c)


@kernel
def run_masked_softmax(x, mask, y, rows, c):
    """Compiled entry point of `masked_softmax_rows`."""
    masked_softmax_rows(x, mask, y, rows, c)


@kernel
def run_log_softmax(x, y, rows, c):
    """Compiled entry point of `log_softmax_rows`."""
    log_softmax_rows(x, y, rows, c)


@kernel
def run_softmax_grad(dy, y, dx, rows, c):
    """Compiled entry point of `softmax_grad_rows`."""
    softmax_grad_rows(dy, y, dx, rows, c)


@kernel
def run_masked_softmax_grad(dy, y, mask, dx, rows, c):
    """Compiled entry point of `masked_softmax_grad_rows`."""
    masked_softmax_grad_rows(dy, y, mask, dx, rows, c)


@kernel
def run_log_softmax_grad(dy, y, dx, rows, c):
    """Compiled entry point of `log_softmax_grad_rows`."""
    log_softmax_grad_rows(dy, y, dx, rows, c)


def _rowwise(compiled, arrays, masks=(), *, name):
    """Call a compiled row function on blocks of rows, over the threads; return its output array."""
    given = [real_array(a, name=name) for a in arrays]
    out = np.empty(given[0].shape, given[0].dtype)
    c = out.shape[-1]
    flat = [a.reshape(-1) for a in (*given, *(np.ascontiguousarray(m) for m in masks), out)]

    def some(start, stop):
        compiled(*(a[start * c : stop * c] for a in flat), stop - start, c)

    share_rows(some, out.size // c, out.size)
    return out


def softmax(x):
    """One read and one write of each element beyond the cache; sums in the dtype of x, in blocks of vector width."""
    return _rowwise(run_softmax, (x,), name="softmax")


def softmax_grad(dy, y):
    """One pass; each row stays in cache between its sum and its result."""
    return _rowwise(run_softmax_grad, (dy, y), name="softmax_grad")


def masked_softmax(x, mask):
    """As `softmax`; forbidden logits are replaced before anything is computed from them."""
    return _rowwise(run_masked_softmax, (x,), (mask,), name="masked_softmax")


def masked_softmax_grad(dy, y, mask):
    """One pass, forward's mask again."""
    return _rowwise(run_masked_softmax_grad, (dy, y), (mask,), name="masked_softmax_grad")


def log_softmax(x):
    """The exponentials are summed without being stored; one logarithm a row."""
    return _rowwise(run_log_softmax, (x,), name="log_softmax")


def log_softmax_grad(dy, y):
    """One pass."""
    return _rowwise(run_log_softmax_grad, (dy, y), name="log_softmax_grad")
