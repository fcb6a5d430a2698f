"""How rows are shared among threads."""

import ctypes
import os
from functools import cache, partial

from mlpx_kernels.cpu.threading.pool import WorkerPool
from mlpx_kernels.cpu.threading.thread_count import recent_n_threads

WORTH_A_THREAD = 1 << 18
"""Elements of row work per thread below which one thread is faster: handing work over costs some 20 to 60 us."""

WORTH_A_HELPER = 1 << 16
"""The same for work that is shared in compiled code."""

FEWEST, MOST = 2, 16
"""Pieces of work for each thread, claimed one by one: few where there is little work, since each costs some
microseconds and may meet a taken GIL; many where one thread may be much slower, as with memory that it is the first to
write."""
PARTS = 4
"""Parts whose sums are kept apart, for each thread that the work is worth."""
MOST_PARTS = 16
"""Most of them; the sums of more would take longer than they save."""

_pools: dict[int, WorkerPool] = {}


def worker_pool(size: int) -> WorkerPool:
    """Return the pool of ``size`` workers that all callers share, made on first use."""
    pool = _pools.get(size)
    if pool is None or pool.retired:
        pool = _pools[size] = WorkerPool(size)
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # threads do not survive a fork


def _worth(work, least, most):
    """Return how many threads some work is worth, each of which should have ``least`` of it; at most so many.

    All that there are, or a power of two: each number has a pool of its own.
    """
    worth = min(most, work // least)
    threads = recent_n_threads() if worth > 1 else 1
    return threads if threads <= worth else 1 << (max(worth, 1).bit_length() - 1)


def share_rows(function, rows, work):
    """Call ``function(start, stop)`` over all rows, split over threads when the work (in elements) is worth it.

    Rows are computed alike wherever the cuts fall, so results do not depend on the number of threads. They are cut into
    more pieces than there are threads, which threads claim one by one until none is left: the caller waits for a helper
    that is late no longer than for the piece it has begun, and not at all for one that has not begun any. Each thread
    begins with pieces of its own, the same in every call, whose rows may still be in its core's caches.
    """
    threads = _worth(work, WORTH_A_THREAD, rows)
    if threads == 1:
        function(0, rows)
        return
    pieces = min(rows, threads * min(MOST, max(FEWEST, work // (threads * WORTH_A_THREAD))))
    unclaimed = dict.fromkeys(range(pieces), True)  # to take something out of a dictionary is one step for all threads

    def take(thread):
        own = pieces * thread // threads
        for i in (*range(own, pieces), *range(own)):
            if unclaimed.pop(i, False):
                function(rows * i // pieces, rows * (i + 1) // pieces)

    with worker_pool(threads - 1).helping([partial(take, thread) for thread in range(1, threads)]):
        take(0)


def share_piece(piece, arguments, rows, step, work):
    """Call a piece (job.py) for all rows, split over threads in compiled code when the work (in elements) is worth it.

    Parameters
    ----------
    piece : CFunc
    arguments : tuple of int
        The addresses of what it is called with before the rows: row, reals, job, frame.
    rows, step : int
        How many rows, and what is taken at once: a multiple of it, or more at the end, but never less.
    """
    threads = _worth(work, WORTH_A_HELPER, rows // step)
    if threads < 2 or not worker_pool(threads - 1).share(piece.address, arguments, rows, step):
        _as_piece(piece.address)(*arguments, 0, rows)


_as_piece = cache(ctypes.CFUNCTYPE(ctypes.c_double, *[ctypes.c_void_p] * 4, *[ctypes.c_int64] * 2))
"""What lets Python call the piece at an address, without the GIL."""


def fixed_parts(rows, work):
    """Return into how many parts rows are cut whose sums are kept apart: a power of two that the shape decides."""
    if min(rows, work // WORTH_A_THREAD) < 2:
        return 1
    most = min(rows, work * PARTS // WORTH_A_THREAD, MOST_PARTS)
    return 1 << (most.bit_length() - 1)


def share_parts(function, rows, parts):
    """Call ``function(part, start, stop)`` for each of the parts, split over threads."""

    def some(first, last):
        for part in range(first, last):
            function(part, rows * part // parts, rows * (part + 1) // parts)

    share_rows(some, parts, parts * WORTH_A_THREAD // PARTS)
