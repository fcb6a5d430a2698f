"""What every loss shares: arrays that fit each other, rows that weigh, and the mean over them.

Every loss is a weighted mean over rows of a sum over outputs: ``loss = sum_i r_i l_i / sum_i r_i`` with the row
weights ``r_i`` (1 without ``sample_weight``). A row of weight 0 counts for nothing, whatever it holds: padding may be
NaN. When no row has weight, loss and gradient are 0.
"""

from typing import Any

from mlpx.backend import backend_of
from mlpx.ops._dense import rows
from mlpx.ops.signature import Option, Signature, arguments
from mlpx.typing import Array, Namespace

# --- arrays that fit ------------------------------------------------------------------------------------------------


def of_classes(weight: str = "", **options: Option) -> Signature:
    """Return the signature of a loss of classes: class numbers or probabilities, and a weight per class if named."""
    between = f", {weight}? (c)" if weight else ""
    target = "target int (...) | (..., c)"
    return arguments(f"z (..., c>0), {target}, sample_weight? (...){between}, mask? bool (..., c)", **options)


def of_elements(prediction: str = "y", weight: str = "", **options: Option) -> Signature:
    """Return the signature of a loss of single outputs, with a weight per output if named."""
    between = f", {weight}? (o)" if weight else ""
    arrays = f"{prediction} (..., o), target (..., o), sample_weight? (...){between}, mask? bool (..., o)"
    return arguments(arrays, **options)


# --- rows that weigh ------------------------------------------------------------------------------------------------


def in_range(xp: Namespace, weight: Array, n: int) -> Array:
    """Return weights, of which only the ratios matter, divided by the largest where sums of n of them would overflow,
    or sums of products with others like them.
    """
    if not weight.shape[0]:
        return weight
    largest = xp.max(weight)
    return weight / xp.where(largest * largest * n < xp.inf, xp.ones_like(largest), largest)


def row_weight(xp: Namespace, sample_weight: Array | None, like: Array) -> Array:
    """Return the row weights r as (rows, 1); see `in_range`."""
    if sample_weight is None:
        return xp.ones_like(like[:, :1])
    return in_range(xp, xp.reshape(sample_weight, (like.shape[0], 1)), like.shape[0])


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
