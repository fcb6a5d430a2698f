"""Every BLAS on one thread for a while: callers are counted, and what it had is put back whatever interrupts."""

import os
import random
import signal
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from threadpoolctl import OpenBLASController, threadpool_info, threadpool_limits

import mlpx

pytest.importorskip("numba", reason="Numba is not installed: there is nothing compiled")

from mlpx_kernels.cpu.threading import blas_threads
from mlpx_kernels.cpu.threading.blas_threads import with_one_blas_thread


class Raised(BaseException):
    """What a signal's handler raises, as `sys.exit` would in one of SIGTERM."""


def counts() -> list[int]:
    """Return the threads of each BLAS."""
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@pytest.fixture(autouse=True)
def _three_threads():
    """Let each BLAS have three threads, whatever the machine has."""
    with threadpool_limits(limits=3, user_api="blas"):
        _as_if_nobody_had_set_it()
        yield


def _as_if_nobody_had_set_it() -> None:
    getattr(OpenBLASController, "clear_controlling_thread", int)()


def test_each_blas_has_one_thread_inside_and_what_it_had_afterwards() -> None:
    inside: list[int] = []
    assert set(counts()) == {3}
    assert with_one_blas_thread(lambda *args: inside.extend(counts()) or args, 1, 2) == (1, 2)
    assert len(inside) == len(blas_threads.LIBRARIES) > 0
    assert set(inside) == {1}
    assert set(counts()) == {3}
    with pytest.raises(ZeroDivisionError):
        with_one_blas_thread(lambda: 1 / 0)
    assert set(counts()) == {3}


def test_the_last_of_several_callers_puts_it_back() -> None:
    entered, leave, seen = threading.Event(), threading.Event(), []

    def slow() -> None:
        entered.set()
        assert leave.wait(20)
        seen.append(counts())

    other = threading.Thread(target=with_one_blas_thread, args=(slow,))
    other.start()
    assert entered.wait(20)
    with_one_blas_thread(lambda: with_one_blas_thread(int))
    seen.append(counts())
    leave.set()
    other.join()
    assert [set(each) for each in seen] == [{1}, {1}]
    assert set(counts()) == {3}


def test_what_somebody_sets_meanwhile_stays() -> None:
    with threadpool_limits(limits=3, user_api="blas"):
        with_one_blas_thread(lambda: threadpool_limits(limits=2, user_api="blas"))
        assert set(counts()) == {2}
    with_one_blas_thread(lambda: threadpool_limits(limits=1, user_api="blas"))
    with threadpool_limits(limits=1, user_api="blas"):
        with_one_blas_thread(int)
        assert set(counts()) == {1}


def test_limits_that_are_set_in_other_threads_are_heard() -> None:
    """threadpoolctl lets only the first thread that sets OpenBLAS's number do so: that must not be ours."""
    seen = []

    def limit() -> None:
        with threadpool_limits(limits=2, user_api="blas"):
            seen.append(set(counts()))

    code = threading.Thread(target=limit)
    with_one_blas_thread(int)
    code.start()
    code.join()
    assert seen == [{2}]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # raised in some object's destructor
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
def test_a_handler_that_raises_at_any_moment_leaves_no_blas_on_one_thread() -> None:
    rng = random.Random(0)
    x, y = np.ones((256, 300), np.float32), np.arange(256) % 10
    net = mlpx.MLP([300, 300, 10], seed=0)

    def work() -> None:
        net.fit(x, y, epochs=1, batch_size=128, progress=False)
        net.predict(x)
        for _ in range(20):
            with_one_blas_thread(int)

    def handler(number, frame):
        raise Raised

    def seconds() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    work()
    usual, interrupted = min(seconds() for _ in range(5)), 0  # some of which may compile, or meet other work
    before = signal.signal(signal.SIGALRM, handler)
    try:
        for _ in range(300):
            with suppress(Raised):
                signal.setitimer(signal.ITIMER_REAL, rng.random() * usual + 1e-6)
                work()
                signal.setitimer(signal.ITIMER_REAL, 0.0)
                interrupted -= 1
            interrupted += 1
            with suppress(Raised):
                signal.setitimer(signal.ITIMER_REAL, 0.0)
            assert set(counts()) == {3}
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 20
    assert not blas_threads._state[: blas_threads.GIVEN].any()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_process_of_one_that_holds_them_has_all_threads() -> None:
    def fork() -> int:
        child = os.fork()
        if not child:
            os._exit(0 if set(counts()) == {3} and not blas_threads._state[: blas_threads.GIVEN].any() else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert with_one_blas_thread(fork) == 0
    assert set(counts()) == {3}
