"""The worker pool: which workers come, which are not waited for, what they raise; nobody's affinity is changed."""

import os
import threading
import time
import types

import numpy as np
import pytest

import mlpx
from mlpx import ops

pytest.importorskip("numba", reason="Numba is not installed: there is nothing compiled")

from mlpx_kernels.cpu.threading import parallel_rows, pool
from mlpx_kernels.cpu.threading.thread_count import using_threads


def sleeping(one: pool.WorkerPool) -> bool:
    """Return whether all helpers have gone to sleep: in a millisecond, or one for each look where cores are busy."""
    end = time.monotonic() + 30
    while one.spinning and time.monotonic() < end:
        time.sleep(0.001)
    return not one.spinning


def test_a_helper_calls_a_function_while_the_caller_does_its_share() -> None:
    one, seen = pool.WorkerPool(1), []
    together = threading.Barrier(2, timeout=10)

    def work() -> None:
        together.wait()
        seen.append(threading.get_ident())

    for _ in range(20):
        with one.helping([work]):
            work()
    assert len(seen) == 40
    assert seen.count(threading.get_ident()) == 20
    assert len(set(seen)) == 2
    assert sleeping(one)
    with one.helping([work]):
        work()
    assert len(seen) == 42


def test_a_helper_that_never_comes_holds_up_nobody() -> None:
    released, seen = threading.Event(), []
    busy = parallel_rows.worker_pool(1)
    with busy.helping([lambda: released.wait(30)], wait=False):
        time.sleep(0.05)
    with using_threads(2):
        parallel_rows.share_rows(lambda a, b: seen.append((a, b)), 100, 10 * parallel_rows.WORTH_A_THREAD)
    assert sum(b - a for a, b in seen) == 100
    assert not released.is_set()
    released.set()
    assert sleeping(busy)


def test_a_function_that_was_begun_is_waited_for_and_one_that_was_not_is_not_begun() -> None:
    one, begun, done = pool.WorkerPool(1), threading.Event(), []

    def slow() -> None:
        begun.set()
        time.sleep(0.05)
        done.append("slow")

    with one.helping([slow, lambda: done.append("late")]):
        assert begun.wait(10)
    assert done == ["slow"]
    assert sleeping(one)
    assert done == ["slow"]


def test_what_a_helper_raises_comes_out_and_what_the_caller_raises_too() -> None:
    one, begun = pool.WorkerPool(1), threading.Event()

    def fail() -> None:
        begun.set()
        raise KeyError("from the helper")

    with pytest.raises(KeyError, match="from the helper"), one.helping([fail]):
        assert begun.wait(10)
    with pytest.raises(ZeroDivisionError), one.helping([lambda: None]):
        raise ZeroDivisionError
    with one.helping([begun.clear]):  # it still works
        end = time.monotonic() + 10
        while begun.is_set() and time.monotonic() < end:
            time.sleep(0.001)
    assert not begun.is_set()


def test_a_helper_is_done_for_its_caller_when_it_has_left_the_gil(monkeypatch) -> None:
    """The sign is given by what runs without the GIL: a caller that went on before would fall asleep over it."""
    one, seen, watch = pool.WorkerPool(1), [], pool.watch
    caller = threading.get_ident()

    def recorded(wake_ups, seen_before, iterations, settle, without_gil, *queue) -> None:
        before = int(without_gil[0])
        watch(wake_ups, seen_before, iterations, settle, without_gil, *queue)
        if threading.get_ident() != caller and iterations == pool.SPIN_ITERATIONS:
            seen.append((before, int(without_gil[0])))

    monkeypatch.setattr(pool, "watch", recorded)
    met = threading.Barrier(2, timeout=10)
    with one.helping([met.wait]):
        met.wait()
    assert sleeping(one)
    assert seen[0] == (0, 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be kept to cores here")
def test_nobodys_affinity_is_changed(monkeypatch) -> None:
    """A mask that is set from outside while work goes on would be undone by whatever puts an older one back."""
    before, calls, places = os.sched_getaffinity(0), [], []
    monkeypatch.setattr(os, "sched_setaffinity", lambda *args: calls.append(args))
    one, met = pool.WorkerPool(1), threading.Barrier(2, timeout=10)

    def look() -> None:
        met.wait()
        places.append(os.sched_getaffinity(0))

    with one.helping([look]):
        look()
    x, y = np.ones((600, 64), np.float32), np.arange(600) % 10
    net = mlpx.MLP([64, 512, 10], seed=0)
    with using_threads(2):
        net.fit(x, y, epochs=3, batch_size=300, progress=False)
        net.predict(np.ones((5000, 64), np.float32))
        ops.softmax(np.ones((1000, 1000), np.float32))
        ops.dense(np.ones((200, 4096), np.float32), np.ones((16, 4096), np.float32), None)
    assert not calls
    assert places == [before, before]
    assert os.sched_getaffinity(0) == before


def test_without_threads_the_caller_does_it_all() -> None:
    one, seen = parallel_rows.worker_pool(1), []
    one.sleepers.shutdown()
    try:
        with using_threads(2):
            parallel_rows.share_rows(lambda a, b: seen.append(b - a), 100, 10 * parallel_rows.WORTH_A_THREAD)
    finally:
        parallel_rows._pools.clear()
    assert sum(seen) == 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_process_gets_helpers_of_its_own() -> None:
    with using_threads(2):
        parallel_rows.share_rows(lambda a, b: None, 100, 10 * parallel_rows.WORTH_A_THREAD)
    child = os.fork()
    if not child:
        seen: list[int] = []
        with using_threads(2):
            parallel_rows.share_rows(lambda a, b: seen.append(b - a), 100, 10 * parallel_rows.WORTH_A_THREAD)
        os._exit(0 if sum(seen) == 100 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_all_that_was_begun_is_waited_for_though_one_raises() -> None:
    """What a function works on may be gone as soon as the block is left."""
    one, met, done = pool.WorkerPool(2), threading.Barrier(3, timeout=10), []

    def fail() -> None:
        met.wait()
        raise KeyError("from the helper")

    def slow() -> None:
        met.wait()
        time.sleep(0.05)
        done.append("slow")

    with pytest.raises(KeyError, match="from the helper"), one.helping([fail, slow]):
        met.wait()
    assert done == ["slow"]


def test_an_interrupt_while_a_helper_is_waited_for_comes_when_it_is_done(monkeypatch) -> None:
    one, met, done = pool.WorkerPool(1), threading.Barrier(2, timeout=10), []
    watch, caller, signals = pool.watch, threading.get_ident(), [KeyboardInterrupt]

    def interrupted(*args: object) -> None:
        if threading.get_ident() == caller and signals:
            raise signals.pop()
        watch(*args)

    def slow() -> None:
        met.wait()
        time.sleep(0.05)
        done.append("slow")

    monkeypatch.setattr(pool, "watch", interrupted)
    with pytest.raises(KeyboardInterrupt), one.helping([slow]):
        met.wait()
    assert done == ["slow"]
    assert not signals


def test_a_busy_helper_is_not_called_again_and_again() -> None:
    one, begun, released, calls = pool.WorkerPool(1), threading.Event(), threading.Event(), []
    submit = one.sleepers.submit
    one.sleepers.submit = lambda *args: calls.append(submit(*args))

    def busy() -> None:
        begun.set()
        released.wait(10)

    with one.helping([busy], wait=False):
        assert begun.wait(10)
    for _ in range(50):
        with one.helping([int]):
            pass
    assert len(calls) == 1
    released.set()
    assert sleeping(one)


def test_a_pool_whose_threads_are_the_callers_own_leaves_the_work_to_it(monkeypatch) -> None:
    """Under gevent a thread is a greenlet of the caller's thread, and runs before the call that starts it returns."""
    one, seen, watched = pool.WorkerPool(2), [], []
    monkeypatch.setattr(one, "sleepers", types.SimpleNamespace(submit=lambda function, *args: function(*args)))
    monkeypatch.setattr(pool, "watch", lambda *args: watched.append(args))
    for _ in range(3):
        with one.helping([lambda: seen.append("worker"), lambda: seen.append("worker")]):
            seen.append("caller")
    assert seen == ["caller"] * 3
    assert (watched, list(one.tasks), one.serving) == ([], [], set())


def test_tasks_that_no_worker_can_take_are_not_kept(monkeypatch) -> None:
    def no_more_threads(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    one = pool.WorkerPool(2)
    monkeypatch.setattr(one, "sleepers", types.SimpleNamespace(submit=no_more_threads))
    for _ in range(3):
        with one.helping([int, int]):
            assert len(one.tasks) == 2
        assert (list(one.tasks), one.serving) == ([], set())


@pytest.mark.parametrize("where", ["before", "after"])
def test_an_interrupt_while_a_worker_is_woken_leaves_none_counted(monkeypatch, where) -> None:
    one, submit, done = pool.WorkerPool(1), [], []

    def interrupted(*args: object) -> None:
        if where == "after":
            submit[0](*args)
        raise KeyboardInterrupt

    submit.append(one.sleepers.submit)
    with monkeypatch.context() as patched:
        patched.setattr(one.sleepers, "submit", interrupted)
        with pytest.raises(KeyboardInterrupt), one.helping([lambda: done.append("stale")]):
            pytest.fail("the block was entered")
    assert not one.serving
    with one.helping([lambda: done.append("new")]):
        end = time.monotonic() + 10
        while "new" not in done and time.monotonic() < end:
            time.sleep(0.001)
    assert done[-1] == "new"  # "stale" comes first where the worker was quicker than the interrupt
