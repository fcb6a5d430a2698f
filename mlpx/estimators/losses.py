"""Losses as parameters of the estimators: the library's objects, functions of the user's, scikit-learn's units."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import xlogy

from mlpx.backend import backend_of, to_numpy
from mlpx.errors import shown
from mlpx.losses import CustomLoss, Gamma, Loss, Poisson, SquaredError, find
from mlpx.typing import Array

LossFunction = Callable[[Array, Array], tuple[Any, Array]]
"""``loss(y_true, output) -> (mean loss over rows, its gradient for output)``."""


@dataclass(frozen=True)
class _Mirrored:
    """A function of (y_true, output), the order in scikit-learn, called with them the other way round, as here."""

    function: LossFunction

    def __call__(self, output: Array, y_true: Array) -> tuple[Any, Array]:
        """Return (loss, gradient)."""
        return self.function(y_true, output)


def given(loss: Loss | LossFunction) -> Loss:
    """Return a `Loss` itself, or that of a function ``(y_true, output) -> (loss, gradient)``; TypeError for classes."""
    return loss if isinstance(loss, Loss) else find(loss if isinstance(loss, type) else CustomLoss(_Mirrored(loss)))


CHECKED_ROWS = 8
"""Rows on which the gradient of a user's function is tried."""


def check_function(loss: CustomLoss, output: Array, target: Array) -> None:
    """Raise for a user's loss that cannot be called, or falls along the gradient it returns.

    Parameters
    ----------
    loss : CustomLoss
    output, target : array (n, n_outputs)
        A few rows of a network.

    Raises
    ------
    TypeError, ValueError
        If it returns no loss and gradient, raises an error, or its gradient points the wrong way. Where the loss is not
        finite nearby, nothing is known and nothing raised.
    """
    xp = backend_of(output).xp
    output, target = (xp.asarray(each, dtype=xp.float64, copy=True) for each in (output, target))
    try:
        value, gradient = loss(output, target)
        norm = math.sqrt(float(xp.sum(gradient * gradient)))
        if not (norm > 0.0 and math.isfinite(norm) and math.isfinite(float(value))):
            return
        step = 1e-5 * max(1.0, float(xp.max(xp.abs(output))))
        way = gradient * (step / norm)
        with np.errstate(all="ignore"):
            ahead, behind = (float(loss(output + sign * way, target)[0]) for sign in (1.0, -1.0))
    except Exception as error:
        if str(error).startswith("loss: "):
            raise
        function = loss.function.function if isinstance(loss.function, _Mirrored) else loss.function
        raise ValueError(
            f"loss: calling {shown(function)} failed: {type(error).__name__}: {error}. Expected a name, an object of "
            "mlpx.losses, or a function loss(y_true, output) -> (mean loss, its gradient for output) of arrays."
        ) from error
    slope, rounding = (ahead - behind) / (2.0 * step), 1e-13 * max(abs(ahead), abs(behind)) / step
    if slope < -max(1e-3 * norm, rounding):
        raise ValueError(
            f"loss: the gradient that your function returns points the wrong way: along it, where the loss should rise "
            f"by {norm:.3g} a unit, it falls by {-slope:.3g}. Return the derivative for output, the second argument."
        )


def constant(loss: Loss, target: Array) -> Array | None:
    """Return what makes the deviance of each row's perfect prediction 0 (n,); None for losses that need nothing."""
    if not isinstance(loss, Poisson | Gamma):
        return None
    y = to_numpy(target)
    each = xlogy(y, y) - y if isinstance(loss, Poisson) else -(np.log(y) + 1.0)
    return np.asarray(each.sum(axis=1))


def reported(loss: Loss, value: float, target: Array, weight: Array | None) -> float:
    """Return a loss over given rows in scikit-learn's units: a mean over outputs, deviances above 0."""
    if isinstance(loss, SquaredError):
        return value / float(target.shape[1])
    offset = constant(loss, target)
    return value if offset is None else value + float(np.average(offset, weights=weight))
