"""The estimators' losses beyond scikit-learn's: what they report and predict; functions of the user's own."""

import pickle

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from sklearn.base import clone
from sklearn.metrics import hinge_loss, mean_gamma_deviance
from sklearn.model_selection import cross_val_score

from mlpx import MLPClassifier, MLPRegressor

STILL = {"alpha": 0.0, "max_iter": 1, "batch_size": 150, "learning_rate_init": 1e-300}
LABELS = (X[:, :3] > 0).astype(int)
TARGETS = {"classes": Y, "two": Y > 0, "labels": LABELS}


def focal(p, focus):
    return -((1 - p) ** focus) * np.log(p)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("focus", [0.0, 2.0])
def test_focal_loss(target, focus) -> None:
    y = TARGETS[target]
    model = fitted(y=y, loss="focal", focus=focus, **STILL)
    p = model.predict_proba(X)
    if target == "labels":
        each = focal(np.where(LABELS, p, 1 - p), focus).sum(axis=1)
    else:
        each = focal(p[np.arange(150), y.astype(int)], focus)
    np.testing.assert_allclose(model.loss_, each.mean(), rtol=1e-10)
    if focus == 0.0:
        plain = fitted(y=y)
        same = fitted(y=y, loss="focal", focus=0.0)
        np.testing.assert_allclose(same.coefs_[0], plain.coefs_[0], rtol=1e-7, atol=1e-10)
    else:
        curve = fitted(y=y, loss="focal", focus=focus, max_iter=30).loss_curve_
        assert curve[-1] < 0.8 * curve[0]


@pytest.mark.parametrize("target", TARGETS)
def test_hinge_loss(target) -> None:
    y = TARGETS[target]
    model = fitted(y=y, loss="hinge", **STILL)
    margins = model.decision_function(X)
    signs = 2 * (np.eye(3)[Y] if target == "classes" else y) - 1
    each = np.maximum(0, 1 - signs * margins)
    np.testing.assert_allclose(model.loss_, (each if target == "two" else each.sum(axis=1)).mean(), rtol=1e-10)
    if target == "two":
        np.testing.assert_allclose(model.loss_, hinge_loss(y, margins), rtol=1e-10)
    learnt = fitted(y=y, loss="hinge", max_iter=60)
    assert learnt.score(X, y) > model.score(X, y)
    margins, said = learnt.decision_function(X), learnt.predict(X)
    if target == "classes":
        np.testing.assert_array_equal(said, margins.argmax(axis=1))
    else:
        np.testing.assert_array_equal(said, (margins > 0).astype(said.dtype))


def test_margins_and_probabilities_are_where_they_belong() -> None:
    margins, probabilities = MLPClassifier(loss="hinge"), MLPClassifier()
    assert hasattr(margins, "decision_function")
    assert not hasattr(margins, "predict_proba")
    assert not hasattr(margins, "predict_log_proba")
    assert not hasattr(probabilities, "decision_function")
    with pytest.raises(AttributeError, match="predict_proba"):
        margins.predict_proba  # noqa: B018
    model = MLPClassifier(loss="hinge", hidden_layer_sizes=4, max_iter=20, tol=9.0, random_state=0)
    assert np.isfinite(cross_val_score(model, X, Y > 0, cv=3, scoring="roc_auc")).all()


def test_gamma_loss() -> None:
    y = np.exp(NUMBERS[:, 0])
    model = fitted(MLPRegressor, y=y, loss="gamma", **STILL)
    assert model.out_activation_ == "exp"
    np.testing.assert_allclose(model.loss_, 0.5 * mean_gamma_deviance(y, model.predict(X)), rtol=1e-10)
    learnt = fitted(MLPRegressor, y=y, loss="gamma", max_iter=60)
    assert (learnt.predict(X) > 0).all()
    assert learnt.loss_curve_[-1] < 0.5 * learnt.loss_curve_[0]
    twice, once = (
        fitted(MLPRegressor, y=y, loss="gamma", sample_weight=np.full(150, w), alpha=0.0) for w in (2.0, 1.0)
    )
    np.testing.assert_allclose(twice.loss_curve_, once.loss_curve_, rtol=1e-10)
    with pytest.raises(ValueError, match="numbers above 0"):
        fitted(MLPRegressor, y=y - y.min(), loss="gamma")


# --- functions of the user's own --------------------------------------------------------------------------------------


def squared(y_true, output):
    e = output - y_true
    return 0.5 * (e * e).sum(axis=1).mean(), e / len(e)


def cross_entropy(y_true, p):
    if p.shape[1] > 1:
        return -np.log((p * y_true).sum(axis=1)).mean(), -y_true / (p * y_true).sum(axis=1, keepdims=True) / len(p)
    q = np.where(y_true > 0, p, 1 - p)
    return -np.log(q).mean(), -(2 * y_true - 1) / q / len(p)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_function_is_as_good_as_a_name(solver) -> None:
    """One output: for several, scikit-learn reports the mean over them, a function what it returns."""
    own, named = (
        fitted(MLPRegressor, y=NUMBERS[:, 0], loss=loss, solver=solver) for loss in (squared, "squared_error")
    )
    np.testing.assert_allclose(own.coefs_[0], named.coefs_[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(own.loss_, named.loss_, rtol=1e-8)


@pytest.mark.parametrize("target", ["classes", "two"])
def test_a_function_of_probabilities(target) -> None:
    own, named = (fitted(y=TARGETS[target], loss=loss) for loss in (cross_entropy, "log_loss"))
    np.testing.assert_allclose(own.coefs_[0], named.coefs_[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(own.loss_curve_, named.loss_curve_, rtol=1e-8)
    copied = pickle.loads(pickle.dumps(own))
    np.testing.assert_array_equal(copied.predict_proba(X), own.predict_proba(X))
    assert clone(own).loss is cross_entropy
    again = own.coefs_
    own.predict(X)
    assert own.coefs_ is again  # nothing was built anew


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fitted(loss=cross_entropy, class_weight="balanced"), "takes no weights"),
        (lambda: fitted(MLPRegressor, y=NUMBERS, loss=squared, sample_weight=np.ones(150)), "takes no weights"),
        (lambda: fitted(MLPRegressor, y=NUMBERS, loss=lambda y, p: (0.0, 1.0)), "gradient that your function returns"),
        (lambda: fitted(MLPRegressor, y=NUMBERS, loss=lambda y, p: (np.nan, p)), "non-finite"),
        (lambda: fitted(loss="log"), "'loss' parameter of MLPClassifier"),
        (lambda: fitted(loss="focal", focus=-1.0), "'focus' parameter of MLPClassifier"),
        (lambda: fitted(loss="focal", label_smoothing=0.1), "label_smoothing: is for loss='log_loss'"),
    ],
)
def test_losses_that_cannot_work(call, words) -> None:
    with pytest.raises(ValueError, match=words):
        call()
