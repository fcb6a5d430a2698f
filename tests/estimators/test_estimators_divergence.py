"""Fits that blow up: on every path the weights that are left are finite, and the estimator is what it was."""

import signal
from typing import Any

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, fitted
from sklearn.exceptions import ConvergenceWarning

import mlpx
from mlpx import MLPRegressor
from mlpx.errors import DivergenceError
from mlpx.estimators.steps import Steps, _LayerSteps
from mlpx.ops.dispatch import using_fused
from mlpx.optimizers import SGD
from mlpx.optimizers.full_batch import FULL_BATCH


class Planted:
    """Squared error whose gradient, though not its value, is infinite at one call of the fit."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, -3  # it is tried three times first

    def __call__(self, y_true: Any, output: Any) -> Any:
        e = output - y_true
        self.calls += 1
        gradient = 2.0 * e / e.size
        if self.calls == self.at:
            gradient[0, 0] = np.inf
        return float((e * e).mean()), gradient


MINIMISERS = sorted(FULL_BATCH.keys() - {"lbfgs"})


# Five epochs of three steps.
@pytest.mark.parametrize("at", [1, 3, 15])
def test_a_gradient_that_overflows_is_seen_before_its_update(at: int) -> None:
    seen = []

    def watch(e: Any) -> None:
        seen.append(all(np.isfinite(w).all() for w in e.coefs_))

    params = {"batch_size": 50, "callbacks": [watch], "solver": "sgd"}
    with pytest.raises(ValueError, match="non-finite"):
        fitted(MLPRegressor, NUMBERS, loss=Planted(at), **params)
    assert all(seen)
    model = fitted(MLPRegressor, NUMBERS, **params, warm_start=True)
    before = [w.copy() for w in model.coefs_]
    with pytest.raises(ValueError, match="non-finite"):
        model.set_params(loss=Planted(at)).fit(X, NUMBERS)
    for w, old in zip(model.coefs_, before, strict=True):
        np.testing.assert_array_equal(w, old)


@pytest.mark.parametrize(("at", "epoch"), [(2, 1), (3, 1), (19, 5)])  # each epoch asks for the loss held-out rows too
@pytest.mark.parametrize("warm", [False, True])
def test_with_early_stopping_a_blow_up_ends_the_fit_with_good_weights(warm: bool, at: int, epoch: int) -> None:
    params = {"batch_size": 50, "early_stopping": True, "solver": "sgd", "max_iter": 5, "hidden_layer_sizes": (8, 5)}
    model = MLPRegressor(**params, loss=Planted(at), random_state=0, learning_rate_init=0.01)
    start = fitted(MLPRegressor, NUMBERS, early_stopping=True, solver="sgd", max_iter=1, learning_rate_init=1e-300)
    if warm:
        start = fitted(MLPRegressor, NUMBERS, **params)
        model = fitted(MLPRegressor, NUMBERS, **params, warm_start=True).set_params(loss=Planted(at))
    before = len(getattr(model, "validation_scores_", ()))
    with pytest.warns(ConvergenceWarning, match=f"^Stochastic Optimizer: epoch {epoch} diverged, and the .* put back"):
        model.fit(X, NUMBERS)
    assert model.n_iter_ == epoch
    assert model.stopped_
    scores = model.validation_scores_[before:]
    assert len(scores) == epoch
    assert isinstance(scores[-1], float)
    assert np.isnan([scores[-1], model.loss_curve_[-1], model.validation_loss_curve_[-1], model.loss_]).all()
    if epoch == 1:
        for w, first in zip(model.coefs_, start.coefs_, strict=True):
            np.testing.assert_array_equal(w, first)
    else:
        assert np.isfinite(model.predict(X)).all()
    learnt = model.set_params(loss="squared_error", early_stopping=False).partial_fit(X, NUMBERS).loss_
    assert np.isfinite(learnt)


def test_calls_that_blow_up_fail_with_early_stopping_too() -> None:
    model = MLPRegressor(hidden_layer_sizes=(8,), early_stopping=True, solver="sgd", random_state=0)
    model.partial_fit(X, NUMBERS)
    before, scores = model.predict(X), list(model.validation_scores_)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="non-finite"):
        model.partial_fit(1e200 * X, NUMBERS)
    np.testing.assert_array_equal(model.predict(X), before)
    assert model.validation_scores_ == scores


def test_ctrl_c_right_after_an_update_that_overflows(monkeypatch) -> None:
    """No later step sees what that update did."""
    learn = _LayerSteps._learn

    def pressed(self, *given):
        learn(self, *given)
        self.net.parameters[0] = np.inf
        signal.raise_signal(signal.SIGINT)

    model = fitted(MLPRegressor, NUMBERS, warm_start=True)
    before = [w.copy() for w in model.coefs_]
    monkeypatch.setattr(_LayerSteps, "_learn", pressed)
    with using_fused("off"), pytest.raises(ValueError, match="non-finite"):
        model.set_params(batch_size=50).fit(X, NUMBERS)
    for w, old in zip(model.coefs_, before, strict=True):
        np.testing.assert_array_equal(w, old)


def test_an_update_that_overflows_leaves_the_weights_of_before() -> None:
    net = fitted(MLPRegressor, NUMBERS, dtype="float32")._net
    before, sgd = net.parameters.copy(), SGD(lr=1.0)
    sgd.start(net)
    with using_fused("off"):
        steps = Steps(net, X.astype("f"), NUMBERS.astype("f"), None, 150, sgd, 0.0)
    assert isinstance(steps.taker, _LayerSteps)
    with pytest.raises(DivergenceError), np.errstate(all="ignore"):
        steps.epochs(np.arange(150)[None], 1e39, lambda taken: None)
    np.testing.assert_array_equal(net.parameters, before)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("scale", [1e30, 1e80, 1e100, 1e200])
@pytest.mark.parametrize("solver", MINIMISERS)
def test_a_minimiser_of_all_rows_ends_with_a_finite_loss_or_an_error(solver: str, scale: float) -> None:
    model = fitted(MLPRegressor, NUMBERS, solver=solver, hidden_layer_sizes=(3,), warm_start=True)
    before, loss = model.coefs_[0].copy(), model.loss_
    said = ""
    try:
        model.fit(X * scale, NUMBERS * scale)
    except ValueError as error:
        said = str(error)
    if said:
        assert "non-finite" in said
        assert "learning_rate" not in said
        np.testing.assert_array_equal(model.coefs_[0], before)
        assert model.loss_ == loss
    else:
        assert scale < 1e200
        assert np.isfinite(model.loss_)
    net = mlpx.MLP([6, 3, 2], output="linear", dtype="float64")
    if scale < 1e200:
        net.fit(X * scale, NUMBERS, optimizer=solver, epochs=9, progress=False)
    assert np.isfinite(net.parameters).all()


@pytest.mark.parametrize("solver", ["lbfgs", *MINIMISERS])
def test_a_minimiser_that_gets_nowhere_leaves_the_loss_of_where_it_began(solver: str) -> None:
    params = {"solver": solver, "hidden_layer_sizes": (), "alpha": 0.0, "warm_start": True}
    model = fitted(MLPRegressor, NUMBERS, **params)
    for array in (*model.coefs_, *model.intercepts_):
        array[...] = 0.0
    model.fit(X, np.zeros_like(NUMBERS))
    assert model.n_iter_ <= 1
    assert model.loss_ == 0.0
