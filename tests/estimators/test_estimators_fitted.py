"""What belongs to a fit stays as it was fitted: a parameter set later acts at the next fit, or is refused there."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from sklearn.exceptions import ConvergenceWarning

from mlpx import MLPClassifier, MLPRegressor, losses

COUNTS = np.round(np.abs(NUMBERS[:, 0])) + 1.0
CHANGES = [
    (MLPClassifier, Y > 0, {"loss": "hinge"}),
    (MLPClassifier, Y, {"loss": "focal", "focus": 5.0}),
    (MLPClassifier, Y, {"activation": "tanh", "dropout": 0.5, "label_smoothing": 0.5}),
    (MLPClassifier, Y, {"hidden_layer_sizes": (3,), "dtype": "float32", "batch_norm": True}),
    (MLPRegressor, COUNTS, {"loss": "poisson"}),
    (MLPRegressor, COUNTS, {"loss": "quantile", "quantiles": (0.1, 0.9)}),
    (MLPRegressor, COUNTS, {"layer_norm": True, "alpha": 3.0, "solver": "sgd"}),
]


def outcomes(model, x=X, y=None):
    """Return all that a model says of rows."""
    names = [name for name in ("predict", "predict_proba", "decision_function", "gradients") if hasattr(model, name)]
    return {name: getattr(model, name)(x) for name in names} | {"score": np.array(model.score(x, y))}


def check_same(found, expected) -> None:
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("way", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize(("kind", "y", "change"), CHANGES)
def test_a_parameter_changes_no_prediction(kind, y, change, way) -> None:
    model = fitted(kind, y)
    before = {name: getattr(model, name) for name in change}
    expected = outcomes(model, y=y)
    check_same(outcomes(way(model.set_params(**change)), y=y), expected)
    changed = way(model)
    changed.coefs_[0] = changed.coefs_[0].copy()  # a network is made anew
    check_same(outcomes(changed, y=y), expected)
    hinge = fitted(kind, y, **change)
    check_same(outcomes(hinge.set_params(**before), y=y), outcomes(fitted(kind, y, **change), y=y))


REFUSED = [
    (MLPClassifier, Y > 0, {}, {"loss": "hinge"}, r"^loss: 'hinge' wants outputs that are 'identity'"),
    (MLPClassifier, Y, {"loss": "hinge"}, {"loss": "log_loss"}, r"^loss: 'log_loss' wants outputs that are 'softmax'"),
    (MLPClassifier, Y, {}, {"loss": losses.Hinge()}, r"^loss: Hinge\(\) wants"),
    (MLPRegressor, COUNTS, {}, {"loss": "poisson"}, r"^loss: 'poisson' wants outputs that are 'exp'"),
    (MLPRegressor, COUNTS, {}, {"loss": "gamma"}, r"^loss: 'gamma' wants"),
    (MLPRegressor, COUNTS, {"loss": "gamma"}, {"loss": "huber"}, r"^loss: 'huber' wants outputs that are 'identity'"),
    (MLPRegressor, COUNTS, {}, {"loss": "quantile", "quantiles": (0.1, 0.9)}, r"^quantiles: 2 levels"),
    (MLPClassifier, Y, {}, {"hidden_layer_sizes": (64,)}, r"^hidden_layer_sizes: is \(64,\); .* \(8, 5\)"),
    (MLPClassifier, Y, {}, {"batch_norm": True}, r"^batch_norm: is True; .*no norm"),
    (MLPClassifier, Y, {"layer_norm": True}, {"layer_norm": False}, r"^layer_norm: is False; .*layer_norm"),
    (MLPClassifier, Y, {"layer_norm": True}, {"layer_norm": False, "batch_norm": True}, r"^batch_norm: is True"),
]


@pytest.mark.parametrize(("kind", "y", "first", "change", "words"), REFUSED)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_what_needs_other_weights_is_refused_by_name(kind, y, first, change, words, method) -> None:
    model = fitted(kind, y, **first, warm_start=True)
    expected, before = outcomes(model, y=y), {name: getattr(model, name) for name in change}
    with pytest.raises(ValueError, match=words):
        getattr(model.set_params(**change), method)(X, y)
    check_same(outcomes(model, y=y), expected)
    twin = fitted(kind, y, **first, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        getattr(model.set_params(**before), method)(X, y)
        getattr(twin, method)(X, y)
        check_same(outcomes(model, y=y), outcomes(twin, y=y))
        model.set_params(**change, warm_start=False).fit(X, y)
    check_same(outcomes(model, y=y), outcomes(fitted(kind, y, **(first | change)), y=y))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("kind", "y", "change"),
    [
        (MLPClassifier, Y, {"loss": "focal", "focus": 1.0}),
        (MLPClassifier, Y, {"label_smoothing": 0.3}),
        (MLPRegressor, NUMBERS, {"loss": "huber", "delta": 0.1}),
        (MLPRegressor, NUMBERS, {"activation": "tanh"}),
    ],
)
def test_what_the_same_weights_can_do_acts_at_the_next_fit(kind, y, change, method) -> None:
    """As if those weights had been put into an estimator of the new parameters."""
    params = {"alpha": 0.0, "solver": "sgd", "momentum": 0.0, "shuffle": False, "warm_start": True, "batch_size": 150}
    model = fitted(kind, y, **params)
    other = fitted(kind, y, **params, **change)
    other.coefs_, other.intercepts_ = copy.deepcopy((model.coefs_, model.intercepts_))
    getattr(model.set_params(**change), method)(X, y)
    getattr(other, method)(X, y)
    np.testing.assert_array_equal(model.coefs_[0], other.coefs_[0])
    np.testing.assert_array_equal(model.predict(X), other.predict(X))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_another_dtype_takes_the_weights_along(method) -> None:
    model = fitted(warm_start=True)
    before = model.predict_proba(X)
    getattr(model.set_params(dtype="float32", learning_rate_init=1e-9), method)(X, Y)
    assert {w.dtype for w in model.coefs_} == {np.dtype("float32")}
    np.testing.assert_allclose(model.predict_proba(X), before, rtol=1e-4)


def test_quantiles_that_are_scored_are_those_that_were_learnt() -> None:
    model = fitted(MLPRegressor, COUNTS, loss="quantile", quantiles=(0.1, 0.9))
    before = model.score(X, COUNTS)
    assert model.set_params(quantiles=(0.1, 0.5, 0.9)).score(X, COUNTS) == before


def test_other_arrays_are_trained_whatever_their_widths() -> None:
    """Nobody asked for those widths when the network was made; they were put there since."""
    model = fitted(warm_start=True)
    model.coefs_ = [model.coefs_[0][:, :4], model.coefs_[1][:4], model.coefs_[2]]
    model.intercepts_ = [model.intercepts_[0][:4], *model.intercepts_[1:]]
    model.predict(X)
    model.partial_fit(X, Y)
    assert [w.shape for w in model.coefs_] == [(6, 4), (4, 5), (5, 3)]
