"""Held-out rows: what they are, what they change, and early stopping and schedules that go by them."""

import math

import numpy as np
import pytest
from training_kit import N_IN, C, N, X, Y, fit, network

import mlpx
from mlpx import schedules
from mlpx.layers import Dense
from mlpx.ops.dispatch import using_fused
from mlpx.optimizers import SGD


def test_a_share_is_held_out_and_not_trained_on() -> None:
    seen = []
    net = network()
    history = fit(net, validation=0.3, epochs=1, batch_size=1, callbacks=[lambda run: seen.append(run) and None])
    assert history.steps == N - 27
    assert len(history.validation_loss) == len(history.validation_accuracy) == 1
    # What is held out is told from what a network of one weight per row leaves alone.
    rows = mlpx.Sequential(Dense(N, 1, bias=False), loss="squared_error", dtype="float64")
    before = rows.parameters.copy()
    rows.fit(np.eye(N), np.ones(N), epochs=1, batch_size=5, validation=0.3, optimizer="sgd", progress=False)
    assert (rows.parameters[:N] == before[:N]).sum() == 27


def test_own_validation_data_with_all_its_parts() -> None:
    weight = np.arange(N) % 2.0
    net = network()
    history = fit(net, validation=(X, Y, weight))
    loss, _ = net.loss_and_grad(X, Y, sample_weight=weight)
    assert history.validation_loss[-1] == pytest.approx(loss, rel=1e-5)
    right = net.predict(X).argmax(axis=1) == Y
    assert history.validation_accuracy[-1] == pytest.approx(right[weight > 0].mean())


def test_validation_changes_nothing_about_the_training() -> None:
    with_it, without = network(norm="batch", dropout=0.1), network(norm="batch", dropout=0.1)
    fit(with_it, validation=(X[:10], Y[:10]))
    fit(without)
    np.testing.assert_array_equal(with_it.parameters, without.parameters)
    np.testing.assert_array_equal(with_it.buffers.statistics, without.buffers.statistics)


@pytest.mark.parametrize("monitor", ["auto", "loss", "validation_loss", "validation_accuracy"])
def test_early_stopping_puts_the_best_weights_back(monitor) -> None:
    states = []
    net = network(norm="batch")
    noisy = (X[:30], np.roll(Y[:30], 3))
    watch = lambda run: states.append((run.net.parameters.copy(), run.net.buffers.statistics.copy())) and None  # noqa: E731
    stop = mlpx.EarlyStopping(patience=3, monitor=monitor)
    history = fit(net, epochs=200, optimizer=SGD(lr=3.0), validation=noisy, callbacks=[watch, stop])
    curve = history.validation_loss if monitor == "auto" else getattr(history, monitor)
    best = int(np.argmax(curve) if monitor == "validation_accuracy" else np.argmin(curve))
    assert history.stopped == "early stopping"
    assert history.best_epoch == best == history.epochs - 4
    np.testing.assert_array_equal(net.parameters, states[best][0])
    np.testing.assert_array_equal(net.buffers.statistics, states[best][1])


def test_early_stopping_may_leave_the_last_weights() -> None:
    states = []
    net = network()
    watch = lambda run: states.append(run.net.parameters.copy()) and None  # noqa: E731
    stop = mlpx.EarlyStopping(patience=1, min_delta=10.0, restore_best=False)
    history = fit(net, epochs=50, callbacks=[watch, stop])
    assert history.epochs == 2
    assert history.best_epoch == 0
    np.testing.assert_array_equal(net.parameters, states[-1])


@pytest.mark.parametrize("monitor", ["validation_loss", "validation_accuracy"])
def test_early_stopping_without_held_out_rows_is_an_error_before_the_fit(monitor) -> None:
    net = network()
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=rf"monitor '{monitor}' needs held-out rows; pass validation"):
        fit(net, callbacks=[mlpx.EarlyStopping(monitor=monitor)])
    np.testing.assert_array_equal(net.parameters, before)


def test_accuracy_is_no_curve_of_numbers() -> None:
    net = mlpx.MLP([4, 5, 2], output="linear", seed=1)
    before, x = net.parameters.copy(), np.ones((9, 4))
    stop = mlpx.EarlyStopping(monitor="validation_accuracy")
    with pytest.raises(ValueError, match="is for classes, and the loss is 'squared_error'; take 'validation_loss'"):
        net.fit(x, x[:, :2], validation=0.3, callbacks=[stop], progress=False)
    np.testing.assert_array_equal(net.parameters, before)


def test_accuracy_of_rows_none_of_which_counts() -> None:
    weight = np.zeros(N)
    weight[:3] = 1.0
    stop = mlpx.EarlyStopping(monitor="validation_accuracy")
    with pytest.raises(ValueError, match="'validation_accuracy' has no values: no held-out row counts"):
        fit(network(), sample_weight=weight, validation=0.1, seed=1, callbacks=[stop])


def test_early_stopping_does_not_take_nan_for_the_best() -> None:
    values = iter([math.nan, math.nan, 3.0, 2.0, math.nan, 2.5, 2.6])
    states = []

    def play(run) -> None:
        run.history.validation_loss[-1] = next(values)
        states.append(run.net.parameters.copy())

    net = network()
    history = fit(net, epochs=50, validation=0.2, callbacks=[play, mlpx.EarlyStopping(patience=3)])
    assert (history.best_epoch, history.epochs, history.stopped) == (3, 7, "early stopping")
    np.testing.assert_array_equal(net.parameters, states[3])


def test_rows_that_count_for_nothing_leave_the_accuracy() -> None:
    mask = np.ones((N, C), bool)
    mask[::2] = False  # a row that allows nothing is neither right nor wrong
    net = mlpx.MLP([N_IN, C], output="masked_softmax", seed=1)
    history = net.fit(X, Y, mask=mask, validation=(X, Y, None, mask), epochs=2, progress=False)
    right = (net.predict(X, mask).argmax(axis=1) == Y)[1::2]
    assert history.validation_accuracy[-1] == pytest.approx(right.mean())
    weight = np.zeros(N)
    weight[:3] = 1.0
    history = fit(network(), sample_weight=weight, validation=0.1, epochs=1, seed=1)  # no such row is held out
    assert history.validation_loss == [0.0]
    assert history.validation_accuracy == []


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_reduce_on_plateau_cuts_the_rate_in_a_fit(mode) -> None:
    plateau = schedules.ReduceOnPlateau(gamma=0.5, patience=2, min_delta=10.0)
    with using_fused(mode):
        for _ in range(2):  # the second fit begins at the full rate again
            history = fit(network(), epochs=7, optimizer=SGD(lr=0.4, schedule=plateau))
            np.testing.assert_allclose(history.learning_rate, [0.4, 0.4, 0.4, 0.2, 0.2, 0.1, 0.1])
