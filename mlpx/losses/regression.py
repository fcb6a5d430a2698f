"""Losses of numbers: what a regression minimises.

Each is summed over outputs. Targets are numbers (..., o) in units of the output; of a lone output the last axis may be
missing.
"""

from dataclasses import dataclass

from mlpx import ops
from mlpx.backend import Backend
from mlpx.backend.conversion import as_float_array
from mlpx.errors import check_number, is_real
from mlpx.layers import Activation, Layer
from mlpx.losses.base import Loss, check_length, in_order, is_head
from mlpx.typing import Array, ArrayLike, Shape


@dataclass(frozen=True, repr=False)
class SquaredError(Loss):
    """Half the squared error, ``sum_o (y_o - t_o)^2 / 2`` of each row; see `mlpx.ops.squared_error`."""

    name = "squared_error"
    op = ops.squared_error


@dataclass(frozen=True, repr=False)
class AbsoluteError(Loss):
    """The absolute error, ``sum_o |y_o - t_o|`` of each row; see `mlpx.ops.absolute_error`."""

    name = "absolute_error"
    op = ops.absolute_error


@dataclass(frozen=True, repr=False)
class Huber(Loss):
    """Huber's loss: with e = y - t, ``e^2 / 2`` where |e| <= delta, else ``delta (|e| - delta / 2)``.

    See `mlpx.ops.huber`.

    Parameters
    ----------
    delta : float
        Where it turns linear, in units of y, above 0.
    """

    name = "huber"
    op = ops.huber
    delta: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "delta", check_number("delta", self.delta, 0.0, open_low=True))


@dataclass(frozen=True, repr=False)
class Quantile(Loss):
    """Pinball loss, ``sum_o max(q_o (t - y_o), (q_o - 1) (t - y_o))``: each output learns one quantile of t.

    Targets are numbers (...,) or (..., 1), compared with every output, or (..., o). See `mlpx.ops.quantile`.

    Parameters
    ----------
    q : float or sequence of float
        One level in (0, 1) for each output.
    """

    name = "quantile"
    op = ops.quantile
    q: tuple[float, ...] = (0.5,)

    def __post_init__(self) -> None:
        given = (self.q,) if is_real(self.q) else in_order("q", self.q)
        levels = tuple(check_number("q", each, 0.0, 1.0, open_low=True, open_high=True) for each in given)
        if not levels:
            raise ValueError("q: is empty; expected at least one quantile level.")
        object.__setattr__(self, "q", levels)

    def prepare(self, y: ArrayLike, shape: Shape, dtype: str, backend: Backend) -> Array:
        """Return targets of the output's shape; a single value per row is compared with every level."""
        check_length("q", self.q, shape[-1])
        target = as_float_array("y", y, dtype, backend)
        if tuple(target.shape) == tuple(shape[:-1]):
            target = backend.xp.reshape(target, (*shape[:-1], 1))
        if tuple(target.shape) == (*shape[:-1], 1):
            target = backend.xp.concat([target] * shape[-1], axis=-1)
        return super().prepare(target, shape, dtype, backend)


@dataclass(frozen=True, repr=False)
class Poisson(Loss):
    """Poisson deviance up to a constant, ``sum_o e^z_o - t_o z_o``, in nats; see `mlpx.ops.poisson`.

    From the log-rate z: with an ``exp`` output the prediction is the rate. Targets are counts or rates of at least 0.
    """

    name = "poisson"
    op = ops.poisson

    def fuses(self, head: Layer) -> bool:
        """Return True for an exp layer."""
        return getattr(head, "kind", "") == "exp" and is_head(head, Activation)

    def prepare(self, y: ArrayLike, shape: Shape, dtype: str, backend: Backend) -> Array:
        """Return targets of at least 0, of the output's shape."""
        target = super().prepare(y, shape, dtype, backend)
        if target.size and float(backend.xp.min(target)) < 0:
            raise ValueError(f"y: holds {float(backend.xp.min(target)):g}; counts and rates are at least 0.")
        return target


@dataclass(frozen=True, repr=False)
class Gamma(Loss):
    """Half the gamma deviance up to a constant, ``sum_o z_o + t_o e^-z_o``; see `mlpx.ops.gamma`.

    From the log-mean z: with an ``exp`` output the prediction is the mean. Targets are above 0.
    """

    name = "gamma"
    op = ops.gamma

    def fuses(self, head: Layer) -> bool:
        """Return True for an exp layer."""
        return getattr(head, "kind", "") == "exp" and is_head(head, Activation)

    def prepare(self, y: ArrayLike, shape: Shape, dtype: str, backend: Backend) -> Array:
        """Return targets above 0, of the output's shape."""
        target = super().prepare(y, shape, dtype, backend)
        if target.size and float(backend.xp.min(target)) <= 0:
            raise ValueError(f"y: holds {float(backend.xp.min(target)):g}; a gamma loss takes numbers above 0.")
        return target
