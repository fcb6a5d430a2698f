"""Activation functions and their derivatives, each pair side by side.

An activation saves what its derivative is cheapest from: its output ``y``, or its input ``z`` where ``y`` does not
determine the derivative. ``gradient(dy, saved, xp)`` is ``dy * f'(z)``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mlpx.backend import erf
from mlpx.errors import unknown
from mlpx.ops.dispatch import op
from mlpx.ops.signature import arguments, name_of
from mlpx.typing import Array, Namespace

LEAKY_SLOPE = 0.01
SELU_ALPHA = 1.6732632423543772  # Klambauer et al. 2017, "Self-normalizing neural networks", equation 2
SELU_SCALE = 1.0507009873554805
TANH_GELU = math.sqrt(2.0 / math.pi)


@dataclass(frozen=True)
class ActivationFunction:
    """A row of the table: name, function, ``dy * derivative``, and which of ``z`` and ``y`` the latter needs."""

    name: str
    function: Callable[[Array, Namespace], Array]
    gradient: Callable[[Array, Array, Namespace], Array]
    saves: Literal["z", "y"]


def _sigmoid(z: Array, xp: Namespace) -> Array:
    e = xp.exp(-xp.abs(z))  # never overflows
    return xp.where(z >= 0, 1.0 / (1.0 + e), e / (1.0 + e))


def _softplus(z: Array, xp: Namespace) -> Array:
    return xp.log1p(xp.exp(-xp.abs(z))) + xp.maximum(z, 0.0)


def _elu(z: Array, xp: Namespace) -> Array:
    return xp.where(z > 0, z, xp.expm1(z))


def _gelu_gradient(dy: Array, z: Array, xp: Namespace) -> Array:
    cdf = 0.5 * (1.0 + erf(z * math.sqrt(0.5), xp))
    density = xp.exp(-0.5 * z * z) * (1.0 / math.sqrt(2.0 * math.pi))
    return dy * (cdf + z * density)


def _gelu_tanh(z: Array, xp: Namespace) -> Array:
    # (1 + tanh u) / 2 = sigmoid(2 u), which loses no digits where tanh is near -1
    return z * _sigmoid(2.0 * TANH_GELU * (z + 0.044715 * z * z * z), xp)


def _gelu_tanh_gradient(dy: Array, z: Array, xp: Namespace) -> Array:
    v = 2.0 * TANH_GELU * (z + 0.044715 * z * z * z)
    s = _sigmoid(v, xp)
    return dy * s * (1.0 + z * _sigmoid(-v, xp) * (2.0 * TANH_GELU * (1.0 + 0.134145 * z * z)))


def _silu_gradient(dy: Array, z: Array, xp: Namespace) -> Array:
    s = _sigmoid(z, xp)
    return dy * s * (1.0 + z * _sigmoid(-z, xp))


def _mish_parts(z: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return e = e^z and n with ``tanh(log(1 + e)) = n / (n + 2)``; beyond z = 20 the quotient is 1 to all digits."""
    e = xp.exp(xp.minimum(z, 20.0))
    return e, e * (e + 2.0)


def _mish(z: Array, xp: Namespace) -> Array:
    _, n = _mish_parts(z, xp)
    return z * (n / (n + 2.0))


def _mish_gradient(dy: Array, z: Array, xp: Namespace) -> Array:
    e, n = _mish_parts(z, xp)
    # 1 - tanh^2 = 4 (n + 1) / (n + 2)^2, without the cancellation
    return dy * (n / (n + 2.0) + z * (4.0 * ((n + 1.0) / (n + 2.0)) / (n + 2.0)) * (e / (1.0 + e)))


TABLE: dict[str, ActivationFunction] = {
    a.name: a
    for a in (
        ActivationFunction("identity", lambda z, xp: z, lambda dy, y, xp: dy, "y"),
        ActivationFunction("relu", lambda z, xp: xp.maximum(z, 0.0), lambda dy, y, xp: xp.where(y > 0, dy, 0.0), "y"),
        ActivationFunction(
            "leaky_relu",
            lambda z, xp: xp.where(z > 0, z, LEAKY_SLOPE * z),
            lambda dy, y, xp: xp.where(y > 0, dy, LEAKY_SLOPE * dy),
            "y",
        ),
        ActivationFunction("elu", _elu, lambda dy, y, xp: xp.where(y > 0, dy, dy * (y + 1.0)), "y"),
        ActivationFunction(
            "selu",
            lambda z, xp: SELU_SCALE * xp.where(z > 0, z, SELU_ALPHA * xp.expm1(z)),
            lambda dy, y, xp: xp.where(y > 0, SELU_SCALE * dy, dy * (y + SELU_SCALE * SELU_ALPHA)),
            "y",
        ),
        ActivationFunction("gelu", lambda z, xp: 0.5 * z * (1.0 + erf(z * math.sqrt(0.5), xp)), _gelu_gradient, "z"),
        ActivationFunction("gelu_tanh", _gelu_tanh, _gelu_tanh_gradient, "z"),
        ActivationFunction("silu", lambda z, xp: z * _sigmoid(z, xp), _silu_gradient, "z"),
        ActivationFunction("mish", _mish, _mish_gradient, "z"),
        ActivationFunction("softplus", _softplus, lambda dy, y, xp: dy * -xp.expm1(-y), "y"),
        ActivationFunction("sigmoid", _sigmoid, lambda dy, y, xp: dy * (y * (1.0 - y)), "y"),
        ActivationFunction("tanh", lambda z, xp: xp.tanh(z), lambda dy, y, xp: dy * (1.0 - y * y), "y"),
        ActivationFunction(
            "softsign",
            lambda z, xp: z / (1.0 + xp.abs(z)),
            lambda dy, y, xp: dy * (1.0 - xp.abs(y)) ** 2,
            "y",
        ),
        ActivationFunction(
            "hard_sigmoid",
            lambda z, xp: xp.clip(z * (1.0 / 6.0) + 0.5, 0.0, 1.0),
            lambda dy, y, xp: xp.where((y > 0) & (y < 1), dy * (1.0 / 6.0), 0.0),
            "y",
        ),
        ActivationFunction("exp", lambda z, xp: xp.exp(z), lambda dy, y, xp: dy * y, "y"),
    )
}
ACTIVATIONS = tuple(TABLE)
"""Every activation's name, in the order that kernels number them by."""


def find(name: str) -> ActivationFunction:
    """Return the activation of that name, or raise ValueError with the list and the nearest name."""
    try:
        return TABLE[name]
    except (KeyError, TypeError, ValueError):  # of what has no hash
        raise unknown("activation", name, ACTIVATIONS) from None


def _vjp(dy: Array, out: tuple[Array, Array], x: Array, *, kind: str) -> tuple[Array, ...]:
    return (activation_grad(dy, out[1], kind=kind),)


@op(
    numpy="mlpx_kernels.cpu.activation:activation",
    cupy="mlpx_kernels.cuda.activation:activation",
    takes=arguments("x (...)", kind=name_of(ACTIVATIONS)),
    vjp=_vjp,
)
def activation(xp: Namespace, x: Array, *, kind: str) -> tuple[Array, Array]:
    """Apply an activation to every element: ``y = f(x)``.

    ========== ================================= ============ ===========================================
    kind       f(x)                              kind         f(x)
    ========== ================================= ============ ===========================================
    identity   x                                 silu         x sigmoid(x)
    relu       max(x, 0)                         mish         x tanh(softplus(x))
    leaky_relu x, or 0.01 x below 0              softplus     log(1 + e^x)
    elu        x, or e^x - 1 below 0             sigmoid      1 / (1 + e^-x)
    selu       1.0507 x, or 1.7581 (e^x - 1)     tanh         tanh(x)
    gelu       x (1 + erf(x / sqrt 2)) / 2       softsign     x / (1 + abs x)
    gelu_tanh  its tanh approximation            hard_sigmoid x / 6 + 1/2 within [0, 1]
    exp        e^x
    ========== ================================= ============ ===========================================

    Parameters
    ----------
    x : array (..., n), float
        The pre-activation.
    kind : str
        A name of the table.

    Returns
    -------
    y : array (..., n), dtype of x
    saved : array (..., n)
        What `activation_grad` needs: ``x`` itself or ``y``. Do not write to it.

    Raises
    ------
    ValueError
        For an unknown kind; the message lists the known ones and the nearest name.
    """
    f = find(kind)
    y = f.function(x, xp)
    if y is x:
        y = xp.asarray(x, copy=True)
    return y, (x if f.saves == "z" else y)


@op(
    numpy="mlpx_kernels.cpu.activation:activation_grad",
    cupy="mlpx_kernels.cuda.activation:activation_grad",
    takes=arguments("dy (...), saved (...)", kind=name_of(ACTIVATIONS)),
)
def activation_grad(xp: Namespace, dy: Array, saved: Array, *, kind: str) -> Array:
    """Return ``dx = dy * f'(x)`` for the ``saved`` of `activation`; same shape and dtype as ``dy``.

    At a kink (relu and its kin at 0) the derivative is the one from the left.
    """
    dx = find(kind).gradient(dy, saved, xp)
    return xp.asarray(dx, copy=True) if dx is dy else dx
