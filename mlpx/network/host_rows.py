"""Training data that stays on the host while the network is on a GPU: rows come over as they are wanted."""

from typing import Any

import numpy as np

from mlpx.backend import Backend, backend_name, to_numpy
from mlpx.typing import Array, ArrayLike

SHARE = 0.5
"""Data that take up more than this share of the GPU's free memory stay on the host."""


class HostRows:
    """The rows of an array on the host, as an array of the network's backend for whoever takes some of them.

    Parameters
    ----------
    data : array (n, ...)
        On the host; may be a memory map.
    dtype : str
        What rows arrive as.
    backend : Backend
        Where they arrive.
    rows : array (m,), int, optional
        Those of the data that this object consists of; None for all.
    """

    def __init__(self, data: Array, dtype: str, backend: Backend, rows: Array | None = None) -> None:
        self.data, self.backend, self.rows = data, backend, rows
        self.dtype = np.dtype(dtype)
        self.shape = (data.shape[0] if rows is None else rows.size, *data.shape[1:])
        self.ndim, self.size = data.ndim, int(np.prod(self.shape))

    def on_host(self, rows: Array | slice) -> Array:
        """Return some rows as a C-contiguous array on the host, in the dtype that they arrive in."""
        chosen = rows if self.rows is None else self.rows[rows]
        with np.errstate(over="ignore"):  # as everywhere: what the dtype cannot hold is found by the check of fit
            return np.ascontiguousarray(self.data[chosen], self.dtype)

    def take(self, rows: Array | slice) -> Array:
        """Return some rows on the network's backend."""
        return self.backend.asarray(self.on_host(rows if isinstance(rows, slice) else to_numpy(rows)))

    def subset(self, rows: Array) -> "HostRows":
        """Return some rows, still on the host; nothing is copied but their numbers."""
        chosen = to_numpy(rows)
        return HostRows(self.data, self.dtype.name, self.backend, chosen if self.rows is None else self.rows[chosen])

    def __getitem__(self, key: Any) -> Array:
        """Return the rows of a slice, or of a slice and an ellipsis, on the network's backend."""
        rows, *rest = key if isinstance(key, tuple) else (key,)
        if not isinstance(rows, slice) or rest not in ([], [Ellipsis]):
            raise TypeError(f"rows on the host: expected a slice of rows, got {key!r}.")
        return self.take(rows)


def moved(x: ArrayLike, backend: Backend, dtype: str | None = None, *, streamed: bool = False) -> ArrayLike:
    """Return training data for a network: what lies on the host is moved to a GPU network's device.

    Parameters
    ----------
    x : array
        Returned as it is where the network is no GPU's, or where no GPU can hold such things (objects, strings, masks).
    dtype : str, optional
        What it becomes on the way; None keeps its own.
    streamed : bool
        Whether data that would fill the device's memory may stay, as `HostRows`.
    """
    if backend.name != "cupy" or backend_name(x) != "numpy" or x.dtype.kind not in "fiub" or hasattr(x, "mask"):
        return x
    if streamed and x.ndim >= 2:
        free, _ = backend.xp.cuda.runtime.memGetInfo()
        if x.size * np.dtype(dtype).itemsize > SHARE * free:
            return HostRows(x, dtype or x.dtype.name, backend)
    return backend.asarray(x, dtype)
