"""Losses as a network holds them: their options, the output layer they fuse with, and how targets come in."""

from collections.abc import Callable
from typing import Any

from mlpx.errors import unknown
from mlpx.layers import Layer
from mlpx.losses.base import Loss
from mlpx.losses.classes import BinaryCrossEntropy, BinaryFocal, ClassLoss, CrossEntropy, Focal, Hinge, LabelLoss
from mlpx.losses.custom import CustomLoss
from mlpx.losses.regression import AbsoluteError, Gamma, Huber, Poisson, Quantile, SquaredError

__all__ = [
    "AbsoluteError",
    "BinaryCrossEntropy",
    "BinaryFocal",
    "ClassLoss",
    "CrossEntropy",
    "CustomLoss",
    "Focal",
    "Gamma",
    "Hinge",
    "Huber",
    "LabelLoss",
    "Loss",
    "Poisson",
    "Quantile",
    "SquaredError",
    "default_for",
    "find",
]


def find(loss: "str | Loss | Callable[..., Any]") -> Loss:
    """Return the loss of a name, a `Loss` itself, or a callable wrapped; ValueError lists the known names."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, type):
        raise TypeError(
            f"loss: expected a name, an object or a function, got the class {loss.__name__}. Make one of it."
        )
    if callable(loss):
        return CustomLoss(loss)
    if not isinstance(loss, str) or loss not in Loss.kinds or loss == CustomLoss.name:
        raise unknown("loss", loss, [name for name in Loss.kinds if name != CustomLoss.name])
    return Loss.kinds[loss]()


def default_for(head: Layer) -> Loss:
    """Return the canonical loss of an output layer: the one whose delta is ``Y - T``."""
    for kind in (CrossEntropy, BinaryCrossEntropy, Poisson):
        if kind().fuses(head):
            return kind()
    return SquaredError()
