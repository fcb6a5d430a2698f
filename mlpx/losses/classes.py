"""Losses of classes: one class per row, from softmax outputs, and independent yes/no outputs."""

from dataclasses import dataclass
from typing import ClassVar

from mlpx import ops
from mlpx.backend import Backend, host_array
from mlpx.backend.conversion import as_float_array
from mlpx.backend.inspection import backend_name, check_readable, dtype_name, kind_of
from mlpx.errors import check_number
from mlpx.layers import Activation, Layer, MaskedSoftmax, Softmax
from mlpx.losses.base import Loss, check_length, is_head, on_device, weights
from mlpx.typing import Array, ArrayLike, Shape


class ClassLoss(Loss):
    """A loss of rows that have one class each: computed from the logits of a softmax."""

    def fuses(self, head: Layer) -> bool:
        """Return True for the softmax layers."""
        return is_head(head, Softmax, MaskedSoftmax)

    def prepare(self, y: ArrayLike, shape: Shape, dtype: str, backend: Backend) -> Array:
        """Return class numbers (...,) as int64, or probabilities (..., c) as floats.

        Raises
        ------
        TypeError
            If class numbers come as floats, strings or objects.
        ValueError
            If the shape does not fit, a class number is outside 0 to c - 1, or a probability is negative.
        """
        check_readable("y", y)
        labels = host_array("y", y) if backend_name(y) is None else y
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
        if kind_of(labels) not in "ib":
            raise TypeError(
                f"y: class numbers have dtype {labels.dtype}; expected integers from 0 to {shape[-1] - 1}. For names "
                "use numpy.unique(y, return_inverse=True); for floats that are whole numbers y.astype(int)."
            )
        target = backend.asarray(labels, "int64")
        if dtype_name(labels) == "int64":  # a copy: compiled code goes by these numbers long after they are checked
            target = backend.xp.asarray(target, copy=True)
        if target.size:
            low, high = int(backend.xp.min(target)), int(backend.xp.max(target))
            if low < 0 or high >= shape[-1]:
                raise ValueError(
                    f"y: holds class numbers from {low} to {high}; expected 0 to {shape[-1] - 1} for {shape[-1]} "
                    "outputs."
                )
        return target


class LabelLoss(Loss):
    """A loss of independent yes/no outputs: computed from the logits of sigmoids."""

    threshold: ClassVar[float] = 0.5
    """Outputs above it are a yes."""

    def fuses(self, head: Layer) -> bool:
        """Return True for a sigmoid layer."""
        return getattr(head, "kind", "") == "sigmoid" and is_head(head, Activation)

    def prepare(self, y: ArrayLike, shape: Shape, dtype: str, backend: Backend) -> Array:
        """Return targets in [0, 1], of the output's shape."""
        target = super().prepare(y, shape, dtype, backend)
        if target.size and (float(backend.xp.min(target)) < 0 or float(backend.xp.max(target)) > 1):
            raise ValueError(
                f"y: holds values from {float(backend.xp.min(target)):g} to {float(backend.xp.max(target)):g}; "
                "expected 0 to 1 for sigmoid outputs."
            )
        return target


@dataclass(frozen=True, repr=False)
class CrossEntropy(ClassLoss):
    """Softmax cross-entropy, ``-sum_c t_c log p_c`` of each row, in nats; see `mlpx.ops.softmax_cross_entropy`.

    Targets t are class numbers (...,) from 0 to c - 1, or probabilities (..., c) that sum to 1.

    Parameters
    ----------
    label_smoothing : float
        Share of the targets that is spread evenly over the classes, in [0, 1].
    class_weight : sequence of float, optional
        One weight per class, at least 0, in the order of their numbers; the mean is over the weights of the targets.
    """

    name = "cross_entropy"
    label_smoothing: float = 0.0
    class_weight: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "label_smoothing", check_number("label_smoothing", self.label_smoothing, 0.0, 1.0))
        object.__setattr__(self, "class_weight", weights("class_weight", self.class_weight))

    def __call__(
        self, z: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the loss () and its gradient for the logits z (..., c)."""
        weight = on_device(self.class_weight, z)
        return ops.softmax_cross_entropy(z, target, sample_weight, weight, mask, label_smoothing=self.label_smoothing)

    def prepare(self, y: ArrayLike, shape: Shape, dtype: str, backend: Backend) -> Array:
        """Return targets as the others of its kind do, once the weights are seen to fit."""
        check_length("class_weight", self.class_weight, shape[-1])
        return super().prepare(y, shape, dtype, backend)


@dataclass(frozen=True, repr=False)
class BinaryCrossEntropy(LabelLoss):
    """Cross-entropy of independent sigmoids, summed over outputs, in nats; see `mlpx.ops.sigmoid_cross_entropy`.

    Targets are numbers (..., o) in [0, 1]; of a lone output the last axis may be missing.

    Parameters
    ----------
    label_smoothing : float
        Share by which the targets are drawn to 1/2, in [0, 1].
    pos_weight : sequence of float, optional
        One weight per output, at least 0, for its positive part.
    """

    name = "binary_cross_entropy"
    label_smoothing: float = 0.0
    pos_weight: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "label_smoothing", check_number("label_smoothing", self.label_smoothing, 0.0, 1.0))
        object.__setattr__(self, "pos_weight", weights("pos_weight", self.pos_weight))

    def __call__(
        self, z: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the loss () and its gradient for the logits z (..., o)."""
        weight = on_device(self.pos_weight, z)
        return ops.sigmoid_cross_entropy(z, target, sample_weight, weight, mask, label_smoothing=self.label_smoothing)

    def prepare(self, y: ArrayLike, shape: Shape, dtype: str, backend: Backend) -> Array:
        """Return targets as the others of its kind do, once the weights are seen to fit."""
        check_length("pos_weight", self.pos_weight, shape[-1])
        return super().prepare(y, shape, dtype, backend)


@dataclass(frozen=True, repr=False)
class Focal(ClassLoss):
    """Cross-entropy that makes little of rows that are right already: ``-sum_c t_c (1 - p_c)^focus log p_c``, in nats.

    Targets as for `CrossEntropy`; see `mlpx.ops.softmax_focal`.

    Parameters
    ----------
    focus : float
        At least 0; 0 is `CrossEntropy`. Often written gamma.
    """

    name = "focal"
    op = ops.softmax_focal
    focus: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "focus", check_number("focus", self.focus, 0.0))


@dataclass(frozen=True, repr=False)
class BinaryFocal(LabelLoss):
    """`Focal` for independent sigmoids, summed over outputs, in nats; see `mlpx.ops.sigmoid_focal`.

    Targets as for `BinaryCrossEntropy`.

    Parameters
    ----------
    focus : float
        At least 0; 0 is `BinaryCrossEntropy`.
    """

    name = "binary_focal"
    op = ops.sigmoid_focal
    focus: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "focus", check_number("focus", self.focus, 0.0))


@dataclass(frozen=True, repr=False)
class Hinge(LabelLoss):
    """Hinge loss of linear outputs, ``sum_o max(0, 1 - (2 t_o - 1) y_o)``; see `mlpx.ops.hinge`.

    Targets are 0 or 1, (..., o): for several classes a column for each, one against the rest.
    """

    name = "hinge"
    op = ops.hinge
    threshold = 0.0

    def fuses(self, head: Layer) -> bool:
        """Return False: the outputs are the decision values themselves."""
        return False
