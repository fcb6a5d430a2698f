"""What a GPU's training steps gather their batches from: data on the device, or data that comes over in pieces."""

from typing import Any

import numpy as np

from mlpx.backend import Backend
from mlpx.network.batch import Batch
from mlpx.network.host_rows import HostRows
from mlpx.typing import Array

PIECE = 64 << 20
"""Bytes of inputs that come over at once; there is room for two such pieces on the device and in pinned memory."""


class Resident:
    """Data that lie on the device: steps gather from them directly.

    Attributes
    ----------
    sources : list of Batch
        What steps gather from; one of them at a time.
    most_steps, most_rows : int
        Steps whose rows can be had at once, and those rows.
    """

    def __init__(self, train: Batch) -> None:
        self.sources = [train]
        self.most_steps = self.most_rows = int(train.x.shape[0])  # a step has at least one row

    def rows(self, order: Array) -> tuple[int, Array]:
        """Return which source has the rows of the next steps, and where in it they lie."""
        return 0, order

    def ahead(self, order: Array) -> None:
        """Bring the rows of the steps after those; nothing to do here."""


class Streamed:
    """Inputs on the host: while one piece is trained on, the next is gathered into pinned memory and sent over.

    Pieces go by turns into two buffers. What is small (targets, weights, masks) lies on the device and is copied there
    into the same order.
    """

    def __init__(self, train: Batch, batch_size: int, backend: Backend) -> None:
        assert isinstance(train.x, HostRows)  # noqa: S101
        self.train, self.x = train, train.x
        self.xp = backend.xp
        n_rows, per_step = self.x.shape[0], batch_size * int(np.prod(self.x.shape[1:])) * self.x.dtype.itemsize
        self.most_steps = max(1, min(PIECE // per_step, -(-n_rows // batch_size)))
        self.most_rows = min(self.most_steps * batch_size, n_rows)
        self.sources = [self._buffers() for _ in range(2)]
        self.pinned = [_pinned((self.most_rows, *self.x.shape[1:]), self.x.dtype, self.xp) for _ in range(2)]
        self.copies = self.xp.cuda.Stream(non_blocking=True)
        self.copies.wait_event(self.xp.cuda.get_current_stream().record())
        self.turn = 0
        self.brought = False

    def _buffers(self) -> Batch:
        def empty_like(part: Array | None) -> Array | None:
            return None if part is None else self.xp.empty((self.most_rows, *part.shape[1:]), part.dtype)

        return Batch(
            *(empty_like(part) for part in (self.x, self.train.target, self.train.mask, self.train.sample_weight))
        )

    def rows(self, order: Array) -> tuple[int, Array]:
        """Return which source has the rows of the next steps, and where; the current stream waits until they are in."""
        if not self.brought:
            self.ahead(order)
        self.xp.cuda.get_current_stream().wait_event(self.copies.record())
        ready, self.turn, self.brought = self.turn, 1 - self.turn, False
        return ready, np.arange(order.size)

    def ahead(self, order: Array) -> None:
        """Bring the rows that `rows` will be asked for next into the buffer that no step is reading now.

        One slice of steps has ended since that buffer was read.
        """
        staged = self.pinned[self.turn][: order.size]
        staged[...] = self.x.on_host(order)
        source, n = self.sources[self.turn], order.size
        with self.copies:
            source.x[:n].set(staged, stream=self.copies)
            rows = self.xp.asarray(order)
            for part, held in (
                (self.train.target, source.target),
                (self.train.mask, source.mask),
                (self.train.sample_weight, source.sample_weight),
            ):
                if part is not None and held is not None:
                    held[:n] = self.xp.take(part, rows, axis=0)
        self.brought = True


def _pinned(shape: tuple[int, ...], dtype: Any, xp: Any) -> Array:
    """Return an array in page-locked host memory, from which copies to a device run beside everything else."""
    size = int(np.prod(shape))
    memory = xp.cuda.alloc_pinned_memory(size * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype, size).reshape(shape)
