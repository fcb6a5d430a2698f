"""Work that is shared in compiled code: every row once, by any of the threads, and nothing of it afterwards."""

import threading
import time
import types

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed: there is nothing compiled")

from mlpx_kernels.cpu import dense
from mlpx_kernels.cpu.lowlevel.memory import view
from mlpx_kernels.cpu.plan.layout import piece
from mlpx_kernels.cpu.threading import parallel_rows, pool
from mlpx_kernels.cpu.threading.thread_count import using_threads
from mlpx_kernels.cpu.threading.work_queue import PARTS, POSTED


@piece
def count(row, reals, job, frame, a, b):
    """Add one to the counts, at an address in the row, of rows a to b, and leave the size of the part."""
    counts, sizes = view(row[0], a, b - a, np.int64), view(row[1], a, b - a, np.int64)
    for k in range(counts.size):
        counts[k] += 1
    sizes[0] = b - a
    return 0.0


def counting(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return counts, sizes, and the row of the table that has their addresses."""
    counts, sizes = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    return counts, sizes, np.array([counts.ctypes.data, sizes.ctypes.data])


@pytest.mark.parametrize("n_threads", [2, 3, 5])
@pytest.mark.parametrize(("rows", "step"), [(2, 1), (7, 3), (64, 8), (100, 32), (1000, 7), (5, 5)])
def test_every_row_is_taken_once_in_parts_of_a_step_or_more(rows: int, step: int, n_threads: int) -> None:
    one = pool.WorkerPool(n_threads - 1)
    for _ in range(30):
        counts, sizes, row = counting(rows)
        assert one.share(count.address, (row.ctypes.data, 0, 0, 0), rows, step)
        assert (counts == 1).all()
        assert sizes.sum() == rows
        assert sizes[sizes > 0].min() >= step
        assert np.count_nonzero(sizes) == min(rows // step, PARTS * n_threads)
    assert one.queue[POSTED] == 30
    assert one.shared[0] == 30 * one.parts


def test_workers_take_part(monkeypatch) -> None:
    """Here the caller does none of it."""
    one = pool.WorkerPool(1)

    def post(threads: int, queue: np.ndarray, shared: np.ndarray, parts: int) -> None:
        queue[POSTED] += 1
        end = time.monotonic() + 20
        while shared[0] < parts and time.monotonic() < end:
            time.sleep(0.001)

    monkeypatch.setattr(pool, "lead", post)
    counts, _, row = counting(64)
    assert one.share(count.address, (row.ctypes.data, 0, 0, 0), 64, 8)
    assert (counts == 1).all()


def test_a_caller_whose_workers_are_greenlets_of_its_own_thread_works_alone(monkeypatch) -> None:
    one = pool.WorkerPool(1)
    monkeypatch.setattr(one, "sleepers", types.SimpleNamespace(submit=lambda function, *args: function(*args)))
    for _ in range(3):
        counts, _, row = counting(64)
        assert one.share(count.address, (row.ctypes.data, 0, 0, 0), 64, 8)
        assert (counts == 1).all()


def test_a_caller_that_finds_the_queue_taken_works_alone(monkeypatch) -> None:
    monkeypatch.setattr(parallel_rows, "WORTH_A_HELPER", 1)
    one = parallel_rows.worker_pool(1)
    x, w = np.ones((70, 1100), np.float32), np.ones((3, 1100), np.float32)
    with using_threads(2), one.posting:
        y, _ = dense.dense(x, w, None)
    assert (y == 1100).all()


def test_several_threads_share_at_once(monkeypatch) -> None:
    monkeypatch.setattr(parallel_rows, "WORTH_A_HELPER", 1)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((300, 1100)), rng.standard_normal((9, 1100))
    wanted, wrong = dense.dense(x, w, None)[0], []

    def work() -> None:
        with using_threads(2):
            wrong.extend(n for n in range(200) if not np.array_equal(dense.dense(x, w, None)[0], wanted))

    callers = [threading.Thread(target=work) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_pools_are_of_all_threads_or_a_power_of_two() -> None:
    with using_threads(6):
        assert [parallel_rows._worth(work, 10, 100) for work in (5, 19, 20, 39, 40, 59, 60, 1000)] == [
            1,
            1,
            2,
            2,
            4,
            4,
            6,
            6,
        ]
        assert parallel_rows._worth(1000, 10, 5) == 4
        assert parallel_rows._worth(1000, 10, 0) == 1
