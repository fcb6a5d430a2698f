"""Signals whose handlers raise at any line of a fit: two presses of Ctrl-C, or a handler of the program's own."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from cases_kit import normal
from training_kit import cut_calls

import mlpx
from mlpx import optimizers
from mlpx.ops.dispatch import using_fused
from mlpx.training import interrupt

N_IN, C, BATCH, STEPS = 5, 3, 5, 4
X = normal("x", STEPS * BATCH, N_IN)
Y = (X @ normal("w", N_IN, C)).argmax(axis=1)
MLPX = str(Path(mlpx.__file__).parent)


class Raised(BaseException):
    """What a signal's handler raises, as `sys.exit` would in one of SIGTERM."""


def at_line(number: int, action: Callable[[], None], work: Callable[[], object]) -> bool:
    """Call ``work``; just before the ``number``-th line of the library's that it runs, call ``action``.

    Returns whether there were so many lines.
    """
    left = [number]

    def trace(frame, event, arg):
        if event == "call":
            return trace if frame.f_code.co_filename.startswith(MLPX) else None
        left[0] -= event == "line"
        if left[0] < 0:
            sys.settrace(None)
            action()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return left[0] < 0


def press_twice() -> None:
    """Press Ctrl-C twice."""
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


def from_a_handler() -> None:
    """Let a handler of another signal raise."""
    signal.raise_signal(signal.SIGTERM)


@pytest.fixture(params=[press_twice, from_a_handler])
def action(request):
    """Return what ends a fit, with a handler for it."""

    def handler(number, frame):
        raise Raised

    before = signal.signal(signal.SIGTERM, handler)
    yield request.param
    signal.signal(signal.SIGTERM, before)


def ends(every: int, action: Callable[[], None], start: Callable[[], tuple], fit: Callable[..., object]):
    """Yield what ``start()`` returns, after ``fit`` of it that was ended before one line, before the next, and so on.

    Each leaves Ctrl-C as it was, or so that the next one raises as it should.
    """
    handler, number, more = signal.getsignal(signal.SIGINT), 0, True
    while more:
        given = start()
        with suppress(KeyboardInterrupt, Raised):
            more = at_line(number, action, lambda: fit(*given))  # noqa: B023
        if signal.getsignal(signal.SIGINT) is not handler:  # no line may be run after the signal that would put it back
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is handler
        yield given
        number += every


EVERY = pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 17])


@EVERY
@pytest.mark.parametrize("mode", ["auto", "off"])
def test_weights_are_those_of_a_complete_step(monkeypatch, mode, action, every) -> None:
    """With the plan, the optimiser's state and count of steps are those of that step, too."""
    cut_calls(monkeypatch, lambda: 2)

    def start():
        return mlpx.MLP([N_IN, 8, C], "tanh", dtype="float64", seed=1), optimizers.Adam()

    def fit(net, optimizer, epochs=2, rows=slice(None)) -> None:
        options = {"batch_size": BATCH, "shuffle": False, "progress": False, "n_threads": 1}
        net.fit(X[rows], Y[rows], epochs=epochs, optimizer=optimizer, **options)

    def states(net, optimizer):
        return [array.copy() for array in (net.parameters, *optimizer.state)]

    seen = set()
    with using_fused(mode):
        net, optimizer = start()
        optimizer.start(net)
        complete = [states(net, optimizer)]
        for step in range(2 * STEPS):
            fit(net, optimizer, 1, slice(step % STEPS * BATCH, step % STEPS * BATCH + BATCH))
            complete.append(states(net, optimizer))
        for net, optimizer in ends(every, action, start, fit):
            [step] = [step for step, each in enumerate(complete) if np.array_equal(each[0], net.parameters)]
            seen.add(step)
            if mode == "auto" and optimizer.state:
                assert optimizer.steps == step
                for one, other in zip(states(net, optimizer), complete[step], strict=True):
                    np.testing.assert_array_equal(one, other)
    assert seen == set(range(0, 2 * STEPS + 1, 2 if mode == "auto" else 1))


@EVERY
@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("optimizer", ["lbfgs", "scaled_conjugate_gradient"])
def test_weights_and_statistics_are_those_of_an_iteration(optimizer, mode, action, every) -> None:
    """Minimisers try weights that lead nowhere, and running statistics are computed after each iteration."""
    every *= 3

    def start():
        return (mlpx.MLP([N_IN, 6, C], "tanh", norm="batch", dtype="float64", seed=1),)

    def fit(net, **options) -> None:
        net.fit(X, Y, epochs=3, optimizer=optimizer, progress=False, n_threads=1, **options)

    def states(net):
        return np.concatenate([net.parameters, net.buffers.statistics])

    with using_fused(mode):
        [net] = start()
        reached = [states(net)]
        fit(net, callbacks=[lambda run: reached.append(states(run.net))])
        seen = set()
        for [net] in ends(every, action, start, fit):
            [iteration] = [k for k, each in enumerate(reached) if np.array_equal(each, states(net))]
            seen.add(iteration)
    assert seen == {0, 1, 2, 3}


@EVERY
@pytest.mark.parametrize("mode", ["auto", "off"])
def test_weights_are_good_ones_wherever_a_divergence_is_interrupted(monkeypatch, mode, action, every) -> None:
    """The failed step is taken again, with weights that are not finite, to see where it went wrong."""
    cut_calls(monkeypatch, lambda: 2)

    def start():
        return (mlpx.MLP([N_IN, 6, 1], "tanh", "linear", norm="batch", dtype="float64", seed=1),)

    def fit(net) -> None:
        with pytest.raises(mlpx.DivergenceError):
            net.fit(X, 1e60 * X[:, 0], epochs=9, batch_size=BATCH, optimizer=optimizers.SGD(lr=1e40), progress=False)

    with using_fused(mode):
        for [net] in ends(every, action, start, fit):
            assert np.isfinite(net.parameters).all()


def test_a_handler_that_stays_behind_raises_as_pythons_own_does() -> None:
    """Another signal's handler may raise just before the block's end would have put it back."""
    handler = signal.getsignal(signal.SIGINT)

    def left_behind():
        block = interrupt.Interrupt()
        block.__enter__()
        return block

    try:
        left_behind()
        assert signal.getsignal(signal.SIGINT) is not handler
        with interrupt.Interrupt() as pressed:  # takes its place
            signal.raise_signal(signal.SIGINT)
            assert pressed.requested
        assert signal.getsignal(signal.SIGINT) is handler
        block = left_behind()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert not block.requested
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, handler)


def test_ctrl_c_after_the_last_step_is_not_lost() -> None:
    net, seen = mlpx.MLP([N_IN, 6, C], seed=1), []
    for number in range(0, 10**6, 5):

        def fit() -> None:
            net.fit(X, Y, epochs=1, batch_size=BATCH, progress=False)

        try:
            if not at_line(number, lambda: signal.raise_signal(signal.SIGINT), fit):
                break
        except KeyboardInterrupt as error:
            seen.append(type(error))
        else:
            raise AssertionError(number)
    assert {mlpx.TrainingInterrupted, KeyboardInterrupt} == set(seen)
