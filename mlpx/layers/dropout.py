"""The dropout layer."""

from dataclasses import dataclass

from mlpx import ops
from mlpx.errors import check_count, check_number, shown
from mlpx.layers.base import INFERENCE, Backprop, Context, Layer, PlanRow
from mlpx.typing import Array


@dataclass(repr=False)
class Dropout(Layer):
    """In training, set elements to 0 with probability p and divide the rest by 1 - p; else pass x on.

    Parameters
    ----------
    p : float
        Probability of dropping, in [0, 1).
    shared_axes : tuple of int
        Axes along which one mask is shared: ``(1,)`` holds it constant over the steps of (n, steps, features).
    """

    p: float
    shared_axes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.p = check_number("p", self.p, 0.0, 1.0, open_high=True)
        if not isinstance(self.shared_axes, tuple | list):
            raise TypeError(
                f"shared_axes: expected a tuple of whole numbers such as (1,), got {shown(self.shared_axes)}."
            )
        self.shared_axes = tuple(check_count("shared_axes", axis, -64, 63) for axis in self.shared_axes)
        self.declare({})

    def describe(self, n_in: int) -> PlanRow | None:
        """Return the row of a plan."""
        return None if self.shared_axes else PlanRow("dropout", n_in, n_in, real=self.p, number=self.number)

    def forward(self, x: Array, context: Context = INFERENCE) -> tuple[Array, Backprop]:
        """Return y, of the shape of x, and its backprop (the same mask again)."""
        if not context.training or self.p == 0.0:
            return x, lambda dy: dy

        def drop(array: Array) -> Array:
            return ops.dropout(
                array,
                p=self.p,
                seed=context.seed,
                step=context.step,
                layer=self.number,
                shared_axes=self.shared_axes,
            )

        return drop(x), drop
