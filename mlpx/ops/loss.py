"""Losses from logits or predictions; each returns the loss and its gradient in one call.

Every loss is a weighted mean over rows of a sum over outputs: ``loss = sum_i r_i l_i / sum_i r_i`` with the row
weights ``r_i`` (1 without ``sample_weight``). A row of weight 0 counts for nothing, whatever it holds: padding may be
NaN. When no row has weight, loss and gradient are 0.
"""

from typing import Any

from mlpx.backend import backend_of, kind_of
from mlpx.errors import check_number
from mlpx.op import op
from mlpx.ops.activation import TABLE
from mlpx.ops.dense import rows
from mlpx.ops.softmax import check_mask
from mlpx.typing import Array, Namespace

CPU, CUDA = "mlpx_kernels.cpu.loss:", "mlpx_kernels.cuda.loss:"
"""Where the kernels of this family are."""


def _check_weight(caller: str, argument: str, weight: Array | None, shape: tuple[int, ...]) -> None:
    if weight is not None and tuple(weight.shape) != tuple(shape):
        raise ValueError(f"{caller}: {argument} has shape {tuple(weight.shape)}; expected {tuple(shape)}.")


def check_classes(
    z: Array,
    target: Array,
    sample_weight: Array | None = None,
    class_weight: Array | None = None,
    mask: Array | None = None,
    *,
    label_smoothing: float = 0.0,
    caller: str = "softmax_cross_entropy",
) -> None:
    """Raise ValueError unless the arrays of a loss of classes fit its logits ``z``."""
    if z.ndim < 1 or z.shape[-1] == 0:
        raise ValueError(f"{caller}: z has shape {tuple(z.shape)}; expected (..., c) with at least one class.")
    check_number("label_smoothing", label_smoothing, 0.0, 1.0)
    integers = kind_of(target) == "i"
    wanted = z.shape[:-1] if integers else z.shape
    if tuple(target.shape) != tuple(wanted):
        raise ValueError(
            f"{caller}: target has shape {tuple(target.shape)} and dtype {target.dtype}; for logits z "
            f"{tuple(z.shape)} expected integers {tuple(z.shape[:-1])} or floats {tuple(z.shape)}."
        )
    _check_weight(caller, "sample_weight", sample_weight, z.shape[:-1])
    _check_weight(caller, "class_weight", class_weight, z.shape[-1:])
    if mask is not None:
        check_mask(caller, mask, z.shape)


def row_weight(xp: Namespace, sample_weight: Array | None, like: Array) -> Array:
    """Return the row weights r as (rows, 1)."""
    if sample_weight is None:
        return xp.ones_like(like[:, :1])
    return xp.reshape(sample_weight, (like.shape[0], 1))


@op(
    numpy="mlpx_kernels.cpu.loss:softmax_cross_entropy",
    cupy="mlpx_kernels.cuda.loss:softmax_cross_entropy",
    check=check_classes,
    vjp=lambda dy, out, z, *a, **p: (dy * out[1],),
)
def softmax_cross_entropy(
    xp: Namespace,
    z: Array,
    target: Array,
    sample_weight: Array | None = None,
    class_weight: Array | None = None,
    mask: Array | None = None,
    *,
    label_smoothing: float = 0.0,
) -> tuple[Array, Array]:
    """Cross-entropy of the softmax of logits, in nats, with the gradient with respect to the logits.

    With p = softmax(z), q_c = class_weight_c * ((1 - s) t_c + s / c) and s = label_smoothing::

        l_i  = - sum_c q_ic log p_ic          loss = sum_i r_i l_i / R
        dz_i = r_i (p_i sum_c q_ic - q_i) / R
        R    = sum_i r_i                      or, with class weights, sum_i r_i sum_c class_weight_c t_ic

    Parameters
    ----------
    z : array (..., c), float
        Logits.
    target : array (...,), int, or (..., c), dtype of z
        Class numbers from 0 to c - 1, or a probability per class.
    sample_weight : array (...,), dtype of z, optional
        r, at least 0.
    class_weight : array (c,), dtype of z, optional
        At least 0; as in PyTorch, the mean is over the weights of the targets.
    mask : array (..., c), bool, optional
        True where a class is allowed. Others have probability 0 and gradient 0, whatever their logits hold; smoothing
        spreads over the allowed classes. A row that allows nothing has weight 0. A target that is not allowed gives
        an infinite loss.
    label_smoothing : float
        s in [0, 1].

    Returns
    -------
    loss : array (), dtype of z
    dz : array (..., c), dtype of z

    Raises
    ------
    ValueError
        If shapes do not fit, or a class number is outside 0 to c - 1 (on the host; on a GPU its row becomes NaN).
    """
    c = z.shape[-1]
    logits = rows(z, xp)
    r = row_weight(xp, sample_weight, logits)
    t = one_hot(xp, target, logits, "softmax_cross_entropy") if kind_of(target) == "i" else rows(target, xp)
    weighted_t = t if class_weight is None else t * class_weight
    q = t
    if mask is None:
        allowed = r == r  # all of them
        if label_smoothing:
            q = (1.0 - label_smoothing) * t + label_smoothing / c
    else:
        allowed = rows(mask, xp)
        count = xp.sum(xp.asarray(allowed, dtype=z.dtype), axis=-1, keepdims=True)
        r = xp.where(count > 0, r, 0.0)
        if label_smoothing:
            share = xp.asarray(allowed, dtype=z.dtype) / xp.where(count > 0, count, 1.0)
            q = (1.0 - label_smoothing) * t + label_smoothing * share
    if class_weight is not None:
        q = q * class_weight

    counts = r > 0
    total = xp.sum(r if class_weight is None else xp.where(counts, r * weighted_t, 0.0))
    share_of_row = r / xp.where(total > 0, total, 1.0)

    lowest = xp.where(allowed & counts, logits, -xp.inf)
    shifted = lowest - xp.where(counts, xp.max(lowest, axis=-1, keepdims=True), 0.0)
    e = xp.where(allowed, xp.exp(shifted), 0.0)
    partition = xp.where(counts, xp.sum(e, axis=-1, keepdims=True), 1.0)
    surprise = xp.log(partition) - shifted  # -log p
    loss = xp.sum(xp.where(counts & (q != 0), share_of_row * q * surprise, 0.0))
    dz = share_of_row * (e / partition * xp.sum(q, axis=-1, keepdims=True) - q)
    return loss, xp.reshape(xp.where(allowed & counts, dz, 0.0), z.shape)


def one_hot(xp: Namespace, target: Array, like: Array, caller: str) -> Array:
    """Return class numbers (n,) as rows of zeros and a one, of the shape (n, c) and dtype of ``like``.

    Numbers out of range raise, where looking at them costs no transfer from a device. Else a label outside the classes
    finds no column: its row is made NaN, which no training overlooks.
    """
    c = like.shape[-1]
    label = xp.reshape(target, (like.shape[0], 1))
    if xp.__name__ == "numpy" and label.size and (label.min() < 0 or label.max() >= c):
        raise ValueError(
            f"{caller}: target holds class numbers from {label.min()} to {label.max()}; expected 0 to {c - 1} for z "
            f"with {c} classes."
        )
    t = xp.asarray(label == backend_of(like).arange(c)[None, :], dtype=like.dtype)
    return xp.where((label < 0) | (label >= c), xp.nan, t)


def weighted_mean(
    xp: Namespace, each: Array, gradient: Array, sample_weight: Array | None, mask: Array | None
) -> tuple[Array, Array]:
    """Return sum_i r_i sum_o each_io / sum_i r_i and the gradient to match; masked elements count for nothing."""
    r = row_weight(xp, sample_weight, rows(each, xp))
    total = xp.sum(r)
    r = r / xp.where(total > 0, total, 1.0)
    counts = (r > 0) if mask is None else (r > 0) & rows(mask, xp)
    loss = xp.sum(xp.where(counts, r * rows(each, xp), 0.0))
    return loss, xp.reshape(xp.where(counts, r * rows(gradient, xp), 0.0), gradient.shape)


def check_elements(
    y: Array,
    target: Array,
    sample_weight: Array | None = None,
    mask: Array | None = None,
    *,
    delta: float = 1.0,
    caller: str = "loss",
) -> None:
    """Raise ValueError unless a loss's arrays match the prediction ``y`` element by element."""
    if tuple(target.shape) != tuple(y.shape) or y.ndim < 1:
        raise ValueError(
            f"{caller}: target has shape {tuple(target.shape)}, the prediction {tuple(y.shape)}; they must match."
        )
    _check_weight(caller, "sample_weight", sample_weight, y.shape[:-1])
    if mask is not None:
        check_mask(caller, mask, y.shape)
    check_number("delta", delta, 0.0, open_low=True)


def _check_sigmoid(
    z: Array,
    target: Array,
    sample_weight: Array | None = None,
    pos_weight: Array | None = None,
    mask: Array | None = None,
    *,
    label_smoothing: float = 0.0,
) -> None:
    check_elements(z, target, sample_weight, mask, caller="sigmoid_cross_entropy")
    _check_weight("sigmoid_cross_entropy", "pos_weight", pos_weight, z.shape[-1:])
    check_number("label_smoothing", label_smoothing, 0.0, 1.0)


def own_gradient(dy: Array, out: Any, *args: Any, **params: Any) -> tuple[Array, ...]:
    """Return the gradient that a loss has computed beside its value, scaled by ``dy``."""
    return (dy * out[1],)


@op(numpy=CPU + "sigmoid_cross_entropy", cupy=CUDA + "sigmoid_cross_entropy", check=_check_sigmoid, vjp=own_gradient)
def sigmoid_cross_entropy(
    xp: Namespace,
    z: Array,
    target: Array,
    sample_weight: Array | None = None,
    pos_weight: Array | None = None,
    mask: Array | None = None,
    *,
    label_smoothing: float = 0.0,
) -> tuple[Array, Array]:
    """Cross-entropy of independent sigmoids, from their logits, in nats; finite at any finite logits.

    With t' = (1 - s) t + s / 2 and w = pos_weight::

        l_i  = sum_o w_o t'_io log(1 + e^-z_io) + (1 - t'_io) log(1 + e^z_io)
        dz   = r_i / sum r * (sigmoid(z) (w t' + 1 - t') - w t')

    Parameters
    ----------
    z, target : array (..., o), float
        Logits; targets in [0, 1].
    sample_weight : array (...,), dtype of z, optional
    pos_weight : array (o,), dtype of z, optional
        Weight of the positive part of each output.
    mask : array (..., o), bool, optional
        Outputs that are False count for nothing.
    label_smoothing : float
        s in [0, 1].

    Returns
    -------
    loss : array (), dz : array (..., o), dtype of z
    """
    t = target if not label_smoothing else (1.0 - label_smoothing) * target + 0.5 * label_smoothing
    positive = t if pos_weight is None else t * pos_weight
    softplus, sigmoid = TABLE["softplus"].function, TABLE["sigmoid"].function
    # No positive part where t = 0, and no negative one where t = 1: there a logit may be infinite on the right side.
    each = xp.where(positive != 0, positive * softplus(-z, xp), 0.0)
    each = each + xp.where(t != 1, (1.0 - t) * softplus(z, xp), 0.0)
    gradient = sigmoid(z, xp) * (positive + 1.0 - t) - positive
    return weighted_mean(xp, each, gradient, sample_weight, mask)


@op(numpy=CPU + "squared_error", cupy=CUDA + "squared_error", check=check_elements, vjp=own_gradient)
def squared_error(
    xp: Namespace, y: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
) -> tuple[Array, Array]:
    """Half the squared error: ``l_i = sum_o (y_io - t_io)^2 / 2``, gradient ``(y - t) r_i / sum r``.

    Arrays as in `sigmoid_cross_entropy`; returns (loss, dy).
    """
    e = y - target
    return weighted_mean(xp, 0.5 * e * e, e, sample_weight, mask)


@op(numpy=CPU + "absolute_error", cupy=CUDA + "absolute_error", check=check_elements, vjp=own_gradient)
def absolute_error(
    xp: Namespace, y: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
) -> tuple[Array, Array]:
    """Absolute error: ``l_i = sum_o |y_io - t_io|``; gradient ``sign(y - t) r_i / sum r``, 0 where they are equal."""
    e = y - target
    return weighted_mean(xp, xp.abs(e), xp.sign(e), sample_weight, mask)


@op(numpy=CPU + "huber", cupy=CUDA + "huber", check=check_elements, vjp=own_gradient)
def huber(
    xp: Namespace,
    y: Array,
    target: Array,
    sample_weight: Array | None = None,
    mask: Array | None = None,
    *,
    delta: float = 1.0,
) -> tuple[Array, Array]:
    """Huber's loss: with e = y - t, ``e^2 / 2`` where |e| <= delta, else ``delta (|e| - delta / 2)``.

    ``delta`` is in units of y, above 0. Source: Huber 1964, "Robust estimation of a location parameter".
    """
    e = y - target
    near = xp.clip(e, -delta, delta)
    return weighted_mean(xp, near * (e - 0.5 * near), near, sample_weight, mask)


def _check_quantiles(
    y: Array,
    target: Array,
    sample_weight: Array | None = None,
    mask: Array | None = None,
    *,
    q: tuple[float, ...] = (0.5,),
) -> None:
    check_elements(y, target, sample_weight, mask, caller="quantile")
    if len(q) not in (1, y.shape[-1]):
        raise ValueError(f"quantile: q has {len(q)} entries; expected 1 or {y.shape[-1]}, one per output.")
    for each in q:
        check_number("q", each, 0.0, 1.0, open_low=True, open_high=True)


@op(numpy=CPU + "quantile", cupy=CUDA + "quantile", check=_check_quantiles, vjp=own_gradient)
def quantile(
    xp: Namespace,
    y: Array,
    target: Array,
    sample_weight: Array | None = None,
    mask: Array | None = None,
    *,
    q: tuple[float, ...] = (0.5,),
) -> tuple[Array, Array]:
    """Pinball loss: ``l_i = sum_o max(q_o (t - y), (q_o - 1) (t - y))``; its minimum is the q-quantile of t.

    ``q`` holds one level in (0, 1) for all outputs, or one for each. Source: Koenker and Bassett 1978.
    """
    e = target - y
    levels = backend_of(y).asarray(list(q), y.dtype)
    each = xp.maximum(levels * e, (levels - 1.0) * e)
    gradient = xp.where(e > 0, -levels, xp.where(e < 0, 1.0 - levels, 0.0 * e))  # NaN stays NaN
    return weighted_mean(xp, each, gradient, sample_weight, mask)
