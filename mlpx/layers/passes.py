"""Layers in a row: what goes through them, and whether they fit."""

from mlpx.layers import Backprop, Context, Layer
from mlpx.typing import Array


def through(layers: tuple[Layer, ...], x: Array, context: Context) -> tuple[Array, Backprop]:
    """Apply layers in order; return the output and the backprop of them all."""
    backprops: list[Backprop] = []
    for layer in layers:
        x, back = layer.forward(x, context)
        backprops.append(back)
        context = context.inner()

    def backprop(dy: Array) -> Array | None:
        d: Array | None = dy
        for back in reversed(backprops):
            d = back(d)
        return d

    return x, backprop


def sizes(layers: tuple[Layer, ...]) -> tuple[int | None, int | None]:
    """Return (n_in, n_out); raise ValueError where two layers do not fit."""
    n_in = next((n for n in (layer.input_size() for layer in layers) if n is not None), None)
    size = n_in
    for number, layer in enumerate(layers):
        if size is not None:
            try:
                size = layer.output_size(size)
            except ValueError as error:
                raise ValueError(f"layers[{number}] {error}") from None
    return n_in, size
