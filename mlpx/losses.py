"""Losses as a network holds them: their options, the output layer they fuse with, and how targets come in."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from mlpx import ops
from mlpx.backend import Backend, as_float_array, backend_of
from mlpx.errors import check_number, unknown
from mlpx.layers import Activation, Layer, MaskedSoftmax, Softmax
from mlpx.typing import Array, ArrayLike, Shape


class Loss(ABC):
    """A loss: a weighted mean over rows. ``loss(z, target, ...)`` returns (loss, dz).

    Where `fuses` says so, ``z`` is the *input* of the network's last layer (logits), and the gradient that of the
    layer and the loss in one: softmax + cross-entropy needs no logarithm of a small probability.
    """

    kinds: ClassVar[dict[str, type["Loss"]]] = {}
    """Name to class; model files name losses, and only these are ever made."""

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        Loss.kinds[cls.name] = cls

    def fuses(self, head: Layer) -> bool:
        """Return whether the loss is computed from the input of the output layer ``head``."""
        return False

    @abstractmethod
    def __call__(
        self, z: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the loss () and its gradient, of the shape of ``z``."""

    def prepare(self, y: ArrayLike, shape: Shape, dtype: str, backend: Backend) -> Array:
        """Return targets as an array of the prediction's ``shape``; a lone output may lack its axis.

        Raises
        ------
        ValueError
            If the shape does not fit.
        """
        target = as_float_array("y", y, dtype, backend)
        if tuple(target.shape) == tuple(shape[:-1]) and shape[-1] == 1:
            return backend.xp.reshape(target, shape)
        if tuple(target.shape) != tuple(shape):
            raise ValueError(f"y: has shape {tuple(target.shape)}; expected {tuple(shape)} to match the output.")
        return target

    def config(self) -> dict[str, Any]:
        """Return the options as data that JSON can hold."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Softmax cross-entropy, in nats; see `mlpx.ops.softmax_cross_entropy`.

    Parameters
    ----------
    label_smoothing : float
        In [0, 1].
    class_weight : tuple of float, optional
        One weight per class, at least 0.
    """

    name = "cross_entropy"
    label_smoothing: float = 0.0
    class_weight: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_number("label_smoothing", self.label_smoothing, 0.0, 1.0)
        object.__setattr__(self, "class_weight", _weights("class_weight", self.class_weight))

    def fuses(self, head: Layer) -> bool:
        """Return True for the softmax layers."""
        return isinstance(head, Softmax | MaskedSoftmax)

    def __call__(
        self, z: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the loss () and its gradient for the logits z (..., c)."""
        weight = _on_device(self.class_weight, z)
        return ops.softmax_cross_entropy(z, target, sample_weight, weight, mask, label_smoothing=self.label_smoothing)

    def prepare(self, y: ArrayLike, shape: Shape, dtype: str, backend: Backend) -> Array:
        """Return class numbers (...,) as int64, or probabilities (..., c) as floats.

        Raises
        ------
        TypeError
            If class numbers come as floats, strings or objects.
        ValueError
            If the shape does not fit, a class number is outside 0 to c - 1, or a probability is negative.
        """
        _check_length("class_weight", self.class_weight, shape[-1])
        labels = y if hasattr(y, "dtype") and hasattr(y, "shape") else np.asarray(y)
        if tuple(labels.shape) == tuple(shape):
            target = as_float_array("y", labels, dtype, backend)
            if target.size and float(backend.xp.min(target)) < 0:
                raise ValueError(f"y: holds {float(backend.xp.min(target)):g}; probabilities are at least 0.")
            return target
        if tuple(labels.shape) != tuple(shape[:-1]):
            raise ValueError(
                f"y: has shape {tuple(labels.shape)}; expected class numbers {tuple(shape[:-1])} or one column per "
                f"class {tuple(shape)}. For a column of labels pass y.ravel()."
            )
        kind = str(labels.dtype)
        if "int" not in kind and "bool" not in kind:
            raise TypeError(
                f"y: class numbers have dtype {kind}; expected integers from 0 to {shape[-1] - 1}. For names use "
                "numpy.unique(y, return_inverse=True); for floats that are whole numbers y.astype(int)."
            )
        target = backend.asarray(labels, "int64")
        if target.size:
            low, high = int(backend.xp.min(target)), int(backend.xp.max(target))
            if low < 0 or high >= shape[-1]:
                raise ValueError(
                    f"y: holds class numbers from {low} to {high}; expected 0 to {shape[-1] - 1} for {shape[-1]} "
                    "outputs."
                )
        return target


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Cross-entropy of independent sigmoids, in nats; see `mlpx.ops.sigmoid_cross_entropy`.

    Parameters
    ----------
    label_smoothing : float
        In [0, 1].
    pos_weight : tuple of float, optional
        One weight per output for its positive part.
    """

    name = "binary_cross_entropy"
    label_smoothing: float = 0.0
    pos_weight: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_number("label_smoothing", self.label_smoothing, 0.0, 1.0)
        object.__setattr__(self, "pos_weight", _weights("pos_weight", self.pos_weight))

    def fuses(self, head: Layer) -> bool:
        """Return True for a sigmoid layer."""
        return isinstance(head, Activation) and head.kind == "sigmoid"

    def __call__(
        self, z: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the loss () and its gradient for the logits z (..., o)."""
        weight = _on_device(self.pos_weight, z)
        return ops.sigmoid_cross_entropy(z, target, sample_weight, weight, mask, label_smoothing=self.label_smoothing)

    def prepare(self, y: ArrayLike, shape: Shape, dtype: str, backend: Backend) -> Array:
        """Return targets in [0, 1], of the output's shape."""
        _check_length("pos_weight", self.pos_weight, shape[-1])
        target = super().prepare(y, shape, dtype, backend)
        if target.size and (float(backend.xp.min(target)) < 0 or float(backend.xp.max(target)) > 1):
            raise ValueError(
                f"y: holds values from {float(backend.xp.min(target)):g} to {float(backend.xp.max(target)):g}; "
                "expected 0 to 1 for sigmoid outputs."
            )
        return target


@dataclass(frozen=True)
class SquaredError(Loss):
    """Half the squared error; see `mlpx.ops.squared_error`."""

    name = "squared_error"

    def __call__(
        self, z: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the loss () and its gradient for the prediction z (..., o)."""
        return ops.squared_error(z, target, sample_weight, mask)


@dataclass(frozen=True)
class AbsoluteError(Loss):
    """The absolute error; see `mlpx.ops.absolute_error`."""

    name = "absolute_error"

    def __call__(
        self, z: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the loss () and its gradient for the prediction z (..., o)."""
        return ops.absolute_error(z, target, sample_weight, mask)


@dataclass(frozen=True)
class Huber(Loss):
    """Huber's loss; ``delta``, in units of y, is where it turns linear. See `mlpx.ops.huber`."""

    name = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        check_number("delta", self.delta, 0.0, open_low=True)

    def __call__(
        self, z: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the loss () and its gradient for the prediction z (..., o)."""
        return ops.huber(z, target, sample_weight, mask, delta=self.delta)


@dataclass(frozen=True)
class Quantile(Loss):
    """Pinball loss: one output for each quantile level of ``q``, in (0, 1). See `mlpx.ops.quantile`."""

    name = "quantile"
    q: tuple[float, ...] = (0.5,)

    def __post_init__(self) -> None:
        levels = tuple(np.atleast_1d(self.q).tolist())
        if not levels:
            raise ValueError("q: is empty; expected at least one quantile level.")
        for each in levels:
            check_number("q", each, 0.0, 1.0, open_low=True, open_high=True)
        object.__setattr__(self, "q", levels)

    def __call__(
        self, z: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the loss () and its gradient for the predictions z (..., number of levels)."""
        return ops.quantile(z, target, sample_weight, mask, q=self.q)

    def prepare(self, y: ArrayLike, shape: Shape, dtype: str, backend: Backend) -> Array:
        """Return targets of the output's shape; a single value per row is compared with every level."""
        _check_length("q", self.q, shape[-1])
        target = as_float_array("y", y, dtype, backend)
        if tuple(target.shape) == tuple(shape[:-1]):
            target = backend.xp.reshape(target, (*shape[:-1], 1))
        if tuple(target.shape) == (*shape[:-1], 1):
            target = backend.xp.concat([target] * shape[-1], axis=-1)
        return super().prepare(target, shape, dtype, backend)


@dataclass(frozen=True)
class Poisson(Loss):
    """Poisson deviance from the log-rate; with an ``exp`` output the prediction is the rate. See `mlpx.ops.poisson`."""

    name = "poisson"

    def fuses(self, head: Layer) -> bool:
        """Return True for an exp layer."""
        return isinstance(head, Activation) and head.kind == "exp"

    def __call__(
        self, z: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the loss () and its gradient for the log-rates z (..., o)."""
        return ops.poisson(z, target, sample_weight, mask)

    def prepare(self, y: ArrayLike, shape: Shape, dtype: str, backend: Backend) -> Array:
        """Return targets of at least 0, of the output's shape."""
        target = super().prepare(y, shape, dtype, backend)
        if target.size and float(backend.xp.min(target)) < 0:
            raise ValueError(f"y: holds {float(backend.xp.min(target)):g}; counts and rates are at least 0.")
        return target


@dataclass(frozen=True)
class CustomLoss(Loss):
    """A loss of your own: ``function(prediction, target) -> (loss, gradient for the prediction)``.

    It sees whole batches and carries its own mean. Sample weights and masks are refused; a network with such a loss
    cannot be saved, since a function is code.
    """

    name = "custom"
    function: Callable[[Array, Array], tuple[Array, Array]]

    def __call__(
        self, z: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Return what the function returns."""
        if sample_weight is not None or mask is not None:
            raise ValueError("loss: a custom loss takes neither sample_weight nor mask.")
        result = self.function(z, target)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise TypeError(f"loss: a function of your own returns (loss, gradient), not {type(result).__name__}.")
        loss, dz = result
        if tuple(getattr(dz, "shape", ())) != tuple(z.shape):
            raise ValueError(
                f"loss: the gradient that your function returns has shape {tuple(getattr(dz, 'shape', ()))}; expected "
                f"{tuple(z.shape)}, that of the prediction."
            )
        return loss, dz

    def config(self) -> dict[str, Any]:
        """Raise: code is never saved."""
        raise ValueError("loss: a network with a custom loss cannot be saved; set net.loss to a named loss first.")


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


def _weights(argument: str, values: Any) -> tuple[float, ...] | None:
    if values is None:
        return None
    if not isinstance(values, Iterable):
        raise TypeError(f"{argument}: expected one number per output, got {values!r}.")
    for value in values:
        check_number(argument, value, 0.0)
    return tuple(float(value) for value in values)


def _check_length(argument: str, values: tuple[float, ...] | None, n_out: int) -> None:
    """Raise ValueError unless there is one value per output."""
    if values is not None and len(values) != n_out:
        raise ValueError(f"{argument}: has {len(values)} values; the network has {n_out} outputs.")


def _on_device(values: tuple[float, ...] | None, like: Array) -> Array | None:
    return None if values is None else backend_of(like).asarray(np.array(values), like.dtype)
