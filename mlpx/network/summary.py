"""The table that ``net.summary()`` returns."""

from typing import TYPE_CHECKING

from mlpx.layers import Layer

if TYPE_CHECKING:
    from mlpx.network.network import Network

HEADER = ("layer", "output", "parameters", "activation")


def summary(net: "Network") -> str:
    """Return a table of a network's layers with their output shapes, numbers of parameters and activations.

    Layers inside others are indented below them. The last line counts what training changes, and names the loss.
    """
    rows: list[tuple[str, ...]] = [HEADER]
    size = net.n_in
    for layer in net.layers:
        size = layer.output_size(size) if size is not None else layer.input_size()
        rows += _rows(layer, size, 0)
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {count:>{widths[2]}}  {activation}".rstrip()
        for name, shape, count, activation in rows
    ]
    rule = "-" * max(map(len, lines))
    total = f"{net.n_parameters:,} parameters, {net.dtype}, {net.backend.name}; loss {net.loss!r}"
    return "\n".join([lines[0], rule, *lines[1:], rule, total])


def _rows(layer: Layer, size: int | None, depth: int) -> list[tuple[str, ...]]:
    count = sum(p.size for p in layer.parameters.values())
    shape = "(n, ?)" if size is None else f"(n, {size})"
    # A layer inside another one has no output of its own to show: the outer one's row says what comes out.
    own = ("  " * depth + type(layer).__name__, shape if depth == 0 else "", f"{count:,}", _activation(layer))
    return [own, *(row for inner in layer.inner_layers() for row in _rows(inner, None, depth + 1))]


def _activation(layer: Layer) -> str:
    """Return the name of a layer's activation; empty where it has none, or the identity."""
    name = getattr(layer, "activation", "")
    return "" if name == "identity" or not isinstance(name, str) else name
