"""Fits that blow up: on every path the weights that are left are finite, and the estimator is what it was."""

import signal
from typing import Any

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, fitted

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


# Five epochs of three steps; with early stopping each epoch asks for the loss of the held-out rows too.
@pytest.mark.parametrize(("early", "at"), [(False, 1), (False, 3), (False, 15), (True, 2), (True, 3), (True, 19)])
def test_a_gradient_that_overflows_is_seen_before_its_update(early: bool, at: int) -> None:
    seen = []

    def watch(e: Any) -> None:
        seen.append(all(np.isfinite(w).all() for w in e.coefs_))

    params = {"batch_size": 50, "callbacks": [watch], "early_stopping": early, "solver": "sgd"}
    with pytest.raises(ValueError, match="non-finite"):
        fitted(MLPRegressor, NUMBERS, loss=Planted(at), **params)
    assert all(seen)
    model = fitted(MLPRegressor, NUMBERS, **params, warm_start=True)
    before = [w.copy() for w in model.coefs_]
    with pytest.raises(ValueError, match="non-finite"):
        model.set_params(loss=Planted(at)).fit(X, NUMBERS)
    for w, old in zip(model.coefs_, before, strict=True):
        np.testing.assert_array_equal(w, old)


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
