"""What every loss is: options, how targets come in, and (loss, gradient) of a batch."""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import asdict, fields
from typing import Any, ClassVar

import numpy as np

from mlpx.backend import Backend, backend_of
from mlpx.backend.conversion import as_float_array
from mlpx.errors import check_number, shown
from mlpx.layers import Layer
from mlpx.overrides import overridden
from mlpx.registry import register
from mlpx.representation import short_repr
from mlpx.typing import Array, ArrayLike, Shape


class Loss:
    """A loss: a weighted mean over rows. ``loss(z, target, ...)`` returns (loss, dz).

    Each is a dataclass: an op, whose options are the fields.

    Where `fuses` says so, ``z`` is the *input* of the network's last layer (logits), and the gradient that of the
    layer and the loss in one: softmax + cross-entropy needs no logarithm of a small probability.
    """

    kinds: ClassVar[dict[str, type["Loss"]]] = {}
    """Name to class; model files name losses, and only these are ever made. See `mlpx.registry`."""

    name: ClassVar[str]
    op: ClassVar[Callable[..., tuple[Array, Array]]]
    """Computes it; where it takes more than its fields say, a loss overrides ``__call__``."""

    def __init_subclass__(cls) -> None:
        if hasattr(cls, "name"):  # what several losses share has none
            register(Loss.kinds, vars(cls).get("name", cls.__name__), cls)

    def __repr__(self) -> str:
        return short_repr(self)

    def fuses(self, head: Layer) -> bool:
        """Return whether the loss is computed from the input of the output layer ``head``; see `is_head`."""
        return False

    def __call__(
        self, z: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the loss () and its gradient, of the shape of ``z`` (..., outputs)."""
        options = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return type(self).op(z, target, sample_weight, mask, **options)

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


def is_head(head: Layer, *kinds: type[Layer]) -> bool:
    """Return whether an output layer is of some kinds, so that a loss may be computed from its input.

    Raises
    ------
    ValueError
        If it computes something else than they do, which such a loss would pass over.
    """
    if type(head) in kinds or not isinstance(head, kinds):
        return isinstance(head, kinds)
    kind = next(kind for kind in kinds if isinstance(head, kind))
    if "forward" in overridden(head, kind):
        raise ValueError(
            f"loss: is computed from the input of a {kind.__name__} at the end of the network, and would pass over the "
            f"forward of {type(head).__name__}. Put what that adds into a layer before a plain {kind.__name__}, or "
            "choose a loss of the output, such as 'squared_error'."
        )
    return True


def weights(argument: str, values: Any) -> tuple[float, ...] | None:
    """Return a loss's weights, one per output, as numbers of at least 0; None for none."""
    if values is None:
        return None
    return tuple(check_number(argument, number, 0.0) for number in in_order(argument, values))


NOT_IN_ORDER = (Mapping, Set, str, bytes, bytearray)
"""What can be iterated over and yet is no row of numbers: a dict's keys are no weights, nor are a text's letters."""


def in_order(argument: str, values: Any) -> Iterable[Any]:
    """Return ``values`` if it is a row of things, one per output; else raise TypeError."""
    if isinstance(values, NOT_IN_ORDER) or not isinstance(values, Iterable) or getattr(values, "shape", None) == ():
        raise TypeError(f"{argument}: expected one number per output, in their order, got {shown(values)}.")
    return values


def check_length(argument: str, values: tuple[float, ...] | None, n_out: int) -> None:
    """Raise ValueError unless there is one value per output."""
    if values is not None and len(values) != n_out:
        raise ValueError(f"{argument}: has {len(values)} values; the network has {n_out} outputs.")


def on_device(values: tuple[float, ...] | None, like: Array) -> Array | None:
    """Return a loss's weights as an array beside another one."""
    return None if values is None else backend_of(like).asarray(np.array(values), like.dtype)
