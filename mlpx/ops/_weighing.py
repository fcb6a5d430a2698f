"""What every loss shares: arrays that fit each other, rows that weigh, and the mean over them.

Every loss is a weighted mean over rows of a sum over outputs: ``loss = sum_i r_i l_i / sum_i r_i`` with the row
weights ``r_i`` (1 without ``sample_weight``). A row of weight 0 counts for nothing, whatever it holds: padding may be
NaN. When no row has weight, loss and gradient are 0.
"""

from typing import Any

from mlpx.backend import backend_of, kind_of
from mlpx.errors import check_number
from mlpx.ops._dense import rows
from mlpx.ops._softmax import check_mask
from mlpx.typing import Array, Namespace

# --- arrays that fit ------------------------------------------------------------------------------------------------


def check_weight(caller: str, argument: str, weight: Array | None, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless a weight is missing or has just this shape."""
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
    check_weight(caller, "sample_weight", sample_weight, z.shape[:-1])
    check_weight(caller, "class_weight", class_weight, z.shape[-1:])
    if mask is not None:
        check_mask(caller, mask, z.shape)


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
    check_weight(caller, "sample_weight", sample_weight, y.shape[:-1])
    if mask is not None:
        check_mask(caller, mask, y.shape)
    check_number("delta", delta, 0.0, open_low=True)


# --- rows that weigh ------------------------------------------------------------------------------------------------


def row_weight(xp: Namespace, sample_weight: Array | None, like: Array) -> Array:
    """Return the row weights r as (rows, 1)."""
    if sample_weight is None:
        return xp.ones_like(like[:, :1])
    return xp.reshape(sample_weight, (like.shape[0], 1))


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


def own_gradient(dy: Array, out: Any, *args: Any, **params: Any) -> tuple[Array, ...]:
    """Return the gradient that a loss has computed beside its value, scaled by ``dy``."""
    return (dy * out[1],)
