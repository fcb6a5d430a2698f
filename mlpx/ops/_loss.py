"""Losses from logits or predictions; each returns the loss and its gradient in one call.

Each is a weighted mean over rows; see `mlpx.ops.weighing`.
"""

from mlpx.backend import backend_of, kind_of
from mlpx.ops._activation import TABLE
from mlpx.ops._dense import rows
from mlpx.ops._weighing import in_range, of_classes, of_elements, one_hot, own_gradient, row_weight, weighted_mean
from mlpx.ops.dispatch import op
from mlpx.ops.signature import number, several
from mlpx.typing import Array, Namespace

CPU, CUDA = "mlpx_kernels.cpu.loss:", "mlpx_kernels.cuda.loss:"
"""Where the kernels of this family are."""


@op(
    numpy=CPU + "softmax_cross_entropy",
    cupy=CUDA + "softmax_cross_entropy",
    takes=of_classes("class_weight", label_smoothing=number(0.0, 1.0)),
    vjp=own_gradient,
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
        At least 0; the mean is over the weights of the targets, as in PyTorch for class numbers. (For probabilities
        PyTorch divides by the number of rows instead.)
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
    class_weight = None if class_weight is None else in_range(xp, class_weight, logits.shape[0])
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
    nll = xp.log(partition) - shifted  # -log p
    loss = xp.sum(xp.where(counts & (q != 0), share_of_row * q * nll, 0.0))
    dz = share_of_row * (e / partition * xp.sum(q, axis=-1, keepdims=True) - q)
    return loss, xp.reshape(xp.where(allowed & counts, dz, 0.0), z.shape)


@op(
    numpy=CPU + "sigmoid_cross_entropy",
    cupy=CUDA + "sigmoid_cross_entropy",
    takes=of_elements("z", "pos_weight", label_smoothing=number(0.0, 1.0)),
    vjp=own_gradient,
)
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


@op(numpy=CPU + "squared_error", cupy=CUDA + "squared_error", takes=of_elements(), vjp=own_gradient)
def squared_error(
    xp: Namespace, y: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
) -> tuple[Array, Array]:
    """Half the squared error: ``l_i = sum_o (y_io - t_io)^2 / 2``, gradient ``(y - t) r_i / sum r``.

    Arrays as in `sigmoid_cross_entropy`; returns (loss, dy).
    """
    e = y - target
    return weighted_mean(xp, 0.5 * e * e, e, sample_weight, mask)


@op(numpy=CPU + "absolute_error", cupy=CUDA + "absolute_error", takes=of_elements(), vjp=own_gradient)
def absolute_error(
    xp: Namespace, y: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
) -> tuple[Array, Array]:
    """Absolute error: ``l_i = sum_o |y_io - t_io|``; gradient ``sign(y - t) r_i / sum r``, 0 where they are equal."""
    e = y - target
    return weighted_mean(xp, xp.abs(e), xp.sign(e), sample_weight, mask)


@op(numpy=CPU + "huber", cupy=CUDA + "huber", takes=of_elements(delta=number(0.0, open_low=True)), vjp=own_gradient)
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


def _check_levels(y: Array, *others: Array | None, q: tuple[float, ...] = (0.5,), **weights: Array | None) -> None:
    if len(q) not in (1, y.shape[-1]):
        raise ValueError(f"quantile: q has {len(q)} entries; expected 1 or {y.shape[-1]}, one per output.")


@op(
    numpy=CPU + "quantile",
    cupy=CUDA + "quantile",
    takes=of_elements(q=several(number(0.0, 1.0, open_low=True, open_high=True))),
    check=_check_levels,
    vjp=own_gradient,
)
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
