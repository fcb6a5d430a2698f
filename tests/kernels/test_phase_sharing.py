"""Blocks that threads share: each is run once in each phase, phases follow each other, late threads do no harm."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from numba import njit

import mlpx
from mlpx.optimizers import Adam
from mlpx.steps.cpu import PlanSteps
from mlpx_kernels.cpu.threading import phase_sharing

pytestmark = pytest.mark.usefixtures("many_cores")

PHASES = 400


@njit(nogil=True)
def work(thread, shared, blocks, sums, runs, early):
    """Double-buffered sums: phase p adds up everything that the blocks left in phase p - 1."""
    phase, looks = -1, 0
    if thread == 0:
        phase_sharing.begin(shared, blocks, 2)
    while True:
        now = phase_sharing.open_phase(shared, blocks)
        if now == phase:
            phase_sharing.idle(looks)
            looks += 1
            continue
        if now == PHASES or now < 0:
            return
        phase, looks = now, 0
        for block in range(blocks):
            if not phase_sharing.claim(shared, block, phase):
                continue
            runs[block, phase] += 1
            for other in range(blocks):
                early[block] += phase > 0 and runs[other, phase - 1] != 1
            sums[phase % 2, block] = sums[(phase + 1) % 2].sum() % 1000 + block
            phase_sharing.finish(shared)


def shared_work(blocks: int, threads: int, late: float = 0.0):
    shared = phase_sharing.new_shared(blocks)
    arrays = np.ones((2, blocks), np.int64), np.zeros((blocks, PHASES), np.int64), np.zeros(blocks, np.int64)

    def delayed(thread: int) -> None:
        time.sleep(late)
        work(thread, shared, blocks, *arrays)

    with ThreadPoolExecutor(threads) as pool:
        others = [pool.submit(delayed, thread) for thread in range(1, threads)]
        work(0, shared, blocks, *arrays)
        assert not late or not any(other.done() for other in others)
        sums, runs, early = (array.copy() for array in arrays)
        for other in others:
            other.result(timeout=30)
    for before, after in zip((sums, runs, early), arrays, strict=True):
        np.testing.assert_array_equal(before, after)  # thread 0 came back to finished work
    assert (runs == 1).all()
    assert not early.any()
    return sums


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_each_block_is_run_once_and_in_its_phase(blocks, threads) -> None:
    np.testing.assert_array_equal(shared_work(blocks, threads), shared_work(blocks, 1))


def test_nobody_waits_for_a_thread_that_comes_late() -> None:
    shared_work(2, 2)
    shared_work(2, 3, late=0.5)


def test_threads_whose_first_never_comes_go_home() -> None:
    shared = phase_sharing.new_shared(2)
    arrays = np.ones((2, 2), np.int64), np.zeros((2, PHASES), np.int64), np.zeros(2, np.int64)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(work, 1, shared, 2, *arrays)
        time.sleep(0.05)
        assert not waiting.done()
        phase_sharing.abandon(shared)
        waiting.result(timeout=30)
    assert not arrays[1].any()


def test_a_fit_needs_none_of_its_helpers(monkeypatch) -> None:
    """Helpers that never start leave all blocks to the caller, with the same result to the last bit."""

    class Lazy:
        @contextmanager
        def helping(self, functions, *, wait):
            assert len(functions) == 1
            yield

    found = []
    x, y = np.random.default_rng(0).standard_normal((600, 40)), np.arange(600) % 3
    for lazy in (False, True):
        net = mlpx.MLP([40, 200, 100, 3], dtype="float64", seed=1)
        optimizer = Adam(clip_norm=0.5)
        optimizer.start(net)
        steps = PlanSteps(net, net.batch(x, y), 100, optimizer, seed=0, n_steps=6, n_threads=2, deterministic=False)
        assert steps.threads == 2
        pool = Lazy() if lazy else steps.threads_module.worker_pool(1)
        _, losses = steps._call(pool, 2, 0, np.arange(600), np.full((5, 6), 1e-3))
        found.append((net.parameters.copy(), losses))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
