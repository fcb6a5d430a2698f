"""A loss that is a function of the user's own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlpx.backend import backend_of, dtype_name
from mlpx.backend.conversion import as_float_array
from mlpx.errors import is_real, shown
from mlpx.losses.base import Loss
from mlpx.typing import Array


@dataclass(frozen=True)
class CustomLoss(Loss):
    """A loss of your own: ``function(prediction, target) -> (loss, gradient for the prediction)``.

    It sees whole batches, (n, ..., o) both, and carries its own mean: the loss is one number, and the gradient has the
    prediction's shape. Targets come as numbers of the prediction's shape. Sample weights and masks are refused; a
    network with such a loss cannot be saved, since a function is code.
    """

    name = "custom"
    function: Callable[[Array, Array], tuple[Array, Array]]

    def __post_init__(self) -> None:
        if isinstance(self.function, type) or not callable(self.function):
            raise TypeError(f"function: expected one of (prediction, target), got {shown(self.function)}.")

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
        if tuple(getattr(loss, "shape", ())) != ():
            raise ValueError(
                f"loss: your function returns a loss of shape {tuple(loss.shape)}; expected one number, a mean."
            )
        if not is_real(loss):
            raise TypeError(f"loss: your function returns the loss {shown(loss)}; expected one number, a mean.")
        return loss, as_float_array("loss: the gradient that your function returns", dz, dtype_name(z), backend_of(z))

    def config(self) -> dict[str, Any]:
        """Raise: code is never saved."""
        raise ValueError("loss: a network with a custom loss cannot be saved; set net.loss to a named loss first.")
