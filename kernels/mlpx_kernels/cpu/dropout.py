"""Dropout masks by Philox 4x32-10, many counters side by side."""

import math

import numpy as np

from mlpx_kernels.cpu.lowlevel.arrays import real_array
from mlpx_kernels.cpu.lowlevel.compile import inlined, kernel
from mlpx_kernels.cpu.lowlevel.memory import alloc_scratch, free_scratch
from mlpx_kernels.cpu.threading.parallel_rows import share_rows

BLOCK = 4096
"""Elements whose factors are drawn and used while they are in the first-level cache."""
LANES = 64
"""Counters at once: their words take 1 KB."""
LOW, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)


@inlined
def philox_words(block, layer, step, seed, words):
    """Write the words of counters ``block`` … ``block + LANES - 1`` to ``words`` (4 * LANES).

    Whole rounds in one body: LLVM takes a vector of counters through all ten in registers. 32-bit words are held in
    uint64, as the products need them.
    """
    first, second = words[:LANES], words[LANES : 2 * LANES]
    third, fourth = words[2 * LANES : 3 * LANES], words[3 * LANES : 4 * LANES]
    for i in range(LANES):
        c0, c1 = np.uint64(block + i) & LOW, np.uint64(layer)
        c2, c3 = np.uint64(step) & LOW, np.uint64(step) >> SHIFT
        k0, k1 = np.uint64(seed) & LOW, np.uint64(seed) >> SHIFT
        for _ in range(10):
            p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
            c0, c1, c2, c3 = (p1 >> SHIFT) ^ c1 ^ k0, p1 & LOW, (p0 >> SHIFT) ^ c3 ^ k1, p0 & LOW
            k0, k1 = (k0 + np.uint64(0x9E3779B9)) & LOW, (k1 + np.uint64(0xBB67AE85)) & LOW
        first[i], second[i], third[i], fourth[i] = c0, c1, c2, c3


@inlined
def dropout_factors(factor, first, p, seed, step, layer):
    """Write 0 (dropped) or 1 / (1 - p) to ``factor`` for the elements with flat index ``first``, ``first + 1``, …"""
    real = factor.dtype.type
    below = np.uint64(round(p * 4294967296.0))
    scale, zero = real(1.0 / (1.0 - p)), real(0.0)
    done, words = 0, alloc_scratch(4 * LANES, np.uint64)
    w0, w1 = words[:LANES], words[LANES : 2 * LANES]
    w2, w3 = words[2 * LANES : 3 * LANES], words[3 * LANES :]
    while done < factor.size:
        index = first + done
        block = index // 4
        philox_words(block, layer, step, seed, words)
        skip = index - 4 * block
        n = min(4 * LANES - skip, factor.size - done)
        part = factor[done : done + n]
        if n == 4 * LANES:
            for i in range(LANES):
                part[4 * i] = scale if w0[i] >= below else zero
                part[4 * i + 1] = scale if w1[i] >= below else zero
                part[4 * i + 2] = scale if w2[i] >= below else zero
                part[4 * i + 3] = scale if w3[i] >= below else zero
        else:
            for i in range(n):
                j = skip + i
                part[i] = scale if words[(j & 3) * LANES + (j >> 2)] >= below else zero
        done += n
    free_scratch(words)


@inlined
def multiply_kept(x, factor, y):
    """Write ``y = x * factor``, and exactly 0 where the factor is 0, even for NaN."""
    zero = x.dtype.type(0.0)
    for i in range(x.size):
        y[i] = x[i] * factor[i] if factor[i] != zero else zero


@kernel
def run_dropout(x, y, first, p, seed, step, layer):
    """Compiled entry point: dropout of a flat array that begins at index ``first``, factors in ``y`` first."""
    zero = x.dtype.type(0.0)
    for start in range(0, x.size, BLOCK):
        a, b = x[start : start + BLOCK], y[start : start + BLOCK]
        dropout_factors(b, first + start, p, seed, step, layer)
        for i in range(a.size):
            b[i] = a[i] * b[i] if b[i] != zero else zero


def dropout(x, *, p, seed, step=0, layer=0, shared_axes=()):
    """The same mask as the reference, bit for bit; one read of x, one write of y."""
    x = real_array(x, name="dropout")
    seed, step = np.uint64(seed & 0xFFFFFFFFFFFFFFFF), np.uint64(step)
    if not shared_axes:
        y = np.empty(x.shape, x.dtype)
        xs, ys = x.reshape(-1), y.reshape(-1)

        def some(a, b):
            run_dropout(xs[a:b], ys[a:b], a, p, seed, step, layer)

        share_rows(some, x.size, x.size)
        return y
    shared = {axis % x.ndim for axis in shared_axes}
    shape = tuple(1 if axis in shared else size for axis, size in enumerate(x.shape))
    factor = np.empty(shape, x.dtype)
    ones = np.ones(math.prod(shape), x.dtype)
    run_dropout(ones, factor.reshape(-1), 0, p, seed, step, layer)
    with np.errstate(all="ignore"):  # NaN and overflow are results
        return np.where(factor != 0, x * factor, x.dtype.type(0.0))
