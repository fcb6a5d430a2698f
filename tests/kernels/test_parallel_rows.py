"""Threads of the kernels: what each gets, and that they get in nobody's way."""

import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import mlpx

pytest.importorskip("numba", reason="Numba is not installed: there is nothing compiled")

from mlpx_kernels.cpu import activation
from mlpx_kernels.cpu.threading import parallel_rows
from mlpx_kernels.cpu.threading.thread_count import using_threads

pytestmark = pytest.mark.usefixtures("many_cores")


def test_rows_are_shared_without_gap_or_overlap() -> None:
    for n in (1, 2, 3, 5):
        seen = []
        with using_threads(n):
            parallel_rows.share_rows(
                lambda a, b, seen=seen: seen.append((a, b)), 101, 10 * parallel_rows.WORTH_A_THREAD
            )
        assert sorted(seen)[0][0] == 0
        assert sorted(seen)[-1][1] == 101
        assert sum(b - a for a, b in seen) == 101
        assert len(seen) >= n


def test_each_thread_begins_with_rows_of_its_own() -> None:
    met = threading.Barrier(2, timeout=10)
    first: dict[int, int] = {}

    def some(start: int, stop: int) -> None:
        if threading.get_ident() not in first:
            first[threading.get_ident()] = start
            met.wait()

    for work in (2 * parallel_rows.WORTH_A_THREAD, 100 * parallel_rows.WORTH_A_THREAD):
        for _ in range(3):
            first.clear()
            with using_threads(2):
                parallel_rows.share_rows(some, 64, work)
            assert first.pop(threading.get_ident()) == 0
            assert list(first.values()) == [32]


def test_little_work_comes_in_few_pieces_and_much_in_many() -> None:
    counts = []
    for work in (2, 4, 7, 8, 1000):
        seen: list[int] = []
        with using_threads(2):
            parallel_rows.share_rows(lambda a, b, seen=seen: seen.append(a), 1000, work * parallel_rows.WORTH_A_THREAD)
        counts.append(len(seen))
    assert counts == [4, 4, 6, 8, 32]


def test_quick_loops_stay_on_one_thread_for_longer(monkeypatch) -> None:
    shared = []
    monkeypatch.setattr(activation, "share_rows", lambda function, rows, work: shared.append(work))
    x = np.ones(2 * parallel_rows.WORTH_A_THREAD, np.float32)
    for kind in ("relu", "gelu"):
        mlpx.ops.activation(x, kind=kind)
        mlpx.ops.activation_grad(x, x, kind=kind)
    assert shared == [x.size, x.size]


def test_errors_in_a_thread_come_out() -> None:
    def fail(a, b):
        if a:
            raise KeyError("from the thread")

    with using_threads(2), pytest.raises(KeyError, match="from the thread"):
        parallel_rows.share_rows(fail, 100, 10 * parallel_rows.WORTH_A_THREAD)


def test_blas_gets_its_threads_back() -> None:
    def counts():
        return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    before = counts()
    rng = np.random.default_rng(0)
    net = mlpx.MLP([20, 30, 3])
    net.fit(rng.standard_normal((50, 20)), rng.integers(0, 3, 50), epochs=2, progress=False)
    net.predict(rng.standard_normal((5000, 20)))
    assert {path: counts()[path] for path in before} == before


def test_several_threads_fit_and_predict_at_once() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((600, 64)).astype("f"), rng.integers(0, 10, 600)

    def work(seed: int, results: dict) -> None:
        net = mlpx.MLP([64, 256, 10], seed=seed)
        net.fit(x, y, epochs=3, batch_size=200, n_threads=2, progress=False)
        results[seed] = net.predict(x)

    alone: dict[int, np.ndarray] = {}
    together: dict[int, np.ndarray] = {}
    for seed in range(4):
        work(seed, alone)
    workers = [threading.Thread(target=work, args=(seed, together)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    for seed in range(4):
        assert np.array_equal(alone[seed], together[seed])


def test_the_plan_returns_at_least_every_tenth_of_a_second() -> None:
    """Callbacks of the plan's own clock: no call may take long, so that Ctrl-C and progress bars work."""
    from mlpx.steps.cpu import PlanSteps

    rng = np.random.default_rng(0)
    net = mlpx.MLP([64, 256, 256, 10])
    optimizer = mlpx.optimizers.Adam()
    optimizer.start(net)
    batch = net.batch(rng.standard_normal((20_000, 64)), rng.integers(0, 10, 20_000))
    steps = PlanSteps(net, batch, 32, optimizer, seed=0, n_steps=1, n_threads=1, deterministic=False)
    calls: list[int] = []
    list(steps.epochs(0, np.arange(20_000)[None], 0, calls.append))
    calls.clear()
    began = time.perf_counter()
    list(steps.epochs(0, np.arange(20_000)[None], 625, calls.append))
    seconds = time.perf_counter() - began
    assert sum(calls) == 625
    assert seconds / len(calls) < 0.1
