"""The dense layer in matrices: product, bias and activation forward; their gradients backward."""

import math
from typing import Any

from mlpx.ops._activation import find
from mlpx.ops.dispatch import op
from mlpx.typing import Array, Namespace


def rows(x: Array, xp: Namespace) -> Array:
    """Return ``x`` (..., n) as (rows, n): all leading axes in one, without a copy for a contiguous ``x``."""
    return x if x.ndim == 2 else xp.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _check_dense(x: Array, w: Array, b: Array | None, *, activation: str = "identity") -> None:
    find(activation)
    if w.ndim != 2:
        raise ValueError(f"dense: w has shape {tuple(w.shape)}; expected two axes, (n_out, n_in).")
    if x.ndim < 1 or x.shape[-1] != w.shape[1]:
        raise ValueError(
            f"dense: x has shape {tuple(x.shape)}, w {tuple(w.shape)}; expected x (..., {w.shape[1]}) to match "
            f"w (n_out, n_in). For weights held as (n_in, n_out) pass w.T."
        )
    if b is not None and b.shape not in ((w.shape[0],), (1, w.shape[0])):
        raise ValueError(
            f"dense: b has shape {tuple(b.shape)}; expected ({w.shape[0]},) or (1, {w.shape[0]}) to match "
            f"w {tuple(w.shape)}."
        )
    if x.dtype != w.dtype or (b is not None and b.dtype != w.dtype):
        raise TypeError(
            f"dense: x is {x.dtype}, w {w.dtype}, b {None if b is None else b.dtype}; one float dtype is needed. "
            "Convert with mlpx.asarray(x, dtype)."
        )


def _check_dense_grad(
    dy: Array, x: Array, w: Array, saved: Array, *, activation: str = "identity", need_dx: bool = True
) -> None:
    find(activation)
    wanted = (*x.shape[:-1], w.shape[0])
    for name, array in (("dy", dy), ("saved", saved)):
        if array.shape != wanted:
            raise ValueError(
                f"dense_grad: {name} has shape {tuple(array.shape)}; expected {tuple(wanted)} to match "
                f"x {tuple(x.shape)} and w {tuple(w.shape)}."
            )


def _dense_vjp(
    dy: Array, out: Any, x: Array, w: Array, b: Array | None, *, activation: str = "identity"
) -> tuple[Array, ...]:
    dx, dw, db = dense_grad(dy, x, w, out[1], activation=activation)
    return (dx, dw) if b is None else (dx, dw, db.reshape(b.shape))


@op(numpy="mlpx_kernels.cpu.dense:dense", cupy="mlpx_kernels.cuda.dense:dense", check=_check_dense, vjp=_dense_vjp)
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


@op(numpy="mlpx_kernels.cpu.dense:dense_grad", cupy="mlpx_kernels.cuda.dense:dense_grad", check=_check_dense_grad)
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


@op(numpy="mlpx_kernels.cpu.dense:dense_grad_rows")
def dense_grad_rows(
    xp: Namespace, dy: Array, x: Array, saved: Array, *, activation: str = "identity"
) -> tuple[Array, Array]:
    """Gradients of `dense` row by row, before any sum: ``dw_n = dz_n x_n^T``, ``db_n = dz_n``.

    For Jacobians (Levenberg-Marquardt). ``dy``, ``saved`` (n, o), ``x`` (n, i); returns dw (n, o, i) and db (n, o).
    """
    dz = find(activation).gradient(dy, saved, xp)
    return dz[:, :, None] * x[:, None, :], xp.asarray(dz, copy=True) if dz is dy else dz
