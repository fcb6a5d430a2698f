"""Norms in the estimators' hidden layers: where they stand, what they hold, and that they travel with the estimator."""

import pickle
import warnings

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from mlpx import MLPClassifier, MLPRegressor
from mlpx.estimators import epochs

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


# --- a row that is left over, of which there is no variance -----------------------------------------------------------


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize(("n", "steps"), [(200, [200]), (201, [201]), (401, [201, 200]), (402, [200, 200, 2])])
def test_no_step_has_a_single_row(n, steps, early_stopping, monkeypatch) -> None:
    seen, make = [], epochs.Steps
    monkeypatch.setattr(epochs, "Steps", lambda *given: seen.append((given[1].shape[0], given[4])) or make(*given))
    x, extra = np.random.default_rng(0).standard_normal((n, 6)), {}
    if early_stopping:
        extra = {"early_stopping": True, "validation_data": (X, NUMBERS[:, 0])}
    fitted(MLPRegressor, x=x, y=x[:, 0], batch_norm=True, **extra)
    [(rows, batch_size)] = seen
    assert [min(batch_size, rows - start) for start in range(0, rows, batch_size)] == steps


@pytest.mark.parametrize("batch_size", range(2, 9))
def test_sizes_of_steps(batch_size) -> None:
    for n in range(batch_size, 80):
        found = epochs.without_lone_row(batch_size, n)
        assert batch_size <= found <= n
        assert n % found != 1


def test_one_row_more_changes_next_to_nothing() -> None:
    rng = np.random.default_rng(0)
    test, scores = rng.standard_normal((1000, 6)), {}

    def f(x):
        return 3 * x[:, 0] + x[:, 1] * x[:, 2] + 5

    for n in (200, 201, 400, 401):
        x = rng.standard_normal((n, 6))
        model = MLPRegressor(
            hidden_layer_sizes=(64,), batch_norm=True, learning_rate_init=0.01, max_iter=300, n_iter_no_change=300,
            random_state=0, tol=0.0,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, f(x))
        z = x @ model.coefs_[0] + model.intercepts_[0]
        np.testing.assert_allclose(model.norms_[0]["var"], z.var(axis=0), rtol=0.1)
        scores[n] = model.score(test, f(test))
    assert scores[201] > scores[200] - 0.02
    assert scores[401] > scores[400] - 0.02


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_single_rows_are_refused(solver) -> None:
    with pytest.raises(ValueError, match=r"^batch_norm: normalises over the rows of a step.*layer_norm=True"):
        fitted(MLPRegressor, x=X[:1], y=NUMBERS[:1], batch_norm=True, solver=solver)
    if solver == "adam":
        with pytest.raises(ValueError, match=r"^batch_norm: .*\(150 rows, batch_size=1\)"):
            fitted(MLPRegressor, y=NUMBERS, batch_norm=True, batch_size=1)
        model = fitted(MLPRegressor, y=NUMBERS, batch_norm=True)
        before = model.predict(X)
        with pytest.raises(ValueError, match=r"^batch_norm: "):
            model.partial_fit(X[:1], NUMBERS[:1])
        np.testing.assert_array_equal(model.predict(X), before)
        fitted(MLPRegressor, x=X[:1], y=NUMBERS[:1], layer_norm=True)
