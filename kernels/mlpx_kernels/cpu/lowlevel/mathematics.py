"""Vectorisable exponential and logarithm, and what is made of them, of stated error, in float32 and float64.

Calls to the C library keep a loop scalar. These are straight-line polynomials, so LLVM turns the loops that use them
into vector code, without Intel's SVML being installed. Each function is generic: the dtype of its argument chooses
the polynomial at compile time, and no float64 strays into float32 code. A test holds the stated errors.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

JIT = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}, "forceinline": True, "_nrt": False}
"""No reassociation here: it would undo the magic-number rounding, ``(t + magic) - magic``. Inlined by force: LLVM finds
two long polynomials in one loop too much to inline, and a call keeps the loop scalar, ten times as slow."""


@intrinsic
def bits_of(typingctx, x):
    """Return the bits of a float as a signed integer of its size."""
    integer = types.int32 if x == types.float32 else types.int64

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(32 if x == types.float32 else 64))

    return integer(x), codegen


@intrinsic
def float_of(typingctx, k):
    """Return the float whose bits are those of a signed integer."""
    single = k == types.int32

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType() if single else ir.DoubleType())

    return (types.float32 if single else types.float64)(k), codegen


def reduced(x):
    """Return (e^r - 1, bits of n in the exponent's place) with ``x = n log 2 + r``, for x within the limits of exp.

    n comes by the magic-number rounding, e^r - 1 by a polynomial.
    """


@overload(reduced, jit_options=JIT)
def _reduced(x):
    if x == types.float32:

        def single(x):
            t = x * np.float32(1.4426950408889634) + np.float32(12582912.0)
            n = t - np.float32(12582912.0)
            r = x - n * np.float32(0.693359375)
            r = r + n * np.float32(2.12194440e-4)
            p = np.float32(1.9875691500e-4)
            p = p * r + np.float32(1.3981999507e-3)
            p = p * r + np.float32(8.3334519073e-3)
            p = p * r + np.float32(4.1665795894e-2)
            p = p * r + np.float32(1.6666665459e-1)
            p = p * r + np.float32(5.0000001201e-1)
            return p * (r * r) + r, np.int32(bits_of(t) << 23)

        return single

    def double(x):
        t = x * 1.4426950408889634 + 6755399441055744.0
        n = t - 6755399441055744.0
        r = x - n * 0.693145751953125
        r = r - n * 1.4286068203094172e-06
        p = 1.6059043836821613e-10
        p = p * r + 2.08767569878681e-09
        p = p * r + 2.505210838544172e-08
        p = p * r + 2.755731922398589e-07
        p = p * r + 2.7557319223985893e-06
        p = p * r + 2.48015873015873e-05
        p = p * r + 0.0001984126984126984
        p = p * r + 0.001388888888888889
        p = p * r + 0.008333333333333333
        p = p * r + 0.041666666666666664
        p = p * r + 0.16666666666666666
        p = p * r + 0.5
        return p * (r * r) + r, bits_of(t) << 52

    return double


def exp(x):
    """Return e^x: 0 below -87.3 (float32) or -708.4 (float64), inf above 88.7 or 709.7; NaN stays NaN."""


@overload(exp, jit_options=JIT)
def _exp(x):
    if x == types.float32:

        def single(x):
            # Clamped, so that the exponent stays in range; the comparisons at the end restore the limits.
            p, n = reduced(min(max(x, np.float32(-87.33654)), np.float32(88.72283)))
            y = float_of(np.int32(bits_of(p + np.float32(1.0)) + n))
            y = np.float32(0.0) if x < np.float32(-87.33654) else y
            y = np.float32(np.inf) if x > np.float32(88.72283) else y
            return x if x != x else y

        return single

    def double(x):
        p, n = reduced(min(max(x, -708.39), 709.78))
        y = float_of(bits_of(p + 1.0) + n)
        y = 0.0 if x < -708.39 else y
        y = np.inf if x > 709.78 else y
        return x if x != x else y

    return double


def expm1(x):
    """Return e^x - 1 for x up to 80, without cancellation at 0; -1 below -87 (float32) or -708 (float64).

    ``2^n p + (2^n - 1)`` with p = e^r - 1.
    """


@overload(expm1, jit_options=JIT)
def _expm1(x):
    if x == types.float32:

        def single(x):
            p, n = reduced(min(max(x, np.float32(-87.0)), np.float32(80.0)))
            s = float_of(np.int32(n + 0x3F800000))
            return x if x != x else s * p + (s - np.float32(1.0))

        return single

    def double(x):
        p, n = reduced(min(max(x, -708.0), 80.0))
        s = float_of(n + 0x3FF0000000000000)
        return x if x != x else s * p + (s - 1.0)

    return double


def log1p_unit(u):
    """Return log(1 + u) for u in [-0.3, 1], by ``2 atanh(u / (2 + u))`` as a series; relative error below 3 units."""


@overload(log1p_unit, jit_options=JIT)
def _log1p_unit(u):
    if u == types.float32:

        def single(u):
            s = u / (u + np.float32(2.0))
            q = s * s
            p = np.float32(1.0 / 15.0)
            p = p * q + np.float32(1.0 / 13.0)
            p = p * q + np.float32(1.0 / 11.0)
            p = p * q + np.float32(1.0 / 9.0)
            p = p * q + np.float32(1.0 / 7.0)
            p = p * q + np.float32(1.0 / 5.0)
            p = p * q + np.float32(1.0 / 3.0)
            return np.float32(2.0) * (s + s * q * p)

        return single

    def double(u):
        s = u / (u + 2.0)
        q = s * s
        p = 1.0 / 33.0
        p = p * q + 1.0 / 31.0
        p = p * q + 1.0 / 29.0
        p = p * q + 1.0 / 27.0
        p = p * q + 1.0 / 25.0
        p = p * q + 1.0 / 23.0
        p = p * q + 1.0 / 21.0
        p = p * q + 1.0 / 19.0
        p = p * q + 1.0 / 17.0
        p = p * q + 1.0 / 15.0
        p = p * q + 1.0 / 13.0
        p = p * q + 1.0 / 11.0
        p = p * q + 1.0 / 9.0
        p = p * q + 1.0 / 7.0
        p = p * q + 1.0 / 5.0
        p = p * q + 1.0 / 3.0
        return 2.0 * (s + s * q * p)

    return double


def log(x):
    """Return log x for a positive number that is neither subnormal nor infinite; NaN stays NaN.

    ``n log 2 + log1p(u)`` with x = 2^n (1 + u) and 1 + u between the roots of 1/2 and 2.
    """


@overload(log, jit_options=JIT)
def _log(x):
    if x == types.float32:

        def single(x):
            k = np.int32(bits_of(x) - np.int32(0x3F3504F3))
            n = np.int32(k >> 23)
            u = float_of(np.int32(bits_of(x) - np.int32(n << 23))) - np.float32(1.0)
            t = np.float32(n)
            y = t * np.float32(0.693359375) + (log1p_unit(u) - t * np.float32(2.12194440e-4))
            return x if x != x else y

        return single

    def double(x):
        k = bits_of(x) - 0x3FE6A09E667F3BCD
        n = k >> 52
        u = float_of(bits_of(x) - (n << 52)) - 1.0
        t = np.float64(n)
        y = t * 0.693145751953125 + (log1p_unit(u) + t * 1.4286068203094172e-06)
        return x if x != x else y

    return double


def tanh(x):
    """Return tanh x as ``e / (e + 2)`` with e = expm1(2 |x|); relative error below 4 units of the last place."""


@overload(tanh, jit_options=JIT)
def _tanh(x):
    limit, two = (np.float32(10.0), np.float32(2.0)) if x == types.float32 else (20.0, 2.0)

    def implementation(x):
        e = expm1(two * min(abs(x), limit))
        y = e / (e + two)
        y = -y if x < 0 else y
        return x if x != x else y

    return implementation


def sigmoid(x):
    """Return 1 / (1 + e^-x)."""


@overload(sigmoid, jit_options=JIT)
def _sigmoid(x):
    one = np.float32(1.0) if x == types.float32 else 1.0

    def implementation(x):
        return one / (one + exp(-x))

    return implementation


def softplus(x):
    """Return log(1 + e^x)."""


@overload(softplus, jit_options=JIT)
def _softplus(x):
    zero = np.float32(0.0) if x == types.float32 else 0.0

    def implementation(x):
        y = log1p_unit(exp(-abs(x))) + (x if x > zero else zero)
        return x if x != x else y

    return implementation
