"""Element-wise losses with their gradients: scalar functions, chosen at compile time, and the loop that runs them."""

import math
from functools import cache

import numba
import numpy as np
from numba import types
from numba.extending import overload

from mlpx_kernels.cpu.lowlevel.compile import FASTMATH, inlined, kernel
from mlpx_kernels.cpu.lowlevel.mathematics import JIT, exp, sigmoid, softplus

BINARY, SQUARED, ABSOLUTE, HUBER, QUANTILE, POISSON, GAMMA, HINGE, BINARY_FOCAL = range(1, 10)
"""Codes of the losses; 0 is the cross-entropy, in cross_entropy.py, and 10 the focal loss, in margin.py."""

AT_ONCE = 256
"""Elements whose losses are summed in their own dtype, before float64 takes over."""

# Each function of this table takes the dtype's constructor and returns ``f(kind, a, b, q, o) -> (loss, gradient)`` for
# one prediction (or logit) a, target b, column weight or quantile level q, and option o.


def _binary(real):
    zero, one, half = real(0.0), real(1.0), real(0.5)

    def f(kind, a, b, q, o):
        y = b * (one - o) + half * o
        p = y * q
        v = p * softplus(-a) if p != zero else zero
        v += (one - y) * softplus(a) if y != one else zero
        return v, sigmoid(a) * (p + one - y) - p

    return f


def _squared(real):
    half = real(0.5)

    def f(kind, a, b, q, o):
        e = a - b
        return half * e * e, e

    return f


def _absolute(real):
    zero, one = real(0.0), real(1.0)

    def f(kind, a, b, q, o):
        e = a - b
        return abs(e), one if e > zero else (-one if e < zero else e)

    return f


def _huber(real):
    half = real(0.5)

    def f(kind, a, b, q, o):
        e = a - b
        near = -o if e < -o else (o if e > o else e)
        return near * (e - half * near), near

    return f


def _quantile(real):
    zero, one = real(0.0), real(1.0)

    def f(kind, a, b, q, o):
        e = b - a
        return q * e if e > zero else (q - one) * e, -q if e > zero else (one - q if e < zero else e)

    return f


def _poisson(real):
    def f(kind, a, b, q, o):
        rate = exp(a)
        return rate - b * a, rate - b

    return f


def _gamma(real):
    one = real(1.0)

    def f(kind, a, b, q, o):
        ratio = b * exp(-a)
        return a + ratio, one - ratio

    return f


def _hinge(real):
    zero, one, two = real(0.0), real(1.0), real(2.0)

    def f(kind, a, b, q, o):
        s = two * b - one
        short = one - s * a
        return short if not short <= zero else zero, -s if short > zero else (zero if short <= zero else short)

    return f


def _binary_focal(real):
    zero, one = real(0.0), real(1.0)

    def f(kind, a, b, q, o):
        p, rest, yes, no = sigmoid(a), sigmoid(-a), softplus(-a), softplus(a)
        # (1 - p)^o and p^o; with o = 0 they are 1, also where the logarithm is infinite
        easy_yes = b * (exp(-o * no) if o > zero else one)
        easy_no = (one - b) * (exp(-o * yes) if o > zero else one)
        v = easy_yes * yes if b != zero else zero
        v += easy_no * no if b != one else zero
        g = easy_no * (o * (rest * no if rest > zero else zero) + p)
        return v, g - easy_yes * (o * (p * yes if p > zero else zero) + rest)

    return f


ELEMENT_LOSSES = {
    BINARY: _binary,
    SQUARED: _squared,
    ABSOLUTE: _absolute,
    HUBER: _huber,
    QUANTILE: _quantile,
    POISSON: _poisson,
    GAMMA: _gamma,
    HINGE: _hinge,
    BINARY_FOCAL: _binary_focal,
}


def element_loss(kind, a, b, q, o):
    """Return (loss, gradient) of one element, for the loss of that code, which must be known at compile time."""


@overload(element_loss, prefer_literal=True, jit_options=JIT, strict=False)
def _element_loss(kind, a, b, q, o):
    if not isinstance(kind, types.IntegerLiteral):
        return None
    return ELEMENT_LOSSES[kind.literal_value](np.float32 if a == types.float32 else np.float64)


def elementwise_rows(kind, z, t, sample_weight, column, mask, option, total, dz, rows, c):
    """Write the gradient of an element-wise loss for a flat block of rows; return its share of the loss.

    ``column`` (c,) holds positive weights (BINARY) or quantile levels (QUANTILE), or has size 0; ``option`` is the
    label smoothing (BINARY), Huber's delta or the focus (BINARY_FOCAL). Rows of weight 0 and masked elements give 0
    whatever they hold.
    """


@overload(elementwise_rows, prefer_literal=True, jit_options={**JIT, "fastmath": FASTMATH}, strict=False)
def _elementwise_rows(kind, z, t, sample_weight, column, mask, option, total, dz, rows, c):
    if not isinstance(kind, types.IntegerLiteral):
        return None
    code = kind.literal_value

    def implementation(kind, z, t, sample_weight, column, mask, option, total, dz, rows, c):
        real = z.dtype.type
        zero, one, o = real(0.0), real(1.0), real(option)
        inverse_total = 1.0 / total if total > 0.0 else 1.0
        loss = 0.0
        if sample_weight.size == 0 and mask.size == 0 and column.size <= 1:  # rows of one output have no inner loop
            share, q = real(inverse_total), column[0] if column.size else one
            for start in range(0, rows * c, AT_ONCE):
                n = min(AT_ONCE, rows * c - start)
                a, b, d = z[start : start + n], t[start : start + n], dz[start : start + n]
                each = zero
                for j in range(n):
                    v, g = element_loss(code, a[j], b[j], q, o)
                    each += v
                    d[j] = share * g
                loss += np.float64(share) * np.float64(each)
            return loss
        for r in range(rows):
            w = 1.0 if sample_weight.size == 0 else np.float64(sample_weight[r])
            share = real(w * inverse_total)
            a, b, d = z[r * c : (r + 1) * c], t[r * c : (r + 1) * c], dz[r * c : (r + 1) * c]
            each = zero
            if w <= 0.0:
                for j in range(c):
                    d[j] = zero
            elif mask.size == 0 and column.size == 0:
                for j in range(c):
                    v, g = element_loss(code, a[j], b[j], one, o)
                    each += v
                    d[j] = share * g
            else:
                for j in range(c):
                    if mask.size and not mask[r * c + j]:
                        d[j] = zero
                        continue
                    q = one if column.size == 0 else column[j if column.size > 1 else 0]
                    v, g = element_loss(code, a[j], b[j], q, o)
                    each += v
                    d[j] = share * g
            loss += np.float64(share) * np.float64(each)
        return loss

    return implementation


@inlined
def farthest(z):
    """Return the largest magnitude; NaN does not count."""
    largest = z.dtype.type(0.0)
    for k in range(z.size):
        a = abs(z[k])
        largest = a if a > largest else largest
    return largest


@numba.njit(**JIT)
def clipped_binary(z, t, sample_weight, total, eps, rows, c):
    """Return a block's share of the binary cross-entropy of probabilities clipped to [eps, 1 - eps].

    The logarithm of 1 - p, with all the rounding of 1 - p in the dtype of z, is what scikit-learn reports. C's
    functions, for its digits.
    """
    real, loss = z.dtype.type, 0.0
    one, least = real(1.0), real(eps)
    for r in range(rows):
        w = 1.0 if sample_weight.size == 0 else np.float64(sample_weight[r])
        for k in range(r * c, (r + 1) * c):
            p = one / (one + real(math.exp(-z[k])))
            p = min(max(p, least), one - least)
            y = np.float64(t[k])
            each = y * math.log(np.float64(p)) if y != 0.0 else 0.0
            each += (1.0 - y) * math.log(np.float64(one - p)) if y != 1.0 else 0.0
            loss -= w * each
    return loss / total if total > 0.0 else loss


@cache
def loss_loop(kind):
    """Return the compiled `elementwise_rows` of one loss."""

    @kernel
    def run(z, t, sample_weight, column, mask, option, total, dz, rows, c):
        return elementwise_rows(kind, z, t, sample_weight, column, mask, option, total, dz, rows, c)

    return run
