"""The same layers at every step of a sequence, in one product, with padding left out of it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from mlpx.backend import backend_of
from mlpx.errors import shown
from mlpx.layers.base import INFERENCE, Backprop, Context, Layer
from mlpx.layers.buffers import Buffers
from mlpx.layers.valid_rows import put, take
from mlpx.ops._dense import rows
from mlpx.registry import registered_name
from mlpx.typing import Array


@dataclass(init=False, repr=False)
class TimeDistributed(Layer):
    """Apply layers to every step: (n, steps, n_in) -> (n, steps, n_out), any number of leading axes.

    Batch and steps are collapsed without a copy, so each inner layer sees rows and there is one product. With
    ``context.valid`` (n, steps) the rows of padded steps are taken out first: they cost nothing, come back as zeros,
    and get zero gradient.

    For dropout whose mask is the same at every step put ``Dropout(p, shared_axes=(1,))`` beside this layer.

    Parameters
    ----------
    *layers : Layer
        Applied in order.
    """

    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer) -> None:
        if not layers or not all(isinstance(layer, Layer) for layer in layers):
            raise TypeError(f"TimeDistributed: expected one or more layers, got {shown(layers)}.")
        self.layers = tuple(layers)
        self.declare({})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"

    def inner_layers(self) -> Sequence[Layer]:
        """Return the layers inside."""
        return self.layers

    def over(self, buffers: Buffers) -> "TimeDistributed":
        """Return a copy over other buffers, with copies of the layers inside."""
        made = TimeDistributed(*(layer.over(buffers) for layer in self.layers))
        made.number = self.number
        return made

    def input_size(self) -> int | None:
        """Return what the first layer inside that minds its input wants."""
        return next((n for n in (layer.input_size() for layer in self.layers) if n is not None), None)

    def output_size(self, n_in: int) -> int:
        """Return the output size of the last layer inside."""
        for layer in self.layers:
            n_in = layer.output_size(n_in)
        return n_in

    def config(self) -> dict[str, Any]:
        """Return the configurations of the layers inside."""
        (name,) = (f.name for f in fields(self))
        return {name: [{"layer": registered_name(Layer.kinds, type(layer)), **layer.config()} for layer in self.layers]}

    def forward(self, x: Array, context: Context = INFERENCE) -> tuple[Array, Backprop]:
        """Return y (..., steps, n_out) and its backprop."""
        xp = backend_of(x).xp
        valid = None if context.valid is None else xp.reshape(context.valid, (-1,))
        mask = None if context.mask is None else take(rows(context.mask, xp), valid)
        inner = replace(context, mask=mask, valid=None)
        r = take(rows(x, xp), valid)
        backprops: list[Backprop] = []
        for layer in self.layers:
            r, back = layer.forward(r, inner)
            backprops.append(back)
            inner = inner.inner()

        def backprop(dy: Array) -> Array | None:
            d: Array | None = take(rows(dy, xp), valid)
            for back in reversed(backprops):
                d = back(d)
            return None if d is None else put(xp, d, valid, x.shape[:-1])

        return put(xp, r, valid, x.shape[:-1]), backprop
