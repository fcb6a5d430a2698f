"""The rows of real steps of padded sequences, taken out and put back among zeros."""

from dataclasses import replace
from typing import Any

from mlpx.backend import backend_of, dtype_name
from mlpx.layers.base import Backprop, Context, Layer
from mlpx.ops._dense import rows
from mlpx.typing import Array


def take(r: Array, valid: Array | None) -> Array:
    """Return the rows (n, f) where ``valid`` (n,) is True; all where it is None."""
    return r if valid is None else r[valid]


def put(xp: Any, r: Array, valid: Array | None, lead: tuple[int, ...]) -> Array:
    """Return the rows in their places among zeros, with the leading axes restored."""
    if valid is not None:
        out = backend_of(r).zeros((valid.shape[0], r.shape[-1]), dtype_name(r))
        out[valid] = r
        r = out
    return xp.reshape(r, (*lead, r.shape[-1]))


def forward_valid(layer: Layer, x: Array, context: Context) -> tuple[Array, Backprop]:
    """Return a layer's output for the rows of real steps, zeros at padded ones, and the backprop to match."""
    xp = backend_of(x).xp
    valid = xp.reshape(context.valid, (-1,))
    y, back = layer.forward(take(rows(x, xp), valid), replace(context, valid=None))

    def backprop(dy: Array) -> Array | None:
        dx = back(take(rows(dy, xp), valid))
        return None if dx is None else put(xp, dx, valid, x.shape[:-1])

    return put(xp, y, valid, x.shape[:-1]), backprop
