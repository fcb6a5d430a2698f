"""Row-wise softmax, its masked form and its logarithm: over the last axis, stable at any finite logits."""

from mlpx.ops.dispatch import op
from mlpx.ops.signature import arguments
from mlpx.typing import Array, Namespace


def _softmax_vjp(dy: Array, y: Array, x: Array) -> tuple[Array, ...]:
    return (softmax_grad(dy, y),)


def _masked_vjp(dy: Array, y: Array, x: Array, mask: Array) -> tuple[Array, ...]:
    return (masked_softmax_grad(dy, y, mask),)


def _log_vjp(dy: Array, y: Array, x: Array) -> tuple[Array, ...]:
    return (log_softmax_grad(dy, y),)


@op(
    numpy="mlpx_kernels.cpu.softmax:softmax",
    cupy="mlpx_kernels.cuda.softmax:softmax",
    takes=arguments("x (..., c>0)"),
    vjp=_softmax_vjp,
)
def softmax(xp: Namespace, x: Array) -> Array:
    """Turn each row of logits into probabilities: ``y_c = exp(x_c - max x) / sum_k exp(x_k - max x)``.

    Parameters
    ----------
    x : array (..., c), float
        Logits, in nats; any finite size. A row that holds NaN or +inf, or only -inf, gives NaN; single -inf give 0.

    Returns
    -------
    y : array (..., c), dtype of x
        Probabilities; every row sums to 1. No rows give an empty result.
    """
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


@op(
    numpy="mlpx_kernels.cpu.softmax:softmax_grad",
    cupy="mlpx_kernels.cuda.softmax:softmax_grad",
    takes=arguments("dy (..., c>0), y (..., c)"),
)
def softmax_grad(xp: Namespace, dy: Array, y: Array) -> Array:
    """Gradient of `softmax`: ``dx = y * (dy - sum_k dy_k y_k)``; ``y`` (..., c) is its output."""
    return y * (dy - xp.sum(dy * y, axis=-1, keepdims=True))


@op(
    numpy="mlpx_kernels.cpu.softmax:masked_softmax",
    cupy="mlpx_kernels.cuda.softmax:masked_softmax",
    takes=arguments("x (..., c>0), mask bool (..., c)"),
    vjp=_masked_vjp,
)
def masked_softmax(xp: Namespace, x: Array, mask: Array) -> Array:
    """Softmax over the allowed classes of each row; the others are exactly 0.

    Parameters
    ----------
    x : array (..., c), float
        Logits. Those not allowed are never looked at: they may be NaN or infinite.
    mask : array (..., c), bool
        True where a class is allowed.

    Returns
    -------
    y : array (..., c), dtype of x
        The allowed entries of a row sum to 1. A row that allows nothing is all zeros.
    """
    lowest = xp.where(mask, x, -xp.inf)
    top = xp.max(lowest, axis=-1, keepdims=True)
    any_allowed = xp.any(mask, axis=-1, keepdims=True)
    top = xp.where(any_allowed, top, 0.0)
    e = xp.where(mask, xp.exp(lowest - top), 0.0)
    total = xp.where(any_allowed, xp.sum(e, axis=-1, keepdims=True), 1.0)
    return e / total


@op(
    numpy="mlpx_kernels.cpu.softmax:masked_softmax_grad",
    cupy="mlpx_kernels.cuda.softmax:masked_softmax_grad",
    takes=arguments("dy (..., c>0), y (..., c), mask bool (..., c)"),
)
def masked_softmax_grad(xp: Namespace, dy: Array, y: Array, mask: Array) -> Array:
    """Gradient of `masked_softmax`: that of softmax where allowed, exactly 0 elsewhere, whatever ``dy`` holds."""
    dy = xp.where(mask, dy, 0.0)
    return xp.where(mask, y * (dy - xp.sum(dy * y, axis=-1, keepdims=True)), 0.0)


@op(
    numpy="mlpx_kernels.cpu.softmax:log_softmax",
    cupy="mlpx_kernels.cuda.softmax:log_softmax",
    takes=arguments("x (..., c>0)"),
    vjp=_log_vjp,
)
def log_softmax(xp: Namespace, x: Array) -> Array:
    """Logarithm of `softmax`, in nats: ``y_c = x_c - max x - log sum_k exp(x_k - max x)``; finite for finite x."""
    shifted = x - xp.max(x, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


@op(
    numpy="mlpx_kernels.cpu.softmax:log_softmax_grad",
    cupy="mlpx_kernels.cuda.softmax:log_softmax_grad",
    takes=arguments("dy (..., c>0), y (..., c)"),
)
def log_softmax_grad(xp: Namespace, dy: Array, y: Array) -> Array:
    """Gradient of `log_softmax`: ``dx = dy - exp(y) * sum_k dy_k``; ``y`` (..., c) is its output."""
    return dy - xp.exp(y) * xp.sum(dy, axis=-1, keepdims=True)
