"""Batch and layer normalisation, with their gradients."""

from typing import Any

from mlpx.ops._dense import rows
from mlpx.ops.dispatch import op
from mlpx.ops.signature import arguments, number
from mlpx.typing import Array, Namespace

EPS = number(0.0, open_low=True)


def _batch_vjp(dy: Array, out: Any, x: Array, gamma: Array, beta: Array, *, eps: float) -> tuple[Array, ...]:
    return batch_norm_grad(dy, x, gamma, out[1], out[2], eps=eps)


def _layer_vjp(dy: Array, out: Any, x: Array, gamma: Array, beta: Array, *, eps: float) -> tuple[Array, ...]:
    return layer_norm_grad(dy, x, gamma, out[1], out[2], eps=eps)


def _inference_vjp(
    dy: Array, y: Array, x: Array, gamma: Array, beta: Array, mean: Array, var: Array, *, eps: float
) -> tuple[Array, ...]:
    return batch_norm_inference_grad(dy, x, gamma, mean, var, eps=eps)


@op(
    numpy="mlpx_kernels.cpu.norm:batch_norm",
    cupy="mlpx_kernels.cuda.norm:batch_norm",
    takes=arguments("x (..., f), gamma (f), beta (f)", eps=EPS),
    vjp=_batch_vjp,
)
def batch_norm(xp: Namespace, x: Array, gamma: Array, beta: Array, *, eps: float) -> tuple[Array, Array, Array]:
    """Normalise each feature over the batch: ``y = gamma (x - mean) / sqrt(var + eps) + beta``.

    Parameters
    ----------
    x : array (..., f), float
        All leading axes are the batch.
    gamma, beta : array (f,), dtype of x
    eps : float
        Added to the variance, in squared units of x; above 0.

    Returns
    -------
    y : array (..., f)
    mean, var : array (f,)
        Of this batch; var divides by n (not n - 1). No rows give mean 0 and var 0.

    Source: Ioffe and Szegedy 2015, "Batch normalization".
    """
    r = rows(x, xp)
    n = max(r.shape[0], 1)
    mean = xp.sum(r, axis=0) / n
    centred = r - mean
    var = xp.sum(centred * centred, axis=0) / n
    return xp.reshape(centred * (gamma / xp.sqrt(var + eps)) + beta, x.shape), mean, var


@op(
    numpy="mlpx_kernels.cpu.norm:batch_norm_grad",
    cupy="mlpx_kernels.cuda.norm:batch_norm_grad",
    takes=arguments("dy (..., f), x (..., f), gamma (f), mean (f), var (f)", eps=EPS),
)
def batch_norm_grad(
    xp: Namespace, dy: Array, x: Array, gamma: Array, mean: Array, var: Array, *, eps: float
) -> tuple[Array, Array, Array]:
    """Gradients of `batch_norm`: with h = (x - mean) / sqrt(var + eps)::

        dgamma = sum dy h     dbeta = sum dy     dx = gamma / sqrt(var + eps) (dy - (dbeta + h dgamma) / n)

    ``mean`` and ``var`` (f,) are those of the forward call. Returns dx (..., f), dgamma (f,), dbeta (f,).
    """
    d, r = rows(dy, xp), rows(x, xp)
    n = max(r.shape[0], 1)
    inverse = 1.0 / xp.sqrt(var + eps)
    h = (r - mean) * inverse
    dgamma, dbeta = xp.sum(d * h, axis=0), xp.sum(d, axis=0)
    return xp.reshape(gamma * inverse * (d - (dbeta + h * dgamma) / n), x.shape), dgamma, dbeta


@op(
    numpy="mlpx_kernels.cpu.norm:batch_norm_inference",
    cupy="mlpx_kernels.cuda.norm:batch_norm_inference",
    takes=arguments("x (..., f), gamma (f), beta (f), mean (f), var (f)", eps=EPS),
    vjp=_inference_vjp,
)
def batch_norm_inference(
    xp: Namespace, x: Array, gamma: Array, beta: Array, mean: Array, var: Array, *, eps: float
) -> Array:
    """Normalise with given statistics: ``y = gamma (x - mean) / sqrt(var + eps) + beta``; mean, var (f,)."""
    return (x - mean) * (gamma / xp.sqrt(var + eps)) + beta


@op(
    numpy="mlpx_kernels.cpu.norm:batch_norm_inference_grad",
    cupy="mlpx_kernels.cuda.norm:batch_norm_inference_grad",
    takes=arguments("dy (..., f), x (..., f), gamma (f), mean (f), var (f)", eps=EPS),
)
def batch_norm_inference_grad(
    xp: Namespace, dy: Array, x: Array, gamma: Array, mean: Array, var: Array, *, eps: float
) -> tuple[Array, Array, Array]:
    """Gradients of `batch_norm_inference` with the statistics held fixed: dx (..., f), dgamma (f,), dbeta (f,)."""
    d, r = rows(dy, xp), rows(x, xp)
    inverse = 1.0 / xp.sqrt(var + eps)
    return dy * (gamma * inverse), xp.sum(d * (r - mean) * inverse, axis=0), xp.sum(d, axis=0)


@op(
    numpy="mlpx_kernels.cpu.norm:layer_norm",
    cupy="mlpx_kernels.cuda.norm:layer_norm",
    takes=arguments("x (..., f), gamma (f), beta (f)", eps=EPS),
    vjp=_layer_vjp,
)
def layer_norm(xp: Namespace, x: Array, gamma: Array, beta: Array, *, eps: float) -> tuple[Array, Array, Array]:
    """Normalise each row over its features: ``y = gamma (x - mean) / sqrt(var + eps) + beta``.

    Arrays as in `batch_norm`; ``mean`` and ``var`` come back as (..., 1). A constant row gives beta.

    Source: Ba et al. 2016, "Layer normalization".
    """
    f = x.shape[-1]
    mean = xp.sum(x, axis=-1, keepdims=True) / f
    centred = x - mean
    var = xp.sum(centred * centred, axis=-1, keepdims=True) / f
    return centred / xp.sqrt(var + eps) * gamma + beta, mean, var


@op(
    numpy="mlpx_kernels.cpu.norm:layer_norm_grad",
    cupy="mlpx_kernels.cuda.norm:layer_norm_grad",
    takes=arguments("dy (..., f), x (..., f), gamma (f), mean (..., 1), var (..., 1)", eps=EPS),
)
def layer_norm_grad(
    xp: Namespace, dy: Array, x: Array, gamma: Array, mean: Array, var: Array, *, eps: float
) -> tuple[Array, Array, Array]:
    """Gradients of `layer_norm`: with h = (x - mean) / sqrt(var + eps) and g = dy gamma::

        dx = (g - mean(g) - h mean(g h)) / sqrt(var + eps)     dgamma = sum dy h     dbeta = sum dy

    ``mean`` and ``var`` (..., 1) are those of the forward call. Returns dx (..., f), dgamma (f,), dbeta (f,).
    """
    f = x.shape[-1]
    inverse = 1.0 / xp.sqrt(var + eps)
    h = (x - mean) * inverse
    g = dy * gamma
    dx = (g - xp.sum(g, axis=-1, keepdims=True) / f - h * (xp.sum(g * h, axis=-1, keepdims=True) / f)) * inverse
    return dx, xp.sum(rows(dy * h, xp), axis=0), xp.sum(rows(dy, xp), axis=0)
