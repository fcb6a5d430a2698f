"""Parameter updates: one pass over the flat buffers, no temporaries."""

import math
from functools import cache

import numpy as np
from numba import types
from numba.extending import overload

from mlpx_kernels import Unsupported
from mlpx_kernels.cpu.compile import FASTMATH, inlined, kernel
from mlpx_kernels.cpu.mathematics import JIT
from mlpx_kernels.cpu.threads import share_rows
from mlpx_kernels.updates import CLIP, DECAY, L1, L2, LR, RISE, ROOT, SCALE, STEP, A, B, C, D, Updates, corrections


@inlined
def effective(w, g, scale, clip, l1, l2):
    """Return clip(scale g) + l2 w + l1 sign(w). Written so that NaN stays NaN."""
    e = g * scale
    e = -clip if e < -clip else e
    e = clip if e > clip else e
    e += l2 * w
    return e + l1 if w > 0 else (e - l1 if w < 0 else e)


# One loop for each kind, all with the same arguments: flat ``w`` (k,), its gradient ``g``, two states (unused ones may
# be any array) and the numbers.


@inlined
def shared(numbers, real):
    """Return lr, scale, clip, l1, l2 and 1 - lr * decay in the weights' dtype."""
    return (
        real(numbers[LR]),
        real(numbers[SCALE]),
        real(numbers[CLIP]),
        real(numbers[L1]),
        real(numbers[L2]),
        real(1.0 - numbers[LR] * numbers[DECAY]),
    )


def _sgd(kind, w, g, s1, s2, numbers):
    lr, scale, clip, l1, l2, keep = shared(numbers, w.dtype.type)
    for i in range(w.size):
        w[i] = w[i] * keep - lr * effective(w[i], g[i], scale, clip, l1, l2)


def _momentum(kind, w, g, s1, s2, numbers):
    lr, scale, clip, l1, l2, keep = shared(numbers, w.dtype.type)
    momentum = w.dtype.type(numbers[A])
    for i in range(w.size):
        v = momentum * s1[i] - lr * effective(w[i], g[i], scale, clip, l1, l2)
        s1[i] = v
        w[i] = w[i] * keep + v


def _nesterov(kind, w, g, s1, s2, numbers):
    lr, scale, clip, l1, l2, keep = shared(numbers, w.dtype.type)
    momentum = w.dtype.type(numbers[A])
    for i in range(w.size):
        e = lr * effective(w[i], g[i], scale, clip, l1, l2)
        v = momentum * s1[i] - e
        s1[i] = v
        w[i] = w[i] * keep + (momentum * v - e)


def _adagrad(kind, w, g, s1, s2, numbers):
    lr, scale, clip, l1, l2, keep = shared(numbers, w.dtype.type)
    eps = w.dtype.type(numbers[B])
    for i in range(w.size):
        e = effective(w[i], g[i], scale, clip, l1, l2)
        s = s1[i] + e * e
        s1[i] = s
        w[i] = w[i] * keep - lr * e / (math.sqrt(s) + eps)


def _rmsprop(kind, w, g, s1, s2, numbers):
    real = w.dtype.type
    lr, scale, clip, l1, l2, keep = shared(numbers, real)
    rho, rest, eps = real(numbers[A]), real(1.0 - numbers[A]), real(numbers[B])
    for i in range(w.size):
        e = effective(w[i], g[i], scale, clip, l1, l2)
        s = rho * s1[i] + rest * e * e
        s1[i] = s
        w[i] = w[i] * keep - lr * e / (math.sqrt(s) + eps)


def _adadelta(kind, w, g, s1, s2, numbers):
    real = w.dtype.type
    lr, scale, clip, l1, l2, keep = shared(numbers, real)
    rho, rest, eps = real(numbers[A]), real(1.0 - numbers[A]), real(numbers[B])
    for i in range(w.size):
        e = effective(w[i], g[i], scale, clip, l1, l2)
        s = rho * s1[i] + rest * e * e
        s1[i] = s
        u = math.sqrt(s2[i] + eps) / math.sqrt(s + eps) * e
        s2[i] = rho * s2[i] + rest * u * u
        w[i] = w[i] * keep - lr * u


def _adam(kind, w, g, s1, s2, numbers):
    real = w.dtype.type
    _, scale, clip, l1, l2, keep = shared(numbers, real)
    beta1, rest1 = real(numbers[A]), real(1.0 - numbers[A])
    beta2, rest2 = real(numbers[B]), real(1.0 - numbers[B])
    eps, size, root = real(numbers[C]), real(numbers[LR] * numbers[RISE]), real(numbers[ROOT])
    for i in range(w.size):
        e = effective(w[i], g[i], scale, clip, l1, l2)
        m = beta1 * s1[i] + rest1 * e
        v = beta2 * s2[i] + rest2 * e * e
        s1[i] = m
        s2[i] = v
        w[i] = w[i] * keep - size * m / (math.sqrt(v) * root + eps)


def _rprop(kind, w, g, s1, s2, numbers):
    real = w.dtype.type
    _, scale, clip, l1, l2, keep = shared(numbers, real)
    shrink, grow, smallest, largest = real(numbers[A]), real(numbers[B]), real(numbers[C]), real(numbers[D])
    zero, one = real(0.0), real(1.0)
    for i in range(w.size):
        e = effective(w[i], g[i], scale, clip, l1, l2)
        agree = e * s1[i]
        size = s2[i] * (grow if agree > zero else (shrink if agree < zero else one))
        size = smallest if size < smallest else size
        size = largest if size > largest else size
        e = zero if agree < zero else e
        s2[i] = size
        s1[i] = e
        w[i] = w[i] * keep - (size if e > zero else (-size if e < zero else e))


LOOPS = (_sgd, _momentum, _nesterov, _adagrad, _rmsprop, _adadelta, _adam, _rprop)


def update(kind, w, g, s1, s2, numbers):
    """Take one step by the kind of that code, which must be known at compile time."""


@overload(update, prefer_literal=True, jit_options={**JIT, "fastmath": FASTMATH}, strict=False)
def _update(kind, w, g, s1, s2, numbers):
    return LOOPS[kind.literal_value] if isinstance(kind, types.IntegerLiteral) else None


@cache
def update_loop(kind):
    """Return the compiled ``run(w, g, s1, s2, numbers)`` of one kind of update."""

    @kernel
    def run(w, g, s1, s2, numbers):
        update(kind, w, g, s1, s2, numbers)

    return run


def _run(w, g, states, kind, numbers):
    for array in (w, *states):
        if not array.flags.c_contiguous or array.ndim != 1:
            raise Unsupported("update: the kernels want flat, contiguous arrays")
        if array.dtype not in (np.float32, np.float64):
            raise Unsupported(f"update: dtype {array.dtype}; the CPU kernels are made for float32 and float64")
    numbers[RISE], numbers[ROOT] = corrections(kind, numbers, numbers[STEP])
    s1, s2 = (*states, w, w)[:2]
    g, loop = np.ascontiguousarray(g), update_loop(kind)

    def some(a, b):
        loop(w[a:b], g[a:b], s1[a:b], s2[a:b], numbers)

    share_rows(some, w.size, w.size)


_updates = Updates(_run)
sgd_inplace = _updates.sgd_inplace
momentum_inplace = _updates.momentum_inplace
adagrad_inplace = _updates.adagrad_inplace
rmsprop_inplace = _updates.rmsprop_inplace
adadelta_inplace = _updates.adadelta_inplace
adam_inplace = _updates.adam_inplace
rprop_inplace = _updates.rprop_inplace
