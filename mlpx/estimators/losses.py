"""The estimators' names of losses, and losses in scikit-learn's units."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import xlogy

from mlpx.backend import to_numpy
from mlpx.losses import CustomLoss, Gamma, Loss, Poisson, SquaredError
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


def custom(function: LossFunction) -> Loss:
    """Return the loss of a function ``(y_true, output) -> (loss, gradient)``."""
    return CustomLoss(_Mirrored(function))


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
