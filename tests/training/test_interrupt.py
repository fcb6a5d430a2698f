"""Ctrl-C during a fit, failures in the middle of one, and fits in several threads at once."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases_kit import normal

import mlpx
from mlpx.ops.dispatch import using_fused
from mlpx.optimizers import SGD

N, N_IN, C = 90, 4, 3
X = normal("x", N, N_IN)
Y = (X @ normal("w", N_IN, C)).argmax(axis=1)


def network(**options):
    return mlpx.MLP([N_IN, 7, C], "tanh", **({"seed": 1} | options))


def fit(net, **options):
    return net.fit(X, Y, **({"epochs": 6, "batch_size": 20, "progress": False} | options))


def press_after(epoch):
    """Return a callback that presses Ctrl-C once that epoch has ended."""

    def press(run) -> None:
        if run.epoch == epoch:
            os.kill(os.getpid(), signal.SIGINT)

    return press


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_ctrl_c_leaves_the_weights_of_the_last_complete_step(mode) -> None:
    net, steps = network(), network()
    handler = signal.getsignal(signal.SIGINT)
    with using_fused(mode):
        with pytest.raises(mlpx.TrainingInterrupted) as caught:
            fit(net, callbacks=[press_after(1)], optimizer=SGD(lr=0.1), shuffle=False)
        taken = caught.value.history.steps
        # The same steps one by one: as many fits of one batch.
        for step in range(taken):
            rows = slice(step % 5 * 20, step % 5 * 20 + 20)
            steps.fit(X[rows], Y[rows], epochs=1, optimizer=SGD(lr=0.1), shuffle=False, progress=False)
    assert taken == 10
    np.testing.assert_allclose(net.parameters, steps.parameters, atol=1e-6)
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_ctrl_c_in_the_last_epoch_is_not_lost(optimizer, mode) -> None:
    net, whole = network(), network()
    with using_fused(mode):
        with pytest.raises(mlpx.TrainingInterrupted) as caught:
            fit(net, epochs=3, optimizer=optimizer, callbacks=[press_after(2)])
        fit(whole, epochs=3, optimizer=optimizer)
    assert caught.value.history.epochs == 3
    np.testing.assert_array_equal(net.parameters, whole.parameters)


def test_ctrl_c_in_the_middle_of_an_epoch_waits_for_the_step() -> None:
    def pressed_at(step):
        count = []

        def loss(y, t):
            count.append(1)
            if len(count) == step + 1:
                os.kill(os.getpid(), signal.SIGINT)
            return ((y - t) ** 2).mean(), 2 * (y - t) / y.size

        return mlpx.MLP([N_IN, 7, C], "tanh", "linear", loss=loss, seed=1)

    def train(net):
        return net.fit(X, np.eye(C)[Y], epochs=2, batch_size=20, shuffle=False, optimizer=SGD(lr=0.5), progress=False)

    net, free = pressed_at(7), pressed_at(10**9)
    with pytest.raises(mlpx.TrainingInterrupted, match="after step 7, with 1 epochs complete") as caught:
        train(net)
    assert caught.value.history.steps == 8
    assert caught.value.history.epochs == 1
    for step in range(8):
        rows = slice(step % 5 * 20, step % 5 * 20 + 20)
        free.fit(X[rows], np.eye(C)[Y[rows]], epochs=1, shuffle=False, optimizer=SGD(lr=0.5), progress=False)
    np.testing.assert_allclose(net.parameters, free.parameters, rtol=1e-6)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_the_second_ctrl_c_ends_the_fit_at_once(mode) -> None:
    reached = []

    def impatient(run) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("first")
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("second")

    net, told = network(), []
    handler = signal.getsignal(signal.SIGINT)

    class Told(mlpx.callbacks.Callback):
        def on_end(self, run) -> None:
            told.append(run.history.epochs)

    with using_fused(mode), pytest.raises(KeyboardInterrupt) as caught:
        fit(net, callbacks=[Told(), impatient])
    assert not isinstance(caught.value, mlpx.TrainingInterrupted)
    assert reached == ["first"]
    assert told == [1]
    assert caught.value.history.epochs == 1
    assert np.isfinite(net.parameters).all()
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_says_what_it_left_and_brings_the_history() -> None:
    net = network()
    with pytest.raises(
        mlpx.TrainingInterrupted, match=r"interrupted after step 9, with 2 epochs complete.*complete step"
    ) as caught:
        fit(net, callbacks=[press_after(1)])
    assert isinstance(caught.value, KeyboardInterrupt)
    assert caught.value.history.epochs == 2
    fit(net, epochs=1)  # and it trains on


@pytest.mark.parametrize("optimizer", ["lbfgs", "conjugate_gradient", "scaled_conjugate_gradient"])
def test_ctrl_c_in_full_batch_optimisers(optimizer) -> None:
    net, two = network(), network()
    with pytest.raises(mlpx.TrainingInterrupted, match="interrupted after iteration 2") as caught:
        fit(net, optimizer=optimizer, epochs=50, callbacks=[press_after(1)])
    assert caught.value.history.epochs == 2
    fit(two, optimizer=optimizer, epochs=2)
    np.testing.assert_array_equal(net.parameters, two.parameters)


def test_ctrl_c_in_levenberg_marquardt() -> None:
    net = mlpx.MLP([N_IN, 2, 1], "tanh", "linear")
    with pytest.raises(mlpx.TrainingInterrupted, match="interrupted after iteration 2"):
        net.fit(X, X[:, 0] ** 2, optimizer="levenberg_marquardt", epochs=50, callbacks=[press_after(1)], progress=False)
    assert np.isfinite(net.parameters).all()


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_ctrl_c_at_any_moment_from_outside(mode) -> None:
    net = network()
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    with using_fused(mode):
        fit(net, epochs=1)  # compiled beforehand
        timer.start()
        with pytest.raises(mlpx.TrainingInterrupted) as caught:
            fit(net, epochs=10**6)
    timer.join()
    assert np.isfinite(net.parameters).all()
    assert len(caught.value.history.seconds) == caught.value.history.epochs
    assert caught.value.history.steps >= 5 * caught.value.history.epochs


def test_early_stopping_puts_its_weights_back_when_interrupted() -> None:
    states = []
    stop = mlpx.EarlyStopping(patience=50)
    watch = lambda run: states.append(run.net.parameters.copy()) and None  # noqa: E731
    net = network()
    with pytest.raises(mlpx.TrainingInterrupted) as caught:
        fit(net, callbacks=[watch, stop, press_after(2)])
    best = caught.value.history.best_epoch
    assert best == int(np.argmin(caught.value.history.loss))
    np.testing.assert_array_equal(net.parameters, states[best])


def test_a_handler_of_the_program_stays() -> None:
    pressed = []
    mine = lambda number, frame: pressed.append(number)  # noqa: E731
    before = signal.signal(signal.SIGINT, mine)
    try:
        history = fit(network(), callbacks=[press_after(1)])
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [signal.SIGINT]
    assert history.epochs == 6


def test_a_handler_that_a_callback_puts_there_stays() -> None:
    mine = lambda number, frame: None  # noqa: E731
    before = signal.getsignal(signal.SIGINT)
    try:
        fit(network(), epochs=2, callbacks=[lambda run: signal.signal(signal.SIGINT, mine) and None])
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)


def test_worker_threads_do_not_touch_signals() -> None:
    seen = []
    handler = signal.getsignal(signal.SIGINT)
    watch = lambda run: seen.append(signal.getsignal(signal.SIGINT)) and None  # noqa: E731
    with ThreadPoolExecutor(1) as pool:
        pool.submit(fit, network(), callbacks=[watch]).result()
    assert seen == [handler] * 6


def test_the_handler_is_put_back_after_a_failure() -> None:
    def fail(run) -> None:
        raise LookupError

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(LookupError):
        fit(network(), callbacks=[fail])
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_several_threads_fit_and_predict_at_once_as_they_do_alone(mode) -> None:
    shared = network(seed=9)
    expected = shared.predict(X)

    def work(seed):
        net = network(seed=seed, dropout=0.2, norm="layer")
        history = fit(net, seed=seed, validation=0.2, epochs=8)
        answers = [shared.predict(X) for _ in range(20)]
        return net.parameters.copy(), history.loss, net.predict(X), answers

    with using_fused(mode):
        alone = [work(seed) for seed in range(4)]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(work, range(4)))
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(one[:3], other[:3], strict=True):
            np.testing.assert_array_equal(a, b)
        for answer in other[3]:
            np.testing.assert_allclose(answer, expected, atol=1e-6)
