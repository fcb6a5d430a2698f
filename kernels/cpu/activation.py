"""Activations and their gradients over flat arrays: one vectorised loop for each."""

import math

import numpy as np
from mlpx_kernels.cpu.compile import inlined
from mlpx_kernels.cpu.mathematics import erf, exp, expm1, sigmoid, softplus, tanh

NAMES = (
    "identity",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    "softplus",
    "sigmoid",
    "tanh",
    "softsign",
    "hard_sigmoid",
    "exp",
)
"""In the order of their codes; the same as in mlpx.ops.activation, which a test holds."""

CODES = {name: code for code, name in enumerate(NAMES)}
SAVES_INPUT = frozenset(CODES[name] for name in ("gelu", "gelu_tanh", "silu", "mish"))
"""Those whose gradient needs the pre-activation; for the others the output is enough."""

IDENTITY, RELU, LEAKY, ELU, SELU, GELU, GELU_TANH, SILU, MISH, SOFTPLUS, SIGMOID, TANH, SOFTSIGN, HARD, EXP = range(15)
SLOPE = 0.01
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805
SQRT_HALF = math.sqrt(0.5)
DENSITY = 1.0 / math.sqrt(2.0 * math.pi)
TANH_GELU = math.sqrt(2.0 / math.pi)


@inlined
def activate(kind, z, y):
    """Write ``y = f(z)`` for flat arrays; ``y`` may be ``z``."""
    real = z.dtype.type
    one, half, zero = real(1.0), real(0.5), real(0.0)
    if kind == IDENTITY:
        for i in range(z.size):
            y[i] = z[i]
    elif kind == RELU:
        for i in range(z.size):
            y[i] = zero if z[i] < zero else z[i]
    elif kind == LEAKY:
        slope = real(SLOPE)
        for i in range(z.size):
            y[i] = z[i] if z[i] > zero else slope * z[i]
    elif kind == ELU:
        for i in range(z.size):
            y[i] = z[i] if z[i] > zero else expm1(z[i])
    elif kind == SELU:
        scale, low = real(SELU_SCALE), real(SELU_SCALE * SELU_ALPHA)
        for i in range(z.size):
            y[i] = scale * z[i] if z[i] > zero else low * expm1(z[i])
    elif kind == GELU:
        root = real(SQRT_HALF)
        for i in range(z.size):
            y[i] = half * z[i] * (one + erf(z[i] * root))
    elif kind == GELU_TANH:
        a, c = real(2.0 * TANH_GELU), real(0.044715)
        for i in range(z.size):
            v = z[i]
            y[i] = v * sigmoid(a * (v + c * v * v * v))
    elif kind == SILU:
        for i in range(z.size):
            y[i] = z[i] * sigmoid(z[i])
    elif kind == MISH:
        two, limit = real(2.0), real(20.0)
        for i in range(z.size):
            e = exp(min(z[i], limit))  # tanh(log(1 + e)) = n / (n + 2) with n = e (e + 2)
            n = e * (e + two)
            y[i] = z[i] * (n / (n + two))
    elif kind == SOFTPLUS:
        for i in range(z.size):
            y[i] = softplus(z[i])
    elif kind == SIGMOID:
        for i in range(z.size):
            y[i] = sigmoid(z[i])
    elif kind == TANH:
        for i in range(z.size):
            y[i] = tanh(z[i])
    elif kind == SOFTSIGN:
        for i in range(z.size):
            y[i] = z[i] / (one + abs(z[i]))
    elif kind == HARD:
        sixth = real(1.0 / 6.0)
        for i in range(z.size):
            v = z[i] * sixth + half
            v = zero if v < zero else v
            y[i] = one if v > one else v
    elif kind == EXP:
        for i in range(z.size):
            y[i] = exp(z[i])


@inlined
def activate_grad(kind, dy, saved, dz):
    """Write ``dz = dy * f'(z)`` for flat arrays; ``saved`` holds z or y as `SAVES_INPUT` says; ``dz`` may be ``dy``."""
    real = dy.dtype.type
    one, half, zero = real(1.0), real(0.5), real(0.0)
    if kind == IDENTITY:
        for i in range(dy.size):
            dz[i] = dy[i]
    elif kind == RELU:
        for i in range(dy.size):
            dz[i] = dy[i] if saved[i] > zero else zero
    elif kind == LEAKY:
        slope = real(SLOPE)
        for i in range(dy.size):
            dz[i] = dy[i] if saved[i] > zero else slope * dy[i]
    elif kind == ELU:
        for i in range(dy.size):
            dz[i] = dy[i] if saved[i] > zero else dy[i] * (saved[i] + one)
    elif kind == SELU:
        scale, low = real(SELU_SCALE), real(SELU_SCALE * SELU_ALPHA)
        for i in range(dy.size):
            dz[i] = scale * dy[i] if saved[i] > zero else dy[i] * (saved[i] + low)
    elif kind == GELU:
        root, density = real(SQRT_HALF), real(DENSITY)
        for i in range(dy.size):
            v = saved[i]
            dz[i] = dy[i] * (half * (one + erf(v * root)) + v * density * exp(-half * v * v))
    elif kind == GELU_TANH:
        a, c, d = real(2.0 * TANH_GELU), real(0.044715), real(0.134145)
        for i in range(dy.size):
            v = saved[i]
            u = a * (v + c * v * v * v)
            dz[i] = dy[i] * (sigmoid(u) * (one + v * sigmoid(-u) * (a * (one + d * v * v))))
    elif kind == SILU:
        for i in range(dy.size):
            v = saved[i]
            dz[i] = dy[i] * (sigmoid(v) * (one + v * sigmoid(-v)))
    elif kind == MISH:
        two, four, limit = real(2.0), real(4.0), real(20.0)
        for i in range(dy.size):
            v = saved[i]
            e = exp(min(v, limit))
            n = e * (e + two)
            m = n + two
            # 1 - tanh^2 = 4 (n + 1) / (n + 2)^2, in two quotients so that no square overflows
            dz[i] = dy[i] * (n / m + v * (four * ((n + one) / m) / m) * (e / (one + e)))
    elif kind == SOFTPLUS:
        for i in range(dy.size):
            dz[i] = dy[i] * -expm1(-saved[i])
    elif kind == SIGMOID:
        for i in range(dy.size):
            dz[i] = dy[i] * (saved[i] * (one - saved[i]))
    elif kind == TANH:
        for i in range(dy.size):
            dz[i] = dy[i] * (one - saved[i] * saved[i])
    elif kind == SOFTSIGN:
        for i in range(dy.size):
            q = one - abs(saved[i])
            dz[i] = dy[i] * (q * q)
    elif kind == HARD:
        sixth = real(1.0 / 6.0)
        for i in range(dy.size):
            dz[i] = dy[i] * sixth if zero < saved[i] < one else zero
    elif kind == EXP:
        for i in range(dy.size):
            dz[i] = dy[i] * saved[i]


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


def real_array(x, *, name):
    """Return a C-contiguous array of a float dtype the kernels are made for, or decline."""
    from mlpx_kernels import Unsupported

    if x.dtype not in (np.float32, np.float64):
        raise Unsupported(f"{name}: dtype {x.dtype}; the CPU kernels are made for float32 and float64")
    return np.asarray(x, order="C")  # ascontiguousarray would give a scalar an axis
