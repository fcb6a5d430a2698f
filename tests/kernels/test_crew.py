"""Helpers that stay awake: who comes, who is not waited for, what they raise, and where everybody may run."""

import os
import threading
import time

import pytest

pytest.importorskip("numba", reason="Numba is not installed: there is nothing compiled")

from mlpx_kernels.cpu.threading import parallel_rows, pool
from mlpx_kernels.cpu.threading.thread_count import using_threads


def sleeping(one: pool.Crew) -> bool:
    """Return whether all helpers have gone to sleep: in a millisecond, or one for each look where cores are busy."""
    end = time.monotonic() + 30
    while one.awake and time.monotonic() < end:
        time.sleep(0.001)
    return not one.awake


def test_a_helper_calls_a_function_while_the_caller_does_its_share() -> None:
    one, seen = pool.Crew(1), []
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
    busy = parallel_rows.crew(1)
    with busy.helping([lambda: released.wait(30)], wait=False):
        time.sleep(0.05)
    with using_threads(2):
        parallel_rows.share_rows(lambda a, b: seen.append((a, b)), 100, 10 * parallel_rows.WORTH_A_THREAD)
    assert sum(b - a for a, b in seen) == 100
    assert not released.is_set()
    released.set()
    assert sleeping(busy)


def test_a_function_that_was_begun_is_waited_for_and_one_that_was_not_is_not_begun() -> None:
    one, begun, done = pool.Crew(1), threading.Event(), []

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
    one, begun = pool.Crew(1), threading.Event()

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
    one, seen, watch = pool.Crew(1), [], pool.watch
    caller = threading.get_ident()

    def recorded(bell, heard, looks, settle, free, *board) -> None:
        before = int(free[0])
        watch(bell, heard, looks, settle, free, *board)
        if threading.get_ident() != caller and looks == pool.LINGER:
            seen.append((before, int(free[0])))

    monkeypatch.setattr(pool, "watch", recorded)
    met = threading.Barrier(2, timeout=10)
    with one.helping([met.wait]):
        met.wait()
    assert sleeping(one)
    assert seen[0] == (0, 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be kept to cores here")
def test_caller_and_helper_stay_apart_and_the_caller_may_go_where_it_liked_afterwards() -> None:
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("there is one core")
    one, met = pool.Crew(1), threading.Barrier(2, timeout=10)
    places = []

    def look() -> None:
        met.wait()
        places.append(os.sched_getaffinity(0))

    for _ in range(3):
        places.clear()
        with one.helping([look]):
            mine = os.sched_getaffinity(0)
            met.wait()
        assert len(mine) == 1
        assert places == [before - mine]
        assert sleeping(one)
    assert os.sched_getaffinity(0) == before
    with pytest.raises(ZeroDivisionError), one.helping([lambda: None]):
        raise ZeroDivisionError
    assert os.sched_getaffinity(0) == before


def test_cores_that_may_not_be_chosen_stop_nothing(monkeypatch) -> None:
    def forbidden(*args: object) -> None:
        raise PermissionError("not in this container")

    monkeypatch.setattr(os, "sched_setaffinity", forbidden, raising=False)
    seen = []
    with using_threads(2):
        parallel_rows.share_rows(lambda a, b: seen.append(b - a), 100, 10 * parallel_rows.WORTH_A_THREAD)
    assert sum(seen) == 100


def test_without_threads_the_caller_does_it_all() -> None:
    one, seen = parallel_rows.crew(1), []
    one.sleepers.shutdown()
    try:
        with using_threads(2):
            parallel_rows.share_rows(lambda a, b: seen.append(b - a), 100, 10 * parallel_rows.WORTH_A_THREAD)
    finally:
        parallel_rows._crews.clear()
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
    one, met, done = pool.Crew(2), threading.Barrier(3, timeout=10), []

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


def test_an_interrupt_while_helpers_are_called_takes_the_call_back(monkeypatch) -> None:
    one, done = pool.Crew(1), []
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None

    def interrupted(wanted: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(one, "_wake", interrupted)
        with pytest.raises(KeyboardInterrupt), one.helping([lambda: done.append("stale")]):
            pytest.fail("the block was entered")
    if before is not None:
        assert os.sched_getaffinity(0) == before
    with one.helping([lambda: done.append("new")]):
        end = time.monotonic() + 10
        while not done and time.monotonic() < end:
            time.sleep(0.001)
    assert done == ["new"]


def test_an_interrupt_while_a_helper_is_waited_for_comes_when_it_is_done(monkeypatch) -> None:
    one, met, done = pool.Crew(1), threading.Barrier(2, timeout=10), []
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
    one, begun, released, calls = pool.Crew(1), threading.Event(), threading.Event(), []
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


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be kept to cores here")
def test_helpers_go_where_the_caller_may_and_is_not(monkeypatch) -> None:
    one, places = pool.Crew(1), {}
    one.members.append(77)
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread, cores: places.update({thread: cores}))
    for allowed, core, elsewhere in (
        ({0, 1}, 0, {1}),
        ({0, 1, 2, 3}, 2, {0, 1, 3}),
        ({0, 1, 2, 3}, 2, {0, 1, 3}),
        ({1, 2}, 2, {1}),
        ({2}, 2, {1}),  # there is no other: they stay where they are
        ({3}, 2, {1}),  # moved just now
    ):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, allowed=allowed: allowed)
        monkeypatch.setattr(pool, "_processor", lambda core=core: core)
        one._keep_off()
        assert places[77] == elsewhere
