"""Fits that leave the finite numbers: what is kept, what is told, and that training can go on."""

import math

import numpy as np
import pytest
from cases_kit import normal

import mlpx
from mlpx.ops.dispatch import using_fused
from mlpx.optimizers import OPTIMIZERS, SGD

N, N_IN, C = 90, 4, 3
X = normal("x", N, N_IN)
Y = (X @ normal("w", N_IN, C)).argmax(axis=1)


def network(**options):
    return mlpx.MLP([N_IN, 7, C], **({"activation": "tanh", "seed": 1} | options))


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_forgets_its_way_to_a_divergence(name, mode) -> None:
    optimizer = OPTIMIZERS[name]()
    net, fresh = network(output="linear"), network(output="linear")
    target, wild = np.eye(C)[Y], np.eye(C)[Y].copy()
    wild[-1] = 3e38  # finite, its square is not
    with using_fused(mode):
        with pytest.raises(mlpx.DivergenceError):
            net.fit(X, wild, epochs=1, batch_size=20, shuffle=False, optimizer=optimizer, progress=False)
        assert optimizer.steps == 0
        fresh.parameters[...] = net.parameters
        for each, chosen in ((net, optimizer), (fresh, OPTIMIZERS[name]())):
            each.fit(X, target, epochs=3, batch_size=20, optimizer=chosen, progress=False)
    np.testing.assert_array_equal(net.parameters, fresh.parameters)
    assert np.isfinite(net.parameters).all()


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_a_last_update_to_infinity_is_a_divergence_too(mode) -> None:
    net = mlpx.MLP([N_IN, 1], output="linear", seed=1)
    before = net.parameters.copy()
    with using_fused(mode), pytest.raises(mlpx.DivergenceError, match=r"weight inf") as caught:
        net.fit(100 * X, X[:, 0], epochs=1, batch_size=N, optimizer=SGD(lr=3e38), progress=False)
    assert caught.value.step == 1
    np.testing.assert_array_equal(net.parameters, before)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "conjugate_gradient", "scaled_conjugate_gradient"])
def test_running_statistics_are_those_of_before_a_first_step_that_fails(optimizer, mode) -> None:
    net, wild = network(norm="batch", output="linear"), np.eye(C)[Y]
    wild[3] = 3e38  # finite, its square is not
    with using_fused(mode):
        net.fit(X, np.eye(C)[Y], epochs=3, progress=False)
        before = np.concatenate([net.parameters, net.buffers.statistics])
        with pytest.raises(mlpx.DivergenceError, match="at step 0"):
            net.fit(X, wild, epochs=2, batch_size=N, optimizer=optimizer, progress=False)
    np.testing.assert_array_equal(np.concatenate([net.parameters, net.buffers.statistics]), before)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "levenberg_marquardt"])
def test_no_epochs_change_nothing(optimizer, mode) -> None:
    layers = (
        [mlpx.Dense(N_IN, C)] if optimizer == "levenberg_marquardt" else [mlpx.BatchNorm(N_IN), mlpx.Dense(N_IN, C)]
    )
    net = mlpx.Sequential(*layers)
    before = np.concatenate([net.parameters, net.buffers.statistics])
    with using_fused(mode):
        history = net.fit(5.0 + X, np.eye(C)[Y], epochs=0, optimizer=optimizer, progress=False)
    np.testing.assert_array_equal(np.concatenate([net.parameters, net.buffers.statistics]), before)
    assert (history.epochs, history.steps, history.stopped) == (0, 0, "epochs")


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_weights_that_are_not_finite_from_the_start(mode) -> None:
    net = network()
    net.parameters[3] = np.nan
    before = net.parameters.copy()
    with using_fused(mode), pytest.raises(mlpx.DivergenceError, match=r"step 0 .*first in layers\[0\] Dense") as caught:
        net.fit(X, Y, progress=False)
    assert math.isnan(caught.value.largest["weight"])
    np.testing.assert_array_equal(net.parameters, before)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("lr", [30.0, 1e3, 1e6, 1e20])
def test_the_weights_kept_are_those_of_a_step_that_went_well(lr, mode) -> None:
    """Bitwise: of the steps taken one by one, the last but one before the step that failed, or the last."""
    net, states, target = mlpx.MLP([N_IN, 7, 1], "leaky_relu", "linear", seed=1), [], X[:, 0]
    start = net.parameters.copy()

    def keep(run) -> None:
        states.append(run.net.parameters.copy())

    options = {"batch_size": N, "shuffle": False, "progress": False}
    with using_fused(mode):
        with pytest.raises(mlpx.DivergenceError) as caught:
            net.fit(X, target, epochs=2000, optimizer=SGD(lr=lr), callbacks=[keep], **options)
        states.insert(0, start)
        kept = [np.array_equal(net.parameters, state) for state in states]
        loss = net.loss_and_grad(X, target)[0]
    assert any(kept[-2:])
    assert math.isfinite(loss)
    assert caught.value.step in (len(states) - 1, len(states))
    assert caught.value.history.epochs == len(states) - 1
    with using_fused(mode):
        history = net.fit(X, target, epochs=3, optimizer=SGD(lr=1e-30), **options)
    assert np.isfinite(history.loss).all()


def test_early_stopping_puts_the_best_weights_back_after_a_divergence() -> None:
    net = mlpx.MLP([N_IN, 7, 1], "leaky_relu", "linear", seed=1)
    stop = mlpx.EarlyStopping(patience=10**6)
    states = [net.parameters.copy()]
    with pytest.raises(mlpx.DivergenceError) as caught:
        net.fit(
            X,
            X[:, 0],
            epochs=2000,
            batch_size=N,
            optimizer=SGD(lr=1e3),
            callbacks=[lambda run: states.append(run.net.parameters.copy()) and None, stop],
            progress=False,
        )
    best = caught.value.history.best_epoch
    np.testing.assert_array_equal(net.parameters, states[best + 1])
