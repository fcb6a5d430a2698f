"""How many threads a call takes: the faster way, found and found again at little cost, by every fit for the next."""

import numpy as np
import pytest

import mlpx
from mlpx import optimizers
from mlpx.choice import Choice

pytest.importorskip("numba", reason="Numba is not installed: there is no plan")

from mlpx.plan_steps import PlanSteps

X, Y = np.random.default_rng(0).standard_normal((30, 7)), np.arange(30) % 5


def calls_of(choice, seconds, count, steps=100):
    """Return the threads and shares of a fit's calls, of which each takes so many steps of so many seconds."""
    calls = []
    for number in range(count):
        calls.append(choice.next(first=number == 0))
        threads, share = calls[-1]
        taken = steps if share == 1.0 else max(1, steps // 50)
        choice.learn(threads, taken * seconds[threads], taken, cold=number == 0)
    return calls


def test_the_faster_number_of_threads_is_chosen_and_the_other_tried_again() -> None:
    choice = Choice(4)
    fit = calls_of(choice, {4: 5e-4, 1: 2.5e-4}, 200)
    short = Choice.SHORT
    assert fit[:4] == [(4, short)] * 2 + [(4, 1.0), (1, short)]
    assert fit[4] == (1, 1.0)
    tried = [number for number, (threads, _) in enumerate(fit) if threads == 4][3:]
    assert 1 < len(tried) < 10
    assert np.all(np.diff(tried, 2) >= 0)  # ever more rarely
    fit = calls_of(choice, {4: 1e-4, 1: 2.5e-4}, 100)  # the machine is ours again
    assert fit[0] == (1, Choice.FIRST)
    assert fit[-5:] == [(4, 1.0)] * 5


def test_short_fits_find_the_faster_number_of_threads_one_after_the_other() -> None:
    choice = Choice(2)
    fits = [calls_of(choice, {2: 1e-4, 1: 5e-5}, 2, steps=40) for _ in range(20)]
    assert fits[0] == [(2, Choice.SHORT)] * 2
    assert fits[-1] == [(1, Choice.FIRST), (1, 1.0)]


def test_one_call_that_something_has_held_up_does_not_decide() -> None:
    choice = Choice(2)
    calls_of(choice, {2: 1e-4, 1: 2e-4}, 20)
    choice.learn(2, 1.0, 100, cold=False)
    assert choice.expected() == pytest.approx(1e-4)
    choice.learn(2, 1.0, 100, cold=False)
    assert choice.expected() == pytest.approx(2e-4)
    assert choice.next(first=False) == (1, 1.0)


def test_ways_that_are_alike_are_tried_sooner() -> None:
    def first_trials(other: float) -> list[int]:
        fit = calls_of(Choice(2), {2: 1e-4, 1: other}, 300, steps=20)
        return [number for number, (threads, _) in enumerate(fit) if threads == 1][:2]

    (_, alike), (_, apart) = first_trials(1.05e-4), first_trials(2e-4)
    assert alike < apart


def test_one_thread_alone_has_nothing_to_try() -> None:
    choice = Choice(1)
    assert choice.expected() is None
    assert calls_of(choice, {1: 1e-4}, 100) == [(1, Choice.SHORT)] * 2 + [(1, 1.0)] * 98
    assert choice.expected() == pytest.approx(1e-4)
    assert choice.next(first=True) == (1, Choice.FIRST)


def test_a_long_step_is_tried_on_one_thread_once_that_is_a_small_part_of_the_fit() -> None:
    fit = calls_of(Choice(2), {2: 0.03, 1: 0.06}, 100, steps=1)
    taken = [threads for threads, _ in fit]
    assert taken.index(1) == pytest.approx(1.0 / Choice.BUDGET, abs=2)
    assert taken.count(1) == 1


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
