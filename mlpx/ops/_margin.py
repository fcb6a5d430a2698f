"""Losses of classes that care about the rows near or behind the border: hinge and focal.

Weighted means as in `mlpx.ops.weighing`; each returns the loss and its gradient.
"""

from mlpx.backend import kind_of
from mlpx.ops._activation import TABLE
from mlpx.ops._dense import rows
from mlpx.ops._weighing import of_classes, of_elements, one_hot, own_gradient, row_weight, weighted_mean
from mlpx.ops.dispatch import op
from mlpx.ops.signature import number
from mlpx.typing import Array, Namespace


@op(
    numpy="mlpx_kernels.cpu.margin:softmax_focal",
    cupy="mlpx_kernels.cuda.margin:softmax_focal",
    takes=of_classes(focus=number(0.0)),
    vjp=own_gradient,
)
def softmax_focal(
    xp: Namespace,
    z: Array,
    target: Array,
    sample_weight: Array | None = None,
    mask: Array | None = None,
    *,
    focus: float = 2.0,
) -> tuple[Array, Array]:
    """Focal loss of the softmax of logits, in nats: cross-entropy that makes little of rows that are right already.

    With p = softmax(z) and f = focus::

        l_i   = - sum_c t_ic (1 - p_ic)^f log p_ic            loss = sum_i r_i l_i / sum_i r_i
        g_ic  = t_ic (1 - p_ic)^f (f p_ic log p_ic / (1 - p_ic) - 1)
        dz_ic = r_i (g_ic - p_ic sum_k g_ik) / sum_i r_i

    ``focus`` 0 is `softmax_cross_entropy`.

    Parameters
    ----------
    z : array (..., c), float
        Logits.
    target : array (...,), int, or (..., c), dtype of z
        t: class numbers from 0 to c - 1, or a probability per class.
    sample_weight : array (...,), dtype of z, optional
        r, at least 0.
    mask : array (..., c), bool, optional
        True where a class is allowed. Others have probability 0 and gradient 0, whatever their logits hold. A row that
        allows nothing has weight 0. A target that is not allowed gives an infinite loss.
    focus : float
        At least 0; how much less an easy row counts.

    Returns
    -------
    loss : array (), dz : array (..., c), dtype of z

    Raises
    ------
    ValueError
        If shapes do not fit, or a class number is outside 0 to c - 1 (on the host; on a GPU its row becomes NaN).

    Source: Lin et al. 2017, "Focal loss for dense object detection".
    """
    logits = rows(z, xp)
    t = one_hot(xp, target, logits, "softmax_focal") if kind_of(target) == "i" else rows(target, xp)
    r = row_weight(xp, sample_weight, logits)
    allowed = r == r if mask is None else rows(mask, xp)
    r = xp.where(xp.any(allowed, axis=-1, keepdims=True), r, 0.0)
    counts = r > 0
    lowest = xp.where(allowed & counts, logits, -xp.inf)
    shifted = lowest - xp.where(counts, xp.max(lowest, axis=-1, keepdims=True), 0.0)
    e = xp.where(allowed, xp.exp(shifted), 0.0)
    partition = xp.where(counts, xp.sum(e, axis=-1, keepdims=True), 1.0)
    p, log_p = e / partition, shifted - xp.log(partition)
    rest = -xp.expm1(log_p)  # 1 - p, with all its digits where p is nearly 1
    easy = rest**focus
    # p log p -> 0 as p -> 0, and log p / (1 - p) -> -1 as p -> 1: the limits, where the terms are not finite
    slope = xp.where((p > 0) & (rest > 0), p * log_p / xp.where(rest > 0, rest, 1.0), xp.where(p > 0, -1.0, 0.0 * p))
    each = xp.where(t != 0, -t * easy * log_p, 0.0)
    g = xp.where(t != 0, t * easy * (focus * slope - 1.0), 0.0)
    gradient = g - p * xp.sum(g, axis=-1, keepdims=True)
    total = xp.sum(r)
    r = r / xp.where(total > 0, total, 1.0)
    loss = xp.sum(xp.where(counts, r * each, 0.0))
    return loss, xp.reshape(xp.where(allowed & counts, r * gradient, 0.0), z.shape)


@op(
    numpy="mlpx_kernels.cpu.margin:sigmoid_focal",
    cupy="mlpx_kernels.cuda.margin:sigmoid_focal",
    takes=of_elements("z", focus=number(0.0)),
    vjp=own_gradient,
)
def sigmoid_focal(
    xp: Namespace,
    z: Array,
    target: Array,
    sample_weight: Array | None = None,
    mask: Array | None = None,
    *,
    focus: float = 2.0,
) -> tuple[Array, Array]:
    """Focal loss of independent sigmoids, from their logits, in nats; finite at any finite logits.

    With p = sigmoid(z) and f = focus::

        l_i = sum_o t_io (1 - p_io)^f log(1 + e^-z_io) + (1 - t_io) p_io^f log(1 + e^z_io)

    Parameters
    ----------
    z, target : array (..., o), float
        Logits; targets in [0, 1].
    sample_weight : array (...,), dtype of z, optional
    mask : array (..., o), bool, optional
        Outputs that are False count for nothing.
    focus : float
        At least 0; 0 is `sigmoid_cross_entropy`.

    Returns
    -------
    loss : array (), dz : array (..., o), dtype of z

    Source: Lin et al. 2017, "Focal loss for dense object detection".
    """
    softplus, sigmoid = TABLE["softplus"].function, TABLE["sigmoid"].function

    def half(z: Array, t: Array) -> tuple[Array, Array]:
        """Return the part of the targets of one kind and its derivative; the other is its mirror image."""
        p, rest, nll = sigmoid(z, xp), sigmoid(-z, xp), softplus(-z, xp)
        easy = t * rest**focus
        each = xp.where(t != 0, easy * nll, 0.0)
        return each, -easy * (focus * xp.where(p > 0, p * nll, 0.0) + rest)

    positive, slope = half(z, target)
    negative, mirrored = half(-z, 1.0 - target)
    return weighted_mean(xp, positive + negative, slope - mirrored, sample_weight, mask)


@op(
    numpy="mlpx_kernels.cpu.margin:hinge",
    cupy="mlpx_kernels.cuda.margin:hinge",
    takes=of_elements(),
    vjp=own_gradient,
)
def hinge(
    xp: Namespace, y: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
) -> tuple[Array, Array]:
    """Hinge loss of independent outputs: ``l_i = sum_o max(0, 1 - s_io y_io)`` with ``s = 2 t - 1``.

    For several classes with a column of ``target`` each it sets one against the rest.

    Parameters
    ----------
    y, target : array (..., o), float
        Decision values; targets 0 for no and 1 for yes.
    sample_weight : array (...,), dtype of y, optional
    mask : array (..., o), bool, optional
        Outputs that are False count for nothing.

    Returns
    -------
    loss : array (), dy : array (..., o), dtype of y
        The gradient at the kink is 0.

    Source: Cortes and Vapnik 1995, "Support-vector networks".
    """
    s = 2.0 * target - 1.0
    short = 1.0 - s * y
    slope = xp.where(short > 0, -s, xp.where(short <= 0, 0.0, short))  # NaN stays NaN
    return weighted_mean(xp, xp.where(short <= 0, 0.0, short), slope, sample_weight, mask)
