"""Norms in the estimators' hidden layers: where they stand, what they hold, and that they travel with the estimator."""

import pickle

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from sklearn.base import clone

from mlpx import MLPClassifier, MLPRegressor

NORMS = ["batch_norm", "layer_norm"]


def by_hand(model, x):
    """Return the output of a fitted tanh regressor with norms, from its attributes alone."""
    for w, b, norm in zip(model.coefs_, model.intercepts_, [*model.norms_, None], strict=True):
        x = x @ w + b
        if norm is not None:
            mean = norm["mean"] if "mean" in norm else x.mean(axis=1, keepdims=True)
            var = norm["var"] if "var" in norm else x.var(axis=1, keepdims=True)
            x = np.tanh((x - mean) / np.sqrt(var + 1e-5) * norm["gamma"] + norm["beta"])
    return x


@pytest.mark.parametrize("norm", NORMS)
def test_attributes_tell_the_whole_network(norm) -> None:
    model = fitted(MLPRegressor, y=NUMBERS, activation="tanh", **{norm: True})
    np.testing.assert_allclose(model.predict(X), by_hand(model, X), rtol=1e-9, atol=1e-12)
    assert np.abs(model.norms_[0]["gamma"] - 1.0).max() > 1e-3
    model.norms_[1]["beta"][...] = 0.5
    np.testing.assert_allclose(model.predict(X), by_hand(model, X), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_norms_learn_and_travel(norm) -> None:
    model = fitted(**{norm: True}, max_iter=20)
    assert model.loss_curve_[-1] < 0.8 * model.loss_curve_[0]
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict_proba(X), model.predict_proba(X))
    np.testing.assert_allclose(copied.partial_fit(X, Y).norms_[0]["gamma"], model.partial_fit(X, Y).norms_[0]["gamma"])
    assert getattr(clone(model), norm)
    np.testing.assert_array_equal(fitted(**{norm: True}).coefs_[0], fitted(**{norm: True}).coefs_[0])


@pytest.mark.filterwarnings("ignore:Stochastic")
def test_nothing_is_there_without_them() -> None:
    model = fitted()
    assert not hasattr(model, "norms_")
    model.set_params(layer_norm=True).fit(X, Y)
    assert len(model.norms_) == 2
    model.set_params(layer_norm=False).fit(X, Y)
    assert not hasattr(model, "norms_")
    np.testing.assert_array_equal(model.coefs_[0], fitted().coefs_[0])


def test_early_stopping_puts_the_running_statistics_back() -> None:
    model = fitted(batch_norm=True, early_stopping=True, max_iter=40, validation_data=(X[100:], Y[100:]))
    assert model.score(X[100:], Y[100:]) == max(model.validation_scores_)


def test_a_failed_fit_leaves_the_running_statistics() -> None:
    model = fitted(MLPRegressor, y=NUMBERS, batch_norm=True, solver="sgd")
    before = model.predict(X)
    model.set_params(learning_rate_init=1e300, warm_start=True)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="non-finite"):
        model.fit(X, NUMBERS)
    np.testing.assert_array_equal(model.predict(X), before)


def test_all_rows_at_once() -> None:
    model = fitted(MLPRegressor, y=NUMBERS, layer_norm=True, solver="lbfgs", max_iter=300)
    assert model.loss_ < 0.2 * fitted(MLPRegressor, y=NUMBERS, layer_norm=True, max_iter=1).loss_
    assert np.abs(model.norms_[0]["beta"]).max() > 1e-3


def test_one_norm_at_most() -> None:
    with pytest.raises(ValueError, match="both True"):
        fitted(batch_norm=True, layer_norm=True)
    with pytest.raises(ValueError, match="batch_norm"):
        MLPClassifier(batch_norm="yes").fit(X, Y)
