"""Optimisers that look at all rows at once, against SciPy and the normal equations."""

import math

import numpy as np
import pytest
from cases_kit import normal
from scipy.optimize import minimize
from scipy.special import log_softmax

import mlpx
from mlpx.layers import Context, Dense
from mlpx.ops.dispatch import using_fused
from mlpx.optimizers import full_batch
from mlpx.optimizers.full_batch import FULL_BATCH, LBFGS, ConjugateGradient, LevenbergMarquardt, ScaledConjugateGradient
from mlpx.training.objective import Objective

N, N_IN, C = 80, 3, 3
X = normal("x", N, N_IN)
Y = (X @ normal("w", N_IN, C) + normal("noise", N, C)).argmax(axis=1)
T = normal("t", N, 2)
L2 = 0.05
MINIMISERS = {
    "lbfgs": LBFGS,
    "conjugate_gradient": ConjugateGradient,
    "scaled_conjugate_gradient": ScaledConjugateGradient,
}


def logistic(dtype="float64"):
    return mlpx.MLP([N_IN, C], dtype=dtype, seed=1)


def best_by_scipy(weight=None):
    """Return the least penalised loss of the logistic regression, and its predictions."""
    r = np.full(N, 1 / N) if weight is None else weight / weight.sum()

    def loss(v):
        w, b = v[: C * N_IN].reshape(C, N_IN), v[C * N_IN :]
        return -(r * log_softmax(X @ w.T + b, axis=1)[np.arange(N), Y]).sum() + 0.5 * L2 * (w * w).sum()

    result = minimize(loss, np.zeros(C * N_IN + C), method="BFGS", options={"gtol": 1e-7})
    w, b = result.x[: C * N_IN].reshape(C, N_IN), result.x[C * N_IN :]
    return result.fun, np.exp(log_softmax(X @ w.T + b, axis=1)), w


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", MINIMISERS)
def test_a_convex_problem_is_solved_as_scipy_solves_it(name, weighted, mode) -> None:
    weight = 1.0 + np.arange(N) % 3 if weighted else None
    net = logistic()
    with using_fused(mode):
        history = net.fit(X, Y, optimizer=MINIMISERS[name](l2=L2), epochs=500, sample_weight=weight, progress=False)
    least, probabilities, w = best_by_scipy(weight)
    penalty = 0.5 * L2 * (net.layers[0].value("w") ** 2).sum()
    assert net.loss_and_grad(X, Y, sample_weight=weight)[0] + penalty == pytest.approx(least, abs=1e-8)
    np.testing.assert_allclose(net.predict(X), probabilities, atol=1e-6)
    np.testing.assert_allclose(net.layers[0].value("w"), w, atol=1e-6)
    assert history.stopped == "converged"
    assert history.loss[-1] == pytest.approx(least - penalty, abs=1e-8)
    assert history.epochs == history.steps < 500


def test_a_tolerance_beyond_rounding_is_not_called_converged() -> None:
    net = logistic("float32")
    history = net.fit(X, Y, optimizer=ConjugateGradient(l2=L2, tol=0.0), epochs=5000, progress=False)
    assert history.stopped == "no further progress"
    np.testing.assert_allclose(net.predict(X), best_by_scipy()[1], atol=2e-3)


@pytest.mark.parametrize("name", FULL_BATCH)
def test_the_loss_falls_and_float32_trains_too(name) -> None:
    net = mlpx.MLP([N_IN, 5, 1], "tanh", "linear", seed=1)
    history = net.fit(X, np.sin(X[:, 0]), optimizer=name, epochs=60, progress=False)
    assert history.loss[-1] < 0.1 * history.loss[0]
    assert history.loss[-1] == pytest.approx(net.loss_and_grad(X, np.sin(X[:, 0]))[0], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("name", FULL_BATCH)
def test_frozen_layers_stay_and_the_rest_is_minimised(name, mode) -> None:
    def network(*first):
        return mlpx.Sequential(*first, Dense(6, 2), loss="squared_error", dtype="float64", seed=1)

    frozen = network(Dense(N_IN, 6, "tanh", lr_factor=0.0))
    w = frozen.layers[0].value("w").copy()
    with using_fused(mode):
        frozen.fit(X, T, optimizer=FULL_BATCH[name](l2=L2), epochs=200, progress=False)
        alone = network()
        alone.fit(np.tanh(X @ w.T), T, optimizer=FULL_BATCH[name](l2=L2), epochs=200, progress=False)
    np.testing.assert_array_equal(frozen.layers[0].value("w"), w)
    np.testing.assert_allclose(frozen.layers[1].value("w"), alone.layers[0].value("w"), atol=1e-5)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error"])
@pytest.mark.parametrize("name", MINIMISERS)
def test_the_curve_is_of_the_weights_kept_and_not_of_those_tried(name, loss) -> None:
    """Absolute errors, whose curvature is 0, make the scaled conjugate gradient try what it must then give up."""
    net = mlpx.Sequential(Dense(N_IN, 6, "tanh"), Dense(6, 2), loss=loss, dtype="float64", seed=1)
    seen = [net.loss_and_grad(X, T)[0]]
    look = [lambda run: seen.append(run.net.loss_and_grad(X, T)[0])]
    history = net.fit(X, T, optimizer=MINIMISERS[name](), epochs=15, callbacks=look, progress=False)
    np.testing.assert_allclose(history.loss, seen[1:], rtol=1e-12)
    assert (np.diff(seen) <= 1e-12).all()


@pytest.mark.parametrize("epochs", [1, 2, 7])
@pytest.mark.parametrize("name", FULL_BATCH)
def test_epochs_are_the_limit_of_iterations(name, epochs) -> None:
    net = mlpx.MLP([N_IN, 6, 2], "tanh", "linear", seed=1)
    history = net.fit(X, T, optimizer=name, epochs=epochs, progress=False)
    assert history.epochs == epochs
    assert history.stopped == "epochs"
    assert len(history.seconds) == len(history.learning_rate) == epochs


@pytest.mark.parametrize("name", FULL_BATCH)
def test_a_callback_ends_it_and_early_stopping_puts_the_best_back(name) -> None:
    net = mlpx.MLP([N_IN, 6, 2], "tanh", "linear", seed=1, dtype="float64")
    history = net.fit(X, T, optimizer=name, epochs=50, callbacks=[lambda run: run.epoch == 3], progress=False)
    assert (history.epochs, history.stopped) == (4, "callback")
    net = mlpx.MLP([N_IN, 20, 2], "tanh", "linear", seed=1, dtype="float64")
    half = slice(0, 30)
    stop = mlpx.EarlyStopping(patience=3)
    history = net.fit(
        X[half], T[half], optimizer=name, epochs=200, validation=(X[30:], T[30:]), callbacks=[stop], progress=False
    )
    assert history.stopped == "early stopping"
    least = min(history.validation_loss)
    assert net.loss_and_grad(X[30:], T[30:])[0] == pytest.approx(least, rel=1e-12)


@pytest.mark.parametrize("lr_factor", [1.0, 0.0], ids=["at the minimum", "with nothing to learn"])
@pytest.mark.parametrize("name", FULL_BATCH)
def test_a_fit_that_gets_nowhere_has_a_curve_of_one_point(name, lr_factor) -> None:
    net = mlpx.Sequential(Dense(N_IN, 2, init="zeros", lr_factor=lr_factor), dtype="float64")
    stop, seen = mlpx.EarlyStopping(), []
    options = {"validation": (X, T), "callbacks": [stop, lambda run: seen.append(run.epoch)], "progress": False}
    history = net.fit(X, np.zeros((N, 2)), optimizer=name, epochs=1, **options)
    assert history.loss == [0.0]
    assert history.validation_loss == [net.loss_and_grad(X, T)[0]]
    assert len(history.seconds) == len(history.learning_rate) == 1
    assert (seen, history.best_epoch) == ([0], 0)
    assert history.steps <= 1
    assert not net.parameters.any()
    assert net.fit(X, T, optimizer=name, epochs=0, progress=False).loss == []


# --- Levenberg-Marquardt ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_linear_network_is_least_squares(weighted, l2) -> None:
    weight = 1.0 + np.arange(N) % 3 if weighted else np.ones(N)
    net = mlpx.Sequential(Dense(N_IN, 2), dtype="float64", seed=1)
    net.fit(X, T, optimizer=LevenbergMarquardt(l2=l2), sample_weight=weight, epochs=20, progress=False)
    a = np.hstack([X, np.ones((N, 1))])
    r = (weight / weight.sum())[:, None]
    penalty = l2 * np.diag([1.0] * N_IN + [0.0])
    solution = np.linalg.solve(a.T @ (r * a) + penalty, a.T @ (r * T))
    np.testing.assert_allclose(net.layers[0].value("w"), solution[:-1].T, atol=1e-8)
    np.testing.assert_allclose(net.layers[0].value("b"), solution[-1], atol=1e-8)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("activation", ["tanh", "gelu", "softplus"])
def test_its_jacobian_equals_central_differences(activation, mode) -> None:
    net = mlpx.Sequential(Dense(N_IN, 4, activation), Dense(4, 3, "sigmoid", bias=False), Dense(3, 2), dtype="float64")
    weight = 1.0 + np.arange(9) % 3
    batch = net.batch(X[:9], T[:9], sample_weight=weight)
    objective = Objective(net, batch, Context(training=True), 0.3)
    w = objective.weights()
    with using_fused(mode):
        jacobian = objective.jacobian(w)
        for column in range(w.size):
            e = np.zeros(w.size)
            e[column] = 1e-5
            difference = (objective.residuals(w + e) - objective.residuals(w - e)) / 2e-5
            np.testing.assert_allclose(jacobian[:, column], difference, atol=1e-9)
        value, gradient = objective(w)
    r = objective.residuals(w)
    assert 0.5 * r @ r == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(jacobian.T @ r, gradient, atol=1e-13)


def test_more_parameters_than_residuals() -> None:
    net = mlpx.MLP([N_IN, 8, 1], "tanh", "linear", seed=1, dtype="float64")
    history = net.fit(X[:5], T[:5, 0], optimizer="levenberg_marquardt", epochs=50, progress=False)
    assert history.loss[-1] < 1e-6
    np.testing.assert_allclose(net.predict(X[:5])[:, 0], T[:5, 0], atol=1e-2)


REFUSED = {
    "softmax": lambda: mlpx.MLP([N_IN, 2]),
    "another loss": lambda: mlpx.MLP([N_IN, 2], output="linear", loss="huber"),
    "norm": lambda: mlpx.MLP([N_IN, 4, 2], output="linear", norm="layer"),
    "dropout": lambda: mlpx.MLP([N_IN, 4, 2], output="linear", dropout=0.5),
}


@pytest.mark.parametrize("name", REFUSED)
def test_levenberg_marquardt_refuses_what_it_cannot_train(name) -> None:
    net = REFUSED[name]()
    before = net.parameters.copy()
    with pytest.raises(ValueError, match="optimizer: LevenbergMarquardt needs"):
        net.fit(X, np.abs(T) / np.abs(T).sum(1, keepdims=True), optimizer="levenberg_marquardt", progress=False)
    np.testing.assert_array_equal(net.parameters, before)


# --- the objective ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("weighted", [False, True])
def test_fused_kernels_see_the_loss_and_gradient_that_the_layers_see(weighted, norm) -> None:
    weight = 1.0 + np.arange(N) % 3 if weighted else None
    found = []
    for mode in ("auto", "off"):
        net = mlpx.MLP([N_IN, 6, C], norm=norm, seed=1, dtype="float64")
        with using_fused(mode):
            objective = Objective(net, net.batch(X, Y, sample_weight=weight), Context(True, need_dx=False), L2)
            assert (objective.steps is None) == (mode == "off")
            at = objective.weights()
            found.append([*objective(at + 0.1), *objective(at)])
            assert np.array_equal(objective.weights(), at)
    for fused, plain in zip(*found, strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize(("dtype", "far"), [("float64", 1e160), ("float32", 1e40)])
def test_a_point_without_a_finite_loss_is_nan_and_harms_nothing(dtype, far) -> None:
    net = mlpx.MLP([N_IN, 6, 2], output="linear", seed=1, dtype=dtype)
    objective = Objective(net, net.batch(X, T), Context(True, need_dx=False), L2)
    assert objective.steps is not None
    start = objective.weights()
    value, gradient = objective(start)
    assert math.isnan(objective(start * far)[0])
    again = objective(start)
    assert again[0] == value
    assert np.array_equal(again[1], gradient)


def test_large_problems_go_layer_by_layer(monkeypatch) -> None:
    monkeypatch.setattr("mlpx.training.objective.WORTH_FUSING", 6.0 * N * N_IN * C - 1.0)
    net = logistic()
    assert Objective(net, net.batch(X, Y), Context(True, need_dx=False), 0.0).steps is None


# --- what depends on all rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("name", MINIMISERS)
def test_running_statistics_are_those_of_all_rows(name, mode) -> None:
    net = mlpx.MLP([N_IN, 6, C], norm="batch", seed=1, dtype="float64")
    curves = []

    def look(run):
        curves.append(run.net.loss_and_grad(X, Y)[0])

    with using_fused(mode):
        history = net.fit(X, Y, optimizer=name, epochs=8, validation=(X, Y), callbacks=[look], progress=False)
    z = X @ net.layers[0].value("w").T
    norm = net.layers[1]
    np.testing.assert_allclose(norm.value("mean"), z.mean(axis=0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(norm.value("var"), z.var(axis=0, ddof=1), rtol=1e-12)
    assert norm.momentum == 0.1
    assert history.loss[-1] < 0.8 * history.loss[0]
    # Predictions divide by the standard deviation with n - 1, training by that with n: so nearly the same.
    np.testing.assert_allclose(history.validation_loss, history.loss, rtol=0.05)
    np.testing.assert_allclose(curves, history.validation_loss, rtol=1e-9)


@pytest.mark.parametrize("name", MINIMISERS)
def test_dropout_is_refused(name) -> None:
    net = mlpx.MLP([N_IN, 6, C], dropout=0.2)
    with pytest.raises(ValueError, match=f"{MINIMISERS[name].__name__} compares.*Dropout"):
        net.fit(X, Y, optimizer=name, progress=False)
    mlpx.Sequential(mlpx.layers.Dropout(0.0), Dense(N_IN, C), mlpx.layers.Softmax()).fit(
        X, Y, optimizer=name, epochs=1, progress=False
    )


# --- failures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FULL_BATCH)
def test_a_start_that_is_not_finite_is_a_divergence_and_changes_nothing(name) -> None:
    net = mlpx.MLP([N_IN, 4, 1], "tanh", "linear", seed=1)
    net.layers[1].value("w")[...] = 3e38
    before = net.parameters.copy()
    with pytest.raises(mlpx.DivergenceError, match="step 0"):
        net.fit(X, T[:, 0], optimizer=name, progress=False)
    np.testing.assert_array_equal(net.parameters, before)


@pytest.mark.parametrize("name", ["lbfgs", "conjugate_gradient", "scaled_conjugate_gradient"])
def test_a_network_with_nothing_to_learn_is_at_its_minimum(name) -> None:
    history = mlpx.Sequential(mlpx.Softmax()).fit(X, Y, optimizer=name, progress=False)
    assert (history.epochs, history.steps, history.stopped) == (1, 0, "converged")


def test_names_and_objects() -> None:
    assert {name: type(full_batch.find(name)) for name in FULL_BATCH} == FULL_BATCH
    with pytest.raises(ValueError, match=r"Did you mean 'lbfgs'\?"):
        full_batch.find("lbfg")
