"""Parameter updates: one pass over the flat buffers, no temporaries."""

import math
from functools import cache

from numba import types
from numba.extending import overload

from mlpx_kernels import Unsupported
from mlpx_kernels.cpu.lowlevel.arrays import REALS, flat
from mlpx_kernels.cpu.lowlevel.compile import FASTMATH, inlined, kernel
from mlpx_kernels.cpu.lowlevel.mathematics import JIT
from mlpx_kernels.cpu.threading.parallel_rows import share_rows
from mlpx_kernels.updates import CLIP, DECAY, L1, L2, LR, RISE, ROOT, SCALE, STEP, A, B, C, D, Updates, corrections


@inlined
def effective(w, g, scale, clip, l1, l2):
    """Return clip(scale g) + l2 w + l1 sign(w). Written so that NaN stays NaN."""
    e = g * scale
    e = -clip if e < -clip else e
    e = clip if e > clip else e
    e += l2 * w
    return e + l1 if w > 0 else (e - l1 if w < 0 else e)


@inlined
def constants(numbers, real):
    """Return lr, A, 1 - A, B, 1 - B, C, D, lr with Adam's correction, and its other one, in the weights' dtype."""
    return (
        real(numbers[LR]),
        real(numbers[A]),
        real(1.0 - numbers[A]),
        real(numbers[B]),
        real(1.0 - numbers[B]),
        real(numbers[C]),
        real(numbers[D]),
        real(numbers[LR] * numbers[RISE]),
        real(numbers[ROOT]),
    )


# A rule for each kind: from a gradient, its two states (unused ones may be anything) and `constants` it makes what is
# to be taken from the weight, and the new states.


def _sgd(kind, real, e, s1, s2, fixed):
    return fixed[0] * e, s1, s2


def _momentum(kind, real, e, s1, s2, fixed):
    lr, momentum = fixed[:2]
    v = momentum * s1 - lr * e
    return -v, v, s2


def _nesterov(kind, real, e, s1, s2, fixed):
    lr, momentum = fixed[:2]
    v = momentum * s1 - lr * e
    return lr * e - momentum * v, v, s2


def _adagrad(kind, real, e, s1, s2, fixed):
    lr, _, _, eps = fixed[:4]
    s = s1 + e * e
    return lr * e / (math.sqrt(s) + eps), s, s2


def _rmsprop(kind, real, e, s1, s2, fixed):
    lr, rho, rest, eps = fixed[:4]
    s = rho * s1 + rest * e * e
    return lr * e / (math.sqrt(s) + eps), s, s2


def _adadelta(kind, real, e, s1, s2, fixed):
    lr, rho, rest, eps = fixed[:4]
    s = rho * s1 + rest * e * e
    u = math.sqrt(s2 + eps) / math.sqrt(s + eps) * e
    return lr * u, s, rho * s2 + rest * u * u


def _adam(kind, real, e, s1, s2, fixed):
    _, beta1, rest1, beta2, rest2, eps, _, size, root = fixed
    m = beta1 * s1 + rest1 * e
    v = beta2 * s2 + rest2 * e * e
    return size * m / (math.sqrt(v) * root + eps), m, v


def _rprop(kind, real, e, s1, s2, fixed):
    _, shrink, _, grow, _, smallest, largest, _, _ = fixed
    zero = real(0.0)
    agree = e * s1
    size = s2 * (grow if agree > zero else (shrink if agree < zero else real(1.0)))
    size = smallest if size < smallest else size
    size = largest if size > largest else size
    e = zero if agree < zero else e
    return (size if e > zero else (-size if e < zero else e)), e, size


RULES = (_sgd, _momentum, _nesterov, _adagrad, _rmsprop, _adadelta, _adam, _rprop)
STATES = (0, 1, 1, 1, 1, 2, 2, 2)
"""For each kind, in the order of their codes."""


def rule(kind, real, e, s1, s2, fixed):
    """Return what is taken from a weight, and its new states, by the rule of that kind."""


@overload(rule, prefer_literal=True, jit_options={**JIT, "fastmath": FASTMATH}, strict=False)
def _rule(kind, real, e, s1, s2, fixed):
    return RULES[kind.literal_value] if isinstance(kind, types.IntegerLiteral) else None


def update(kind, w, g, s1, s2, kept, numbers):
    """Take one step by the kind of that code, which must be known at compile time, in one pass.

    Flat ``w`` (k,), its gradient ``g``, two states (unused ones may be any array) and the numbers. Unless it is None,
    ``kept`` (k,) gets the weights as they were, and the sum of their squares is returned.
    """


@overload(update, prefer_literal=True, jit_options={**JIT, "fastmath": FASTMATH}, strict=False)
def _update(kind, w, g, s1, s2, kept, numbers):
    if not isinstance(kind, types.IntegerLiteral):
        return None
    states = STATES[kind.literal_value]

    def run(kind, w, g, s1, s2, kept, numbers):
        real = w.dtype.type
        scale, clip, l1, l2 = real(numbers[SCALE]), real(numbers[CLIP]), real(numbers[L1]), real(numbers[L2])
        keep, fixed, square = real(1.0 - numbers[LR] * numbers[DECAY]), constants(numbers, real), real(0.0)
        for i in range(w.size):
            if kept is not None:
                square += w[i] * w[i]
                kept[i] = w[i]
            step, first, second = rule(kind, real, effective(w[i], g[i], scale, clip, l1, l2), s1[i], s2[i], fixed)
            if states > 0:
                s1[i] = first
            if states > 1:
                s2[i] = second
            w[i] = w[i] * keep - step
        return square

    return run


@cache
def update_loop(kind):
    """Return the compiled ``run(w, g, s1, s2, numbers)`` of one kind of update."""

    @kernel
    def run(w, g, s1, s2, numbers):
        update(kind, w, g, s1, s2, None, numbers)

    return run


def _run(w, g, states, kind, numbers):
    for array in (w, *states):
        flags = array.flags
        if not flags.c_contiguous or array.ndim != 1:
            raise Unsupported("update: the kernels want flat, contiguous arrays")
        if array.dtype not in REALS:
            raise Unsupported(f"update: dtype {array.dtype}; the CPU kernels are made for float32 and float64")
        if array.dtype != w.dtype or array.size != w.size or not flags.writeable:
            raise ValueError("update: weights and state need one dtype and size, and are written to.")
    numbers[RISE], numbers[ROOT] = corrections(kind, numbers, numbers[STEP])
    s1, s2 = (*states, w, w)[:2]
    g, loop = flat(g, w.size, w.dtype, name="update"), update_loop(kind)

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
