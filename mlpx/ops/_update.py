"""Parameter updates: each reads a gradient and writes the weights and its own state in place.

Arrays are flat (k,), all of one float dtype, and share no memory. Every update first forms the effective gradient::

    g' = clip(scale * g, -clip, clip) + l2 * w + l1 * sign(w)

and, where ``decay`` is not 0, shrinks the weights apart from the gradient: ``w <- w (1 - lr * decay)`` ("decoupled",
Loshchilov and Hutter 2019). ``lr`` is the learning rate; ``scale`` carries clipping by norm. The gradient is never
written to.
"""

from mlpx.ops.dispatch import op
from mlpx.ops.signature import Option, Signature, arguments, count, flag, number, unbounded
from mlpx.typing import Array, Namespace

INF = float("inf")


def _takes(*states: str, **own: Option) -> Signature:
    """Return the signature of an update with some arrays of state, and what is particular to it."""
    arrays = ", ".join(["w! (...)", "g (...)", *(f"{name}! (...)" for name in states)])
    penalties = {name: number(0.0) for name in ("l1", "l2", "decay")}
    return arguments(arrays, lr=unbounded(), scale=unbounded(), clip=unbounded(0.0), **penalties, **own)


SHARE, EPS = number(0.0, 1.0, open_high=True), number(0.0)
"""Of the past in a running mean; what keeps a quotient finite."""


def _effective(
    xp: Namespace,
    w: Array,
    g: Array,
    lr: float,
    scale: float,
    clip: float,
    l1: float,
    l2: float,
    decay: float,
) -> Array:
    """Return g' and apply the decoupled decay to ``w``; the order matters, since g' looks at the old weights."""
    g = g * scale
    if clip != INF:
        g = xp.clip(g, -clip, clip)
    if l2:
        g = g + l2 * w
    if l1:
        g = g + l1 * xp.sign(w)
    if decay:
        w *= 1.0 - lr * decay
    return g


@op(
    numpy="mlpx_kernels.cpu.update:sgd_inplace",
    cupy="mlpx_kernels.cuda.update:sgd_inplace",
    takes=_takes(),
)
def sgd_inplace(
    xp: Namespace,
    w: Array,
    g: Array,
    *,
    lr: float,
    scale: float = 1.0,
    clip: float = INF,
    l1: float = 0.0,
    l2: float = 0.0,
    decay: float = 0.0,
) -> None:
    """Gradient descent: ``w <- w - lr g'``."""
    g = _effective(xp, w, g, lr, scale, clip, l1, l2, decay)
    w -= lr * g


@op(
    numpy="mlpx_kernels.cpu.update:momentum_inplace",
    cupy="mlpx_kernels.cuda.update:momentum_inplace",
    takes=_takes("v", momentum=number(), nesterov=flag),
)
def momentum_inplace(
    xp: Namespace,
    w: Array,
    g: Array,
    v: Array,
    *,
    lr: float,
    momentum: float,
    nesterov: bool = False,
    scale: float = 1.0,
    clip: float = INF,
    l1: float = 0.0,
    l2: float = 0.0,
    decay: float = 0.0,
) -> None:
    """Momentum: ``v <- momentum v - lr g'``, ``w <- w + v``; Nesterov: ``w <- w + momentum v - lr g'`` after it."""
    g = _effective(xp, w, g, lr, scale, clip, l1, l2, decay)
    v *= momentum
    v -= lr * g
    w += (momentum * v - lr * g) if nesterov else v


@op(
    numpy="mlpx_kernels.cpu.update:adagrad_inplace",
    cupy="mlpx_kernels.cuda.update:adagrad_inplace",
    takes=_takes("s", eps=EPS),
)
def adagrad_inplace(
    xp: Namespace,
    w: Array,
    g: Array,
    s: Array,
    *,
    lr: float,
    eps: float,
    scale: float = 1.0,
    clip: float = INF,
    l1: float = 0.0,
    l2: float = 0.0,
    decay: float = 0.0,
) -> None:
    """Adagrad: ``s <- s + g'^2``, ``w <- w - lr g' / (sqrt s + eps)``. Source: Duchi et al. 2011."""
    g = _effective(xp, w, g, lr, scale, clip, l1, l2, decay)
    s += g * g
    w -= lr * g / (xp.sqrt(s) + eps)


@op(
    numpy="mlpx_kernels.cpu.update:rmsprop_inplace",
    cupy="mlpx_kernels.cuda.update:rmsprop_inplace",
    takes=_takes("s", rho=SHARE, eps=EPS),
)
def rmsprop_inplace(
    xp: Namespace,
    w: Array,
    g: Array,
    s: Array,
    *,
    lr: float,
    rho: float,
    eps: float,
    scale: float = 1.0,
    clip: float = INF,
    l1: float = 0.0,
    l2: float = 0.0,
    decay: float = 0.0,
) -> None:
    """RMSprop: ``s <- rho s + (1 - rho) g'^2``, ``w <- w - lr g' / (sqrt s + eps)``. Source: Hinton 2012."""
    g = _effective(xp, w, g, lr, scale, clip, l1, l2, decay)
    s *= rho
    s += (1.0 - rho) * g * g
    w -= lr * g / (xp.sqrt(s) + eps)


@op(
    numpy="mlpx_kernels.cpu.update:adadelta_inplace",
    cupy="mlpx_kernels.cuda.update:adadelta_inplace",
    takes=_takes("s", "d", rho=SHARE, eps=EPS),
)
def adadelta_inplace(
    xp: Namespace,
    w: Array,
    g: Array,
    s: Array,
    d: Array,
    *,
    lr: float,
    rho: float,
    eps: float,
    scale: float = 1.0,
    clip: float = INF,
    l1: float = 0.0,
    l2: float = 0.0,
    decay: float = 0.0,
) -> None:
    """Adadelta: ``s <- rho s + (1 - rho) g'^2``, ``u = sqrt(d + eps) / sqrt(s + eps) g'``,
    ``d <- rho d + (1 - rho) u^2``, ``w <- w - lr u``. Source: Zeiler 2012.
    """
    g = _effective(xp, w, g, lr, scale, clip, l1, l2, decay)
    s *= rho
    s += (1.0 - rho) * g * g
    u = xp.sqrt(d + eps) / xp.sqrt(s + eps) * g
    d *= rho
    d += (1.0 - rho) * u * u
    w -= lr * u


@op(
    numpy="mlpx_kernels.cpu.update:adam_inplace",
    cupy="mlpx_kernels.cuda.update:adam_inplace",
    takes=_takes("m", "v", beta1=SHARE, beta2=SHARE, eps=EPS, step=count(1, 2**100)),
)
def adam_inplace(
    xp: Namespace,
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
    scale: float = 1.0,
    clip: float = INF,
    l1: float = 0.0,
    l2: float = 0.0,
    decay: float = 0.0,
) -> None:
    """Adam: ``m <- beta1 m + (1 - beta1) g'``, ``v <- beta2 v + (1 - beta2) g'^2``,
    ``w <- w - lr m^ / (sqrt v^ + eps)`` with ``m^ = m / (1 - beta1^step)``, ``v^ = v / (1 - beta2^step)``;
    ``step`` counts from 1. With ``decay`` it is AdamW. Source: Kingma and Ba 2015, algorithm 1.
    """
    g = _effective(xp, w, g, lr, scale, clip, l1, l2, decay)
    m *= beta1
    m += (1.0 - beta1) * g
    v *= beta2
    v += (1.0 - beta2) * g * g
    size = lr / (1.0 - beta1**step)
    w -= size * m / (xp.sqrt(v) * (1.0 - beta2**step) ** -0.5 + eps)


@op(
    numpy="mlpx_kernels.cpu.update:rprop_inplace",
    cupy="mlpx_kernels.cuda.update:rprop_inplace",
    takes=_takes("last", "size", shrink=number(0.0), grow=number(0.0), smallest=number(0.0), largest=number(0.0)),
)
def rprop_inplace(
    xp: Namespace,
    w: Array,
    g: Array,
    last: Array,
    size: Array,
    *,
    lr: float,
    shrink: float,
    grow: float,
    smallest: float,
    largest: float,
    scale: float = 1.0,
    clip: float = INF,
    l1: float = 0.0,
    l2: float = 0.0,
    decay: float = 0.0,
) -> None:
    """Rprop without backtracking: a step size per weight, grown while the gradient keeps its sign, else shrunk.

    ``s = sign(g' last)``; ``size <- size * grow`` where s > 0, ``size * shrink`` where s < 0, within [smallest,
    largest]; g' is set to 0 where s < 0; ``w <- w - sign(g') size``; ``last <- g'``. ``lr`` is used by ``decay``
    alone (the sizes start from it). Source: Igel and Hüsken 2000, iRprop-.
    """
    g = _effective(xp, w, g, lr, scale, clip, l1, l2, decay)
    agree = g * last
    factor = xp.where(agree > 0, grow, xp.where(agree < 0, shrink, xp.ones_like(agree)))
    size[...] = xp.clip(size * factor, smallest, largest)
    g = xp.where(agree < 0, 0.0, g)
    w -= xp.sign(g) * size
    last[...] = g
