"""What a GPU's training steps gather their batches from: data on the device, or data that comes over in pieces."""

from typing import Any

import numpy as np

from mlpx.backend import Backend
from mlpx.batch import Batch
from mlpx.host_rows import HostRows
from mlpx.typing import Array

PIECE = 64 << 20
"""Bytes of inputs that come over at once; there is room for two such pieces on the device and in pinned memory."""


class Resident:
    """Data that lie on the device: steps gather from them directly.

    Attributes
    ----------
    batch : Batch
        What steps gather from.
    most_steps : int
        Steps whose rows can be had at once.
    """

    def __init__(self, train: Batch) -> None:
        self.batch = train
        self.most_steps = train.x.shape[0]

    def rows(self, order: Array) -> Array:
        """Return where the rows of the next steps lie in `batch`."""
        return order

    def ahead(self, order: Array) -> None:
        """Bring the rows of the steps after those; nothing to do here."""


class Streamed:
    """Inputs on the host: while one piece is trained on, the next is gathered into pinned memory and sent over.

    Pieces go by turns into the two halves of one buffer, so that captured steps always read the same one. What is
    small (targets, weights, masks) lies on the device and is copied there into the same order.
    """

    def __init__(self, train: Batch, batch_size: int, backend: Backend) -> None:
        assert isinstance(train.x, HostRows)  # noqa: S101
        self.train, self.x = train, train.x
        xp = self.xp = backend.xp
        row = int(np.prod(self.x.shape[1:]))
        per_step = batch_size * row * self.x.dtype.itemsize
        n_rows = self.x.shape[0]
        self.most_steps = max(1, min(PIECE // per_step, -(-n_rows // batch_size)))
        self.capacity = min(self.most_steps * batch_size, n_rows)
        shape = (self.capacity, *self.x.shape[1:])

        def room(part: Array | None) -> Array | None:
            return None if part is None else xp.empty((2 * self.capacity, *part.shape[1:]), part.dtype)

        self.batch = Batch(
            xp.empty((2 * self.capacity, *self.x.shape[1:]), self.x.dtype),
            *(room(part) for part in (train.target, train.mask, train.sample_weight)),
        )
        self.pinned = [_pinned(shape, self.x.dtype, xp) for _ in range(2)]
        self.copies = xp.cuda.Stream(non_blocking=True)
        self.half = 0
        self.waiting: Array | None = None

    def rows(self, order: Array) -> Array:
        """Return where the rows of the next steps lie in `batch`, and make the current stream wait for them."""
        if self.waiting is None or not np.array_equal(self.waiting, order):
            self.ahead(order)
        self.xp.cuda.get_current_stream().wait_event(self.copies.record())
        start = self.half * self.capacity
        self.waiting, self.half = None, 1 - self.half
        return np.arange(start, start + order.size)

    def ahead(self, order: Array) -> None:
        """Bring rows over into the half that no step is reading now."""
        part = slice(self.half * self.capacity, self.half * self.capacity + order.size)
        staged = self.pinned[self.half][: order.size]
        staged[...] = self.x.on_host(order)
        with self.copies:
            self.batch.x[part].set(staged, stream=self.copies)
            rows = self.xp.asarray(order)
            for source, target in (
                (self.train.target, self.batch.target),
                (self.train.mask, self.batch.mask),
                (self.train.sample_weight, self.batch.sample_weight),
            ):
                if source is not None:
                    target[part] = self.xp.take(source, rows, axis=0)  # type: ignore[index]
        self.waiting = order


def _pinned(shape: tuple[int, ...], dtype: Any, xp: Any) -> Array:
    """Return an array in page-locked host memory, from which copies to a device run beside everything else."""
    size = int(np.prod(shape))
    memory = xp.cuda.alloc_pinned_memory(size * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype, size).reshape(shape)
