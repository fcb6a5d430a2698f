"""Softmax layers. As the last layer of a network trained by cross-entropy they are fused with the loss."""

from dataclasses import dataclass

from mlpx import ops
from mlpx.layers.base import INFERENCE, Backprop, Context, Layer, PlanRow
from mlpx.typing import Array


@dataclass(repr=False)
class Softmax(Layer):
    """Turn each row of logits (..., c) into probabilities ``exp(x_c) / sum_k exp(x_k)``; see `mlpx.ops.softmax`."""

    def __post_init__(self) -> None:
        self.declare({})

    def describe(self, n_in: int) -> PlanRow:
        """Return the row of a plan."""
        return PlanRow("softmax", n_in, n_in)

    def forward(self, x: Array, context: Context = INFERENCE) -> tuple[Array, Backprop]:
        """Return y (..., c), rows that sum to 1, and its backprop."""
        y = ops.softmax(x)
        return y, lambda dy: ops.softmax_grad(dy, y)


@dataclass(repr=False)
class MaskedSoftmax(Layer):
    """Softmax over the classes that ``context.mask`` allows; the others are exactly 0. See `mlpx.ops.masked_softmax`.

    Raises
    ------
    ValueError
        If no mask is given, or one whose shape is not that of the logits.
    """

    uses_mask = True

    def __post_init__(self) -> None:
        self.declare({})

    def describe(self, n_in: int) -> PlanRow:
        """Return the row of a plan."""
        return PlanRow("masked_softmax", n_in, n_in)

    def forward(self, x: Array, context: Context = INFERENCE) -> tuple[Array, Backprop]:
        """Return y (..., c) and its backprop."""
        mask = context.mask
        if mask is None:
            raise ValueError(
                f"mask: missing. A masked softmax needs a bool array of shape {tuple(x.shape)}, True where a class is "
                "allowed."
            )
        y = ops.masked_softmax(x, mask)
        return y, lambda dy: ops.masked_softmax_grad(dy, y, mask)
