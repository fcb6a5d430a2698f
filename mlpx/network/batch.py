"""Checked inputs and targets of one call, and the helpers that cut them into rows."""

from dataclasses import dataclass

import numpy as np

from mlpx.backend import backend_name, backend_of, host_array, to_numpy
from mlpx.network.host_rows import HostRows
from mlpx.typing import Array, ArrayLike

BLOCK = 4096
"""Rows that `mlpx.network.Network.predict` takes at once, so that hidden layers never exist for all rows."""
GPU_BLOCK = 1 << 16
"""The same on a GPU, which a few thousand rows leave idle."""


@dataclass
class Batch:
    """Checked inputs and targets of one call, all on the network's backend and in its dtype."""

    x: Array
    target: Array
    mask: Array | None = None
    sample_weight: Array | None = None
    valid: Array | None = None

    def take(self, rows: Array | slice) -> "Batch":
        """Return the batch of some rows: a slice, or an array of row numbers."""
        parts = (self.x, self.target, self.mask, self.sample_weight, self.valid)
        return Batch(*(None if part is None else _rows(part, rows) for part in parts))

    def real_x(self) -> Array:
        """Return the inputs with 0 at padded steps, which may hold anything: 0 times NaN is NaN in a gradient."""
        if self.valid is None:
            return self.x
        xp = backend_of(self.valid).xp
        return xp.where(self.valid[..., None], self.x, xp.zeros_like(self.x))

    def subset(self, rows: Array) -> "Batch":
        """Return the batch of many rows; inputs that stay on the host stay there."""
        if not isinstance(self.x, HostRows):
            return self.take(rows)
        others = (self.target, self.mask, self.sample_weight, self.valid)
        return Batch(self.x.subset(rows), *(None if part is None else _rows(part, rows) for part in others))


def _rows(part: Array, rows: Array | slice) -> Array:
    if isinstance(part, HostRows):
        return part.take(rows)
    if isinstance(rows, slice):
        return part[rows, ...]
    return backend_of(part).xp.take(part, rows, axis=0)


def blocks(n: int, most: int = BLOCK) -> list[slice]:
    """Return slices of at most ``most`` rows that cover n rows; an empty one for none."""
    return [slice(start, min(start + most, n)) for start in range(0, max(n, 1), most)]


def lone(mask: ArrayLike | None) -> ArrayLike | None:
    """Return a mask of one instance as one row; others, and None, as they are."""
    return (
        mask if mask is None or getattr(mask, "ndim", 1) != 1 else mask[None, ...] if hasattr(mask, "ndim") else [mask]
    )


def without_padding(y: ArrayLike, valid: Array) -> ArrayLike:
    """Return targets with 0 at padded steps, where anything may stand, such as -1 or NaN; unfit ones as they are."""
    y = host_array("y", y) if backend_name(y) is None else y
    lead = tuple(valid.shape)
    if tuple(y.shape[: len(lead)]) != lead or (isinstance(y, np.ndarray) and y.dtype.kind not in "fiub"):
        return y
    valid = to_numpy(valid) if isinstance(y, np.ndarray) else valid
    xp = backend_of(y).xp
    return xp.where(xp.reshape(valid, (*lead, *(1,) * (y.ndim - len(lead)))), y, xp.zeros_like(y))
