"""The dense layer in matrices: product, bias and activation forward; their gradients backward."""

import math
from typing import Any

from mlpx.ops._activation import ACTIVATIONS, find
from mlpx.ops.dispatch import op
from mlpx.ops.signature import arguments, flag, name_of
from mlpx.typing import Array, Namespace


def rows(x: Array, xp: Namespace) -> Array:
    """Return ``x`` (..., n) as (rows, n): all leading axes in one, without a copy for a contiguous ``x``."""
    return x if x.ndim == 2 else xp.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _dense_vjp(
    dy: Array, out: Any, x: Array, w: Array, b: Array | None, *, activation: str = "identity"
) -> tuple[Array, ...]:
    dx, dw, db = dense_grad(dy, x, w, out[1], activation=activation)
    return (dx, dw) if b is None else (dx, dw, db.reshape(b.shape))


@op(
    numpy="mlpx_kernels.cpu.dense:dense",
    cupy="mlpx_kernels.cuda.dense:dense",
    takes=arguments(
        "x (..., i), w (o, i), b? (o) | (1, o)",
        {"w": "w is (n_out, n_in); for weights held as (n_in, n_out) pass w.T."},
        activation=name_of(ACTIVATIONS),
    ),
    vjp=_dense_vjp,
)
def dense(xp: Namespace, x: Array, w: Array, b: Array | None, *, activation: str = "identity") -> tuple[Array, Array]:
    """Product, bias and activation: ``z = x @ w.T + b``, ``y = f(z)``. Rows are instances.

    Parameters
    ----------
    x : array (..., i), float32 or float64
        Any number of leading axes, none included; they are collapsed to one, so there is one product.
    w : array (o, i), dtype of x
    b : array (o,) or (1, o), dtype of x, or None
        None leaves the bias out.
    activation : str
        A name of `mlpx.ops.ACTIVATIONS`.

    Returns
    -------
    y : array (..., o), dtype of x
    saved : array (..., o)
        What `dense_grad` needs: ``z`` or ``y``, whichever the derivative is cheapest from. Do not write to it.

    Raises
    ------
    ValueError
        If the shapes do not fit or the activation is unknown.
    TypeError
        If dtypes or backends differ.

    Notes
    -----
    No rows give an empty result; NaN and infinities propagate.
    """
    f = find(activation)
    z = xp.matmul(rows(x, xp), w.T)
    if b is not None:
        z += xp.reshape(b, (w.shape[0],))
    y = f.function(z, xp)
    shape = (*x.shape[:-1], w.shape[0])
    return xp.reshape(y, shape), xp.reshape(z if f.saves == "z" else y, shape)


@op(
    numpy="mlpx_kernels.cpu.dense:dense_grad",
    cupy="mlpx_kernels.cuda.dense:dense_grad",
    takes=arguments("dy (..., o), x (..., i), w (o, i), saved (..., o)", activation=name_of(ACTIVATIONS), need_dx=flag),
)
def dense_grad(
    xp: Namespace,
    dy: Array,
    x: Array,
    w: Array,
    saved: Array,
    *,
    activation: str = "identity",
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Gradients of `dense`: ``dz = dy * f'(z)``, ``dx = dz @ w``, ``dw = dz.T @ x``, ``db = dz.sum(0)``.

    Parameters
    ----------
    dy : array (..., o)
        Gradient of the loss with respect to ``y``.
    x : array (..., i)
        The input of the forward call.
    w : array (o, i)
    saved : array (..., o)
        The second result of `dense`.
    activation : str
        The one of the forward call.
    need_dx : bool
        False for a first layer, whose input needs no gradient: dx is None then, and its product is saved.

    Returns
    -------
    dx : array (..., i) or None
    dw : array (o, i)
    db : array (o,)
        Sums over all rows, not means: the loss carries its own 1/n. No rows give zeros.
    """
    dz = rows(find(activation).gradient(dy, saved, xp), xp)
    dx = xp.reshape(xp.matmul(dz, w), x.shape) if need_dx else None
    return dx, xp.matmul(dz.T, rows(x, xp)), xp.sum(dz, axis=0)


@op(
    numpy="mlpx_kernels.cpu.dense:dense_grad_rows",
    takes=arguments("dy (n, o), x (n, i), saved (n, o)", activation=name_of(ACTIVATIONS)),
)
def dense_grad_rows(
    xp: Namespace, dy: Array, x: Array, saved: Array, *, activation: str = "identity"
) -> tuple[Array, Array]:
    """Gradients of `dense` row by row, before any sum: ``dw_n = dz_n x_n^T``, ``db_n = dz_n``.

    For Jacobians (Levenberg-Marquardt). ``dy``, ``saved`` (n, o), ``x`` (n, i); returns dw (n, o, i) and db (n, o).
    """
    dz = find(activation).gradient(dy, saved, xp)
    return dz[:, :, None] * x[:, None, :], xp.asarray(dz, copy=True) if dz is dy else dz
