"""Parameter updates: one pass over the flat buffers, no temporaries."""

import math

import numpy as np
from mlpx_kernels import Unsupported
from mlpx_kernels.cpu.compile import inlined, kernel

SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADADELTA, ADAM, RPROP = range(8)
LR, SCALE, CLIP, L1, L2, DECAY, A, B, C, D = range(10)
"""Places in the array of numbers that an update takes; A to D are particular to each kind."""


@inlined
def effective(w, g, scale, clip, l1, l2):
    """Return clip(scale g) + l2 w + l1 sign(w). Written so that NaN stays NaN."""
    e = g * scale
    e = -clip if e < -clip else e
    e = clip if e > clip else e
    e += l2 * w
    return e + l1 if w > 0 else (e - l1 if w < 0 else e)


@inlined
def update(kind, w, g, s1, s2, numbers):
    """Take one step for flat ``w`` (k,) along ``g``; ``s1``, ``s2`` are state (unused ones may be any array)."""
    real = w.dtype.type
    lr, scale, clip = real(numbers[LR]), real(numbers[SCALE]), real(numbers[CLIP])
    l1, l2, keep = real(numbers[L1]), real(numbers[L2]), real(1.0 - numbers[LR] * numbers[DECAY])
    a, b, c, d = real(numbers[A]), real(numbers[B]), real(numbers[C]), real(numbers[D])
    one, zero = real(1.0), real(0.0)
    if kind == SGD:
        for i in range(w.size):
            e = effective(w[i], g[i], scale, clip, l1, l2)
            w[i] = w[i] * keep - lr * e
    elif kind == MOMENTUM:
        for i in range(w.size):
            e = effective(w[i], g[i], scale, clip, l1, l2)
            v = a * s1[i] - lr * e
            s1[i] = v
            w[i] = w[i] * keep + v
    elif kind == NESTEROV:
        for i in range(w.size):
            e = effective(w[i], g[i], scale, clip, l1, l2)
            v = a * s1[i] - lr * e
            s1[i] = v
            w[i] = w[i] * keep + (a * v - lr * e)
    elif kind == ADAGRAD:
        for i in range(w.size):
            e = effective(w[i], g[i], scale, clip, l1, l2)
            s = s1[i] + e * e
            s1[i] = s
            w[i] = w[i] * keep - lr * e / (math.sqrt(s) + b)
    elif kind == RMSPROP:
        rest = real(1.0 - numbers[A])
        for i in range(w.size):
            e = effective(w[i], g[i], scale, clip, l1, l2)
            s = a * s1[i] + rest * e * e
            s1[i] = s
            w[i] = w[i] * keep - lr * e / (math.sqrt(s) + b)
    elif kind == ADADELTA:
        rest = real(1.0 - numbers[A])
        for i in range(w.size):
            e = effective(w[i], g[i], scale, clip, l1, l2)
            s = a * s1[i] + rest * e * e
            s1[i] = s
            u = math.sqrt(s2[i] + b) / math.sqrt(s + b) * e
            s2[i] = a * s2[i] + rest * u * u
            w[i] = w[i] * keep - lr * u
    elif kind == ADAM:
        # lr carries 1 / (1 - beta1^t), d is (1 - beta2^t)^-1/2
        rest1, rest2 = real(1.0 - numbers[A]), real(1.0 - numbers[B])
        size = real(numbers[LR] / (1.0 - numbers[A] ** numbers[D + 1]))
        root = real((1.0 - numbers[B] ** numbers[D + 1]) ** -0.5)
        for i in range(w.size):
            e = effective(w[i], g[i], scale, clip, l1, l2)
            m = a * s1[i] + rest1 * e
            v = b * s2[i] + rest2 * e * e
            s1[i] = m
            s2[i] = v
            w[i] = w[i] * keep - size * m / (math.sqrt(v) * root + c)
    elif kind == RPROP:
        for i in range(w.size):
            e = effective(w[i], g[i], scale, clip, l1, l2)
            agree = e * s1[i]
            size = s2[i] * (b if agree > zero else (a if agree < zero else one))
            size = c if size < c else size
            size = d if size > d else size
            e = zero if agree < zero else e
            s2[i] = size
            s1[i] = e
            w[i] = w[i] * keep - (size if e > zero else (-size if e < zero else e))


N_NUMBERS = 11


@kernel
def run(kind, w, g, s1, s2, numbers):
    """Compiled entry point of `update`."""
    update(kind, w, g, s1, s2, numbers)


def numbers_of(lr, scale, clip, l1, l2, decay, *own):
    """Return the array of numbers that `update` takes."""
    numbers = np.zeros(N_NUMBERS)
    numbers[:6] = lr, scale, clip, l1, l2, decay
    numbers[A : A + len(own)] = own
    return numbers


def _run(kind, w, g, states, numbers):
    for array in (w, *states):
        if not array.flags.c_contiguous or array.ndim != 1:
            raise Unsupported("update: the kernels want flat, contiguous arrays")
        if array.dtype not in (np.float32, np.float64):
            raise Unsupported(f"update: dtype {array.dtype}; the CPU kernels are made for float32 and float64")
    s1, s2 = (*states, w, w)[:2]
    run(kind, w, np.ascontiguousarray(g), s1, s2, numbers)


def sgd_inplace(w, g, *, lr, scale=1.0, clip=math.inf, l1=0.0, l2=0.0, decay=0.0):
    """12 bytes a parameter in float32."""
    _run(SGD, w, g, (), numbers_of(lr, scale, clip, l1, l2, decay))


def momentum_inplace(w, g, v, *, lr, momentum, nesterov=False, scale=1.0, clip=math.inf, l1=0.0, l2=0.0, decay=0.0):
    """20 bytes a parameter in float32."""
    kind = NESTEROV if nesterov else MOMENTUM
    _run(kind, w, g, (v,), numbers_of(lr, scale, clip, l1, l2, decay, momentum))


def adagrad_inplace(w, g, s, *, lr, eps, scale=1.0, clip=math.inf, l1=0.0, l2=0.0, decay=0.0):
    """20 bytes a parameter in float32."""
    _run(ADAGRAD, w, g, (s,), numbers_of(lr, scale, clip, l1, l2, decay, 0.0, eps))


def rmsprop_inplace(w, g, s, *, lr, rho, eps, scale=1.0, clip=math.inf, l1=0.0, l2=0.0, decay=0.0):
    """20 bytes a parameter in float32."""
    _run(RMSPROP, w, g, (s,), numbers_of(lr, scale, clip, l1, l2, decay, rho, eps))


def adadelta_inplace(w, g, s, d, *, lr, rho, eps, scale=1.0, clip=math.inf, l1=0.0, l2=0.0, decay=0.0):
    """28 bytes a parameter in float32."""
    _run(ADADELTA, w, g, (s, d), numbers_of(lr, scale, clip, l1, l2, decay, rho, eps))


def adam_inplace(w, g, m, v, *, lr, beta1, beta2, eps, step, scale=1.0, clip=math.inf, l1=0.0, l2=0.0, decay=0.0):
    """28 bytes a parameter in float32: w, g, m, v read, w, m, v written."""
    _run(ADAM, w, g, (m, v), numbers_of(lr, scale, clip, l1, l2, decay, beta1, beta2, eps, 0.0, step))


def rprop_inplace(
    w,
    g,
    last,
    size,
    *,
    lr,
    shrink,
    grow,
    smallest,
    largest,
    scale=1.0,
    clip=math.inf,
    l1=0.0,
    l2=0.0,
    decay=0.0,
):
    """28 bytes a parameter in float32."""
    _run(RPROP, w, g, (last, size), numbers_of(lr, scale, clip, l1, l2, decay, shrink, grow, smallest, largest))
