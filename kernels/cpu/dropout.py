"""Dropout masks by Philox 4x32-10, many counters side by side."""

import math

import numpy as np

from mlpx_kernels.cpu.activation import real_array
from mlpx_kernels.cpu.compile import inlined, kernel

LANES = 32
"""Counters at once: their words live in registers and in a few cache lines of the stack."""


@inlined
def philox_lanes(block, layer, step, seed, words):
    """Write the words of counters ``block`` … ``block + LANES - 1`` to ``words`` (4, LANES), uint32 held in uint64."""
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    m0, m1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
    c0, c1, c2, c3 = words[0], words[1], words[2], words[3]
    for i in range(LANES):
        c0[i] = np.uint64(block + i) & low
        c1[i] = np.uint64(layer)
        c2[i] = np.uint64(step) & low
        c3[i] = np.uint64(step) >> shift
    k0, k1 = np.uint64(seed) & low, np.uint64(seed) >> shift
    for _ in range(10):
        for i in range(LANES):
            p0, p1 = c0[i] * m0, c2[i] * m1
            a = (p1 >> shift) ^ c1[i] ^ k0
            c = (p0 >> shift) ^ c3[i] ^ k1
            c0[i] = a
            c1[i] = p1 & low
            c2[i] = c
            c3[i] = p0 & low
        k0 = (k0 + np.uint64(0x9E3779B9)) & low
        k1 = (k1 + np.uint64(0xBB67AE85)) & low


@inlined
def dropout_factors(factor, first, p, seed, step, layer, words):
    """Write 0 (dropped) or 1 / (1 - p) to ``factor`` for the elements with flat index ``first``, ``first + 1``, …"""
    real = factor.dtype.type
    below = np.uint64(round(p * 4294967296.0))
    scale, zero = real(1.0 / (1.0 - p)), real(0.0)
    size = factor.size
    done = 0
    while done < size:
        index = first + done
        block = index // (4 * LANES) * LANES
        philox_lanes(block, layer, step, seed, words)
        skip = index - 4 * block
        n = min(4 * LANES - skip, size - done)
        part = factor[done : done + n]
        for i in range(n):
            j = np.uint64(skip + i)
            part[i] = scale if words[j & np.uint64(3), j >> np.uint64(2)] >= below else zero
        done += n


@inlined
def multiply_kept(x, factor, y):
    """Write ``y = x * factor``, and exactly 0 where the factor is 0, even for NaN."""
    zero = x.dtype.type(0.0)
    for i in range(x.size):
        y[i] = x[i] * factor[i] if factor[i] != zero else zero


@kernel
def run_dropout(x, y, p, seed, step, layer):
    """Compiled entry point: dropout of a flat array, factors in ``y`` first."""
    words = np.empty((4, LANES), np.uint64)
    dropout_factors(y, 0, p, seed, step, layer, words)
    multiply_kept(x, y, y)


def dropout(x, *, p, seed, step=0, layer=0, shared_axes=()):
    """The same mask as the reference, bit for bit."""
    x = real_array(x, name="dropout")
    seed = np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
    if not shared_axes:
        y = np.empty(x.shape, x.dtype)
        run_dropout(x.reshape(-1), y.reshape(-1), p, seed, step, layer)
        return y
    shared = {axis % x.ndim for axis in shared_axes}
    shape = tuple(1 if axis in shared else size for axis, size in enumerate(x.shape))
    factor = np.empty(shape, x.dtype)
    ones = np.ones(math.prod(shape), x.dtype)
    run_dropout(ones, factor.reshape(-1), p, seed, step, layer)
    with np.errstate(all="ignore"):  # NaN and overflow are results
        return np.where(factor != 0, x * factor, x.dtype.type(0.0))
