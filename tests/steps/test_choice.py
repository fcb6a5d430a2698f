"""How many threads a call takes: the faster way, found and found again at little cost, by every fit for the next."""

import sys
import threading

import numpy as np
import pytest

import mlpx
from mlpx import optimizers
from mlpx.steps.thread_tuner import Choice

pytest.importorskip("numba", reason="Numba is not installed: there is no plan")

from mlpx.steps.cpu import SLICE, PlanSteps

pytestmark = pytest.mark.usefixtures("many_cores")

X, Y = np.random.default_rng(0).standard_normal((30, 7)), np.arange(30) % 5


def calls_of(choice, seconds, steps):
    """Return the threads and steps of a fit's calls, as `PlanSteps` takes them, where a step takes so many seconds."""
    calls, last = [], choice.expected() or 1e-4
    while steps:
        threads, share = choice.next(first=not calls)
        taken = max(1, min(steps, int(share * SLICE / last)))
        last = seconds[threads]
        choice.learn(threads, taken * last, taken, first=not calls)
        calls.append((threads, taken))
        steps -= taken
    return calls


def by(threads, calls):
    """Return the numbers of the calls that took so many threads."""
    return [number for number, call in enumerate(calls) if call[0] == threads]


def test_the_faster_number_of_threads_is_chosen_and_the_other_tried_again() -> None:
    choice = Choice(4)
    fit = calls_of(choice, {4: 5e-4, 1: 2.5e-4}, 40_000)
    assert [threads for threads, _ in fit[:4]] == [4, 4, 4, 1]
    assert max(steps * 5e-4 for _, steps in fit) <= 2 * SLICE
    tried = by(4, fit)[3:]
    assert 3 < len(tried) < 12
    assert np.all(np.diff(tried, 2) >= 0)  # ever more rarely
    assert sum(fit[number][1] for number in tried) < 0.01 * 40_000
    fit = calls_of(choice, {4: 1e-4, 1: 2.5e-4}, 40_000)  # the machine is ours again
    assert fit[0][0] == 1
    assert not by(1, fit[-20:])


@pytest.mark.parametrize("seconds", [(1e-4, 5e-5), (8e-4, 4e-4), (1.8e-3, 1e-3), (4e-3, 1.9e-3)])
def test_short_fits_find_the_faster_number_of_threads_one_after_the_other(seconds) -> None:
    choice = Choice(2)
    fits = [calls_of(choice, dict(zip((2, 1), seconds, strict=True)), 40) for _ in range(60)]
    assert not by(1, fits[0])
    assert sum(steps for fit in fits[30:] for threads, steps in fit if threads == 2) < 0.1 * 30 * 40


@pytest.mark.parametrize("step", [2e-4, 3e-3])
@pytest.mark.parametrize("faster", [1, 2])
def test_fits_of_a_single_call_find_it_too(faster, step) -> None:
    choice, seconds = Choice(2), {faster: step, 3 - faster: 3.0 * step}
    taken = [calls_of(choice, seconds, 1)[0][0] for _ in range(600)]
    assert taken[300:].count(3 - faster) < 30


def test_one_call_that_something_has_held_up_does_not_decide() -> None:
    choice = Choice(2)
    calls_of(choice, {2: 1e-4, 1: 2e-4}, 20_000)
    choice.learn(2, 0.5, 100, first=False)
    assert choice.expected() == pytest.approx(1e-4)
    choice.learn(2, 0.5, 100, first=False)
    assert choice.expected() == pytest.approx(2e-4)


def test_ways_that_are_alike_are_tried_sooner() -> None:
    def second_trial(other: float) -> int:
        return by(1, [call for _ in range(300) for call in calls_of(choice, {2: 1e-4, 1: other}, 20)])[1]

    choice = Choice(2)
    alike = second_trial(1.05e-4)
    choice = Choice(2)
    assert alike < second_trial(2e-4)


def test_one_thread_alone_has_nothing_to_try() -> None:
    choice = Choice(1)
    assert choice.expected() is None
    fit = calls_of(choice, {1: 1e-4}, 3000)
    assert [steps for _, steps in fit] == [10, 10, *[500] * 5, 480]
    assert choice.expected() == pytest.approx(1e-4)
    assert calls_of(choice, {1: 1e-4}, 3000)[0] == (1, 50)


def test_a_first_call_is_short_enough_for_steps_that_take_ten_times_as_long_as_before() -> None:
    choice = Choice(2)
    calls_of(choice, {2: 1e-4, 1: 2e-4}, 3000)
    threads, steps = calls_of(choice, {2: 1e-3, 1: 2e-3}, 3000)[0]
    assert steps * {2: 1e-3, 1: 2e-3}[threads] <= SLICE


def test_a_long_step_is_tried_on_one_thread_once_that_is_a_small_part_of_the_fit() -> None:
    fit = calls_of(Choice(2), {2: 0.03, 1: 0.06}, 100)
    assert by(1, fit) == [pytest.approx(1.0 / Choice.BUDGET, abs=4)]


def test_several_threads_may_ask_and_tell_at_once() -> None:
    choice, wrong = Choice(2), []

    def fit(seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            for _ in range(5000):
                threads, _ = choice.next(first=False)
                choice.learn(threads, rng.random(), 10, first=False)
        except Exception as error:
            wrong.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        workers = [threading.Thread(target=fit, args=(seed,)) for seed in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong


def test_fits_of_the_same_work_share_what_they_found() -> None:
    def choice_of_fit(**options):
        net = mlpx.MLP([7, options.pop("width", 8), 5])
        optimizer = optimizers.Adam()
        optimizer.start(net)
        options = {"seed": 0, "n_steps": 1, "n_threads": 2, "deterministic": False, **options}
        return PlanSteps(net, net.batch(X, Y), options.pop("batch_size", 8), optimizer, **options).choice

    one = choice_of_fit()
    assert choice_of_fit(seed=1) is one
    assert choice_of_fit(batch_size=9) is not one
    assert choice_of_fit(width=9) is not one
