"""Activations and their gradients: scalar functions, chosen at compile time, and the loops that run them.

A loop is compiled for one activation when it is first needed, so nobody waits for the others.
"""

import math
from functools import cache

import numpy as np
from numba import types
from numba.extending import overload

from mlpx_kernels.activations import CODES, NAMES, SAVES_INPUT
from mlpx_kernels.cpu.lowlevel.arrays import flat, real_array
from mlpx_kernels.cpu.lowlevel.compile import inlined, kernel
from mlpx_kernels.cpu.lowlevel.erf import erf
from mlpx_kernels.cpu.lowlevel.mathematics import JIT, exp, expm1, sigmoid, softplus, tanh
from mlpx_kernels.cpu.threading.parallel_rows import WORTH_A_THREAD, share_rows

IDENTITY = CODES["identity"]
SLOPE = 0.01
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805
SQRT_HALF = math.sqrt(0.5)
DENSITY = 1.0 / math.sqrt(2.0 * math.pi)
TANH_GELU = math.sqrt(2.0 / math.pi)

SLOW = {CODES[name] for name in ("gelu", "gelu_tanh", "silu", "softplus", "mish")}
"""Activations whose gradient has exponentials."""
QUICK = {CODES[name] for name in ("identity", "relu", "leaky_relu", "softsign", "hard_sigmoid")}
"""Activations without exponentials."""

# Each function of this table takes the dtype's constructor and returns (f, gradient): f(code, z) and
# gradient(code, dy, saved). Constants go through the constructor, so that none lifts float32 to float64.


def _identity(real):
    return lambda code, z: z, lambda code, dy, y: dy


def _relu(real):
    zero = real(0.0)
    return lambda code, z: zero if z < zero else z, lambda code, dy, y: dy if y > zero else zero


def _leaky_relu(real):
    zero, slope = real(0.0), real(SLOPE)
    return lambda code, z: z if z > zero else slope * z, lambda code, dy, y: dy if y > zero else slope * dy


def _elu(real):
    zero, one = real(0.0), real(1.0)
    return lambda code, z: z if z > zero else expm1(z), lambda code, dy, y: dy if y > zero else dy * (y + one)


def _selu(real):
    zero, scale, low = real(0.0), real(SELU_SCALE), real(SELU_SCALE * SELU_ALPHA)

    def f(code, z):
        return scale * z if z > zero else low * expm1(z)

    return f, lambda code, dy, y: scale * dy if y > zero else dy * (y + low)


def _gelu(real):
    half, one, root, density = real(0.5), real(1.0), real(SQRT_HALF), real(DENSITY)

    def gradient(code, dy, z):
        return dy * (half * (one + erf(z * root)) + z * density * exp(-half * z * z))

    return lambda code, z: half * z * (one + erf(z * root)), gradient


def _gelu_tanh(real):
    one, a, c, d = real(1.0), real(2.0 * TANH_GELU), real(0.044715), real(0.134145)

    def gradient(code, dy, z):
        u = a * (z + c * z * z * z)
        return dy * (sigmoid(u) * (one + z * sigmoid(-u) * (a * (one + d * z * z))))

    return lambda code, z: z * sigmoid(a * (z + c * z * z * z)), gradient


def _silu(real):
    one = real(1.0)
    return lambda code, z: z * sigmoid(z), lambda code, dy, z: dy * (sigmoid(z) * (one + z * sigmoid(-z)))


def _mish(real):
    one, two, four, limit = real(1.0), real(2.0), real(4.0), real(20.0)

    def f(code, z):
        e = exp(min(z, limit))  # tanh(log(1 + e)) = n / (n + 2) with n = e (e + 2)
        n = e * (e + two)
        return z * (n / (n + two))

    def gradient(code, dy, z):
        e = exp(min(z, limit))
        n = e * (e + two)
        m = n + two
        # 1 - tanh^2 = 4 (n + 1) / (n + 2)^2, in two quotients so that no square overflows
        return dy * (n / m + z * (four * ((n + one) / m) / m) * (e / (one + e)))

    return f, gradient


def _softplus(real):
    return lambda code, z: softplus(z), lambda code, dy, y: dy * -expm1(-y)


def _sigmoid(real):
    one = real(1.0)
    return lambda code, z: sigmoid(z), lambda code, dy, y: dy * (y * (one - y))


def _tanh(real):
    one = real(1.0)
    return lambda code, z: tanh(z), lambda code, dy, y: dy * (one - y * y)


def _softsign(real):
    one = real(1.0)

    def gradient(code, dy, y):
        q = one - abs(y)
        return dy * (q * q)

    return lambda code, z: z / (one + abs(z)), gradient


def _hard_sigmoid(real):
    zero, half, one, sixth = real(0.0), real(0.5), real(1.0), real(1.0 / 6.0)

    def f(code, z):
        v = z * sixth + half
        v = zero if v < zero else v
        return one if v > one else v

    return f, lambda code, dy, y: dy * sixth if zero < y < one else zero


def _exp(real):
    return lambda code, z: exp(z), lambda code, dy, y: dy * y


FUNCTIONS = [globals()[f"_{name}"] for name in NAMES]


def apply(code, z):
    """Return f(z) for the activation of that code, which must be known at compile time."""


def apply_grad(code, dy, saved):
    """Return dy * f'(z) for the activation of that code, which must be known at compile time."""


def _chosen(code, z, which):
    if not isinstance(code, types.IntegerLiteral):
        return None
    return FUNCTIONS[code.literal_value](np.float32 if z == types.float32 else np.float64)[which]


@overload(apply, prefer_literal=True, jit_options=JIT, strict=False)
def _apply(code, z):
    return _chosen(code, z, 0)


@overload(apply_grad, prefer_literal=True, jit_options=JIT, strict=False)
def _apply_grad(code, dy, saved):
    return _chosen(code, dy, 1)


@cache
def activation_loop(code):
    """Return the compiled ``run(z, y)`` that writes ``y = f(z)`` for flat arrays; ``y`` may be ``z``."""

    @kernel
    def run(z, y):
        for i in range(z.size):
            y[i] = apply(code, z[i])

    return run


@cache
def gradient_loop(code):
    """Return the compiled ``run(dy, saved, dz)`` that writes ``dz = dy f'(z)`` for flat arrays."""

    @kernel
    def run(dy, saved, dz):
        for i in range(dy.size):
            dz[i] = apply_grad(code, dy[i], saved[i])

    return run


@inlined
def add_bias(z, b, rows, width):
    """Add the bias ``b`` (width,) to each row of the flat block ``z`` (rows * width)."""
    for r in range(rows):
        row = z[r * width : (r + 1) * width]
        for j in range(width):
            row[j] += b[j]


@inlined
def sum_rows(dz, db, rows, width):
    """Write the sums over rows of the flat block ``dz`` (rows * width) to ``db`` (width,).

    Four rows at a time, so that each partial sum is read and written once per four.
    """
    for j in range(width):
        db[j] = 0.0
    r = 0
    while r + 4 <= rows:
        a, b = dz[r * width : (r + 1) * width], dz[(r + 1) * width : (r + 2) * width]
        c, d = dz[(r + 2) * width : (r + 3) * width], dz[(r + 3) * width : (r + 4) * width]
        for j in range(width):
            db[j] += (a[j] + b[j]) + (c[j] + d[j])
        r += 4
    while r < rows:
        a = dz[r * width : (r + 1) * width]
        for j in range(width):
            db[j] += a[j]
        r += 1


def elementwise(loop, arrays, quick):
    """Call a compiled loop on flat arrays of one size, over the threads where that pays: later for a quick loop."""
    size = arrays[0].size
    work = size // 2 if quick else size
    if work < 2 * WORTH_A_THREAD:
        loop(*arrays)
    else:
        share_rows(lambda a, b: loop(*(array[a:b] for array in arrays)), size, work)


def activation(x, *, kind):
    """One read and one write of each element."""
    code = CODES[kind]
    x = real_array(x, name="activation")
    y = np.empty(x.shape, x.dtype)
    elementwise(activation_loop(code), (x.reshape(-1), y.reshape(-1)), code in QUICK)
    return y, (x if code in SAVES_INPUT else y)


def activation_grad(dy, saved, *, kind):
    """Two reads and one write of each element."""
    dy = real_array(dy, name="activation_grad")
    saved = flat(saved, dy.size, dy.dtype, name="activation_grad")
    dx = np.empty(dy.shape, dy.dtype)
    code = CODES[kind]
    elementwise(gradient_loop(code), (dy.reshape(-1), saved, dx.reshape(-1)), code not in SLOW)
    return dx
