"""A network as plain records: each layer describes itself, and compiled code is laid out from that.

A layer that cannot describe itself makes the network run layer by layer: slower, never wrong.
"""

from collections.abc import Sequence
from functools import cache

from mlpx.layers import Dropout, Layer
from mlpx.layers.base import PlanRow
from mlpx.overrides import overridden
from mlpx_kernels import Unsupported
from mlpx_kernels.activations import CODES

ASKED = frozenset({"config", "declare", "initialize", "input_size", "output_size", "size_error"})
"""Methods of layers that are called, or play no part, where a plan stands in for the rest."""


def describe(layers: Sequence[Layer], n_in: int | None, *, training: bool) -> list[PlanRow]:
    """Return the rows of a network's layers.

    Raises
    ------
    Unsupported
        If a layer has no description, or computes something else than the class that described it; or the input's
        width is not known.
    """
    if n_in is None:
        raise Unsupported("no layer fixes the width of the input")
    rows = []
    for layer in layers:
        if own := overridden(layer, _described_by(type(layer)), ASKED):
            raise Unsupported(f"{type(layer).__name__} has its own {min(own)}, so it runs layer by layer")
        if isinstance(layer, Dropout) and not training:
            continue
        row = layer.describe(n_in)
        if row is None or row.kind not in CODES:
            raise Unsupported(f"{type(layer).__name__} runs layer by layer")
        _check_shapes(layer, row, n_in)
        if row.op == "masked_softmax" and (training or layer is not layers[-1]):
            raise Unsupported("a masked softmax runs layer by layer, except at the end of the network")
        n_in = row.n_out
        rows.append(row)
    if not rows:
        raise Unsupported("there is nothing to compute")
    return rows


@cache
def _described_by(kind: type[Layer]) -> type[Layer]:
    """Return the class whose description a kind of layer has."""
    return next(each for each in kind.__mro__ if "describe" in vars(each))


def _check_shapes(layer: Layer, row: PlanRow, n_in: int) -> None:
    """Raise Unsupported for sizes that were set after the weights were made: compiled code would leave the buffers."""
    width = row.n_out if row.op == "dense" else n_in
    wanted = (width, n_in) if row.op == "dense" else (width,)
    fits = row.n_in == n_in and row.n_out == width and (row.weight is None or row.weight.shape == wanted)
    if not fits or any(p is not None and p.shape != (width,) for p in (row.bias, row.mean, row.var)):
        raise Unsupported(f"{type(layer).__name__} is of another size than its weights")
