"""The estimators' losses beyond scikit-learn's: what they report and predict; functions of the user's own."""

import pickle

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from sklearn.base import clone
from sklearn.metrics import hinge_loss, mean_gamma_deviance
from sklearn.model_selection import cross_val_score

from mlpx import MLPClassifier, MLPRegressor, losses

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


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
def test_rates_that_overflow_are_told(loss) -> None:
    model = fitted(MLPRegressor, y=np.exp(NUMBERS[:, 0]), loss=loss)
    model.predict(X)
    with pytest.warns(RuntimeWarning, match="^predict: some rates overflow to infinity") as told:
        assert np.isinf(model.predict(1e6 * X)).any()
    assert [each.filename for each in told] == [__file__]


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


# --- functions that are none of ours ----------------------------------------------------------------------------------


def mirrored(y_true, output):
    value, gradient = squared(y_true, output)
    return value, -gradient


def without_gradient(y_true, output):
    return np.abs(y_true - output).mean()


class Foreign:
    """A loss of another library's manner: called with its own kind of arrays."""

    def __call__(self, given, target):
        return given.size() / target.size()


@pytest.mark.parametrize(
    ("loss", "error", "words"),
    [
        (
            mirrored,
            ValueError,
            r"^loss: the gradient that your function returns points the wrong way.*Return",
        ),
        (without_gradient, TypeError, r"^loss: a function of your own returns \(loss, gradient\)"),
        (
            Foreign(),
            ValueError,
            r"^loss: calling .*Foreign.* failed: TypeError: .*an object of mlpx.losses",
        ),
        (losses.Huber, TypeError, r"^loss: expected a name, an object or a function, got the class Huber"),
        (Foreign, TypeError, r"^loss: expected a name, an object or a function, got the class Foreign"),
        (lambda y_true: 0.0, ValueError, r"^loss: calling .*lambda.* failed: TypeError"),
    ],
)
def test_functions_that_are_no_losses(loss, error, words) -> None:
    model = fitted(MLPRegressor, y=NUMBERS[:, 0], warm_start=True)
    before = model.predict(X)
    with pytest.raises(error, match=words):
        model.set_params(loss=loss).fit(X, NUMBERS[:, 0])
    np.testing.assert_array_equal(model.predict(X), before)
    with pytest.raises(error, match=words):
        fitted(MLPRegressor, y=NUMBERS[:, 0], loss=loss)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize(
    "function",
    [
        squared,
        lambda y, p: (np.abs(p - y).mean(), np.sign(p - y) / p.size),
        lambda y, p: (((p - y) ** 2).sum(), 2 * (p - y)),  # a sum, with its own gradient
        lambda y, p: (((p - y) ** 2).mean(), 2 * (p - y)),  # a mean, with the gradient of the sum: still downhill
        lambda y, p: (1e6 + 1e-3 * ((p - y) ** 2).mean(), 2e-3 * (p - y) / p.size),
        lambda y, p: (0.0, 0.0 * p),
    ],
)
def test_functions_that_are_let_pass(function, scale) -> None:
    def scaled(y, p):
        value, gradient = function(y, p)
        return scale * value, scale * gradient

    fitted(MLPRegressor, y=NUMBERS, loss=scaled)


def test_a_function_is_tried_once_and_not_in_each_call() -> None:
    rows = []

    def counted(y_true, output):
        rows.append(len(output))
        return squared(y_true, output)

    model = fitted(MLPRegressor, y=NUMBERS, loss=counted, max_iter=1, batch_size=150)
    assert rows == [8, 8, 8, 150]
    model.partial_fit(X, NUMBERS)
    assert rows == [8, 8, 8, 150, 150]


# --- objects of the library -------------------------------------------------------------------------------------------

OBJECTS = [
    (MLPRegressor, NUMBERS, "squared_error", losses.SquaredError(), {}),
    (MLPRegressor, NUMBERS, "absolute_error", losses.AbsoluteError(), {}),
    (MLPRegressor, NUMBERS, "huber", losses.Huber(2.0), {"delta": 2.0}),
    (MLPRegressor, NUMBERS[:, 0], "quantile", losses.Quantile((0.1, 0.9)), {"quantiles": (0.1, 0.9)}),
    (MLPRegressor, np.abs(NUMBERS), "poisson", losses.Poisson(), {}),
    (MLPRegressor, np.exp(NUMBERS[:, 0]), "gamma", losses.Gamma(), {}),
    (MLPClassifier, Y, "log_loss", losses.CrossEntropy(label_smoothing=0.1), {"label_smoothing": 0.1}),
    (MLPClassifier, Y > 0, "log_loss", losses.BinaryCrossEntropy(), {}),
    (MLPClassifier, LABELS, "log_loss", losses.BinaryCrossEntropy(label_smoothing=0.1), {"label_smoothing": 0.1}),
    (MLPClassifier, Y, "focal", losses.Focal(1.5), {"focus": 1.5}),
    (MLPClassifier, Y > 0, "focal", losses.BinaryFocal(1.5), {"focus": 1.5}),
    (MLPClassifier, Y, "hinge", losses.Hinge(), {}),
    (MLPClassifier, LABELS, "hinge", losses.Hinge(), {}),
]


@pytest.mark.parametrize(("kind", "y", "name", "loss", "options"), OBJECTS, ids=lambda v: repr(v)[:30])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_an_object_is_its_name(kind, y, name, loss, options, solver) -> None:
    named, made = fitted(kind, y=y, loss=name, solver=solver, **options), fitted(kind, y=y, loss=loss, solver=solver)
    for a, b in zip(made.coefs_ + made.intercepts_, named.coefs_ + named.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert made.loss_curve_ == named.loss_curve_
    assert made.out_activation_ == named.out_activation_
    np.testing.assert_array_equal(made.predict(X), named.predict(X))
    assert made.score(X, y) == named.score(X, y)
    assert hasattr(made, "decision_function") == hasattr(named, "decision_function")
    assert clone(made).loss == loss
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(made)).predict(X), named.predict(X))


def test_options_that_only_objects_have() -> None:
    weights = (1.0, 5.0, 0.5)
    by_class = fitted(loss=losses.CrossEntropy(class_weight=weights), alpha=0.0)
    by_row = fitted(class_weight=dict(enumerate(weights)), alpha=0.0)
    np.testing.assert_allclose(by_class.coefs_[0], by_row.coefs_[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(by_class.loss_curve_, by_row.loss_curve_, rtol=1e-9)
    positive = fitted(y=Y > 0, loss=losses.BinaryCrossEntropy(pos_weight=(50.0,)), max_iter=30)
    assert positive.predict(X).mean() > fitted(y=Y > 0, max_iter=30).predict(X).mean()
    own = losses.CustomLoss(lambda prediction, target: squared(target, prediction))
    np.testing.assert_array_equal(
        fitted(MLPRegressor, y=NUMBERS, loss=own).coefs_[0], fitted(MLPRegressor, y=NUMBERS, loss=squared).coefs_[0]
    )


@pytest.mark.parametrize(
    ("kind", "y", "loss", "words"),
    [
        (MLPRegressor, NUMBERS, losses.CrossEntropy(), r"^loss: CrossEntropy\(\) is a loss of classes"),
        (MLPRegressor, NUMBERS, losses.Hinge(), r"^loss: Hinge\(\) is a loss of classes"),
        (MLPClassifier, Y, losses.SquaredError(), r"^loss: SquaredError\(\) is a loss of numbers"),
        (MLPClassifier, Y > 0, losses.CrossEntropy(), "several classes.*; y has two classes .*BinaryCrossEntropy"),
        (MLPClassifier, LABELS, losses.Focal(), "several classes.*; y has two classes .*BinaryFocal"),
        (MLPClassifier, Y, losses.BinaryCrossEntropy(), "two classes .*; y has several .*CrossEntropy and Focal"),
        (MLPClassifier, Y, losses.CrossEntropy(class_weight=(1.0, 2.0)), "class_weight: has 2 values.* 3 outputs"),
        (MLPRegressor, NUMBERS, losses.Quantile((0.5,)), "has 2 columns"),
        (MLPRegressor, NUMBERS, losses.Poisson(), "of at least 0"),
    ],
)
def test_objects_that_do_not_fit(kind, y, loss, words) -> None:
    with pytest.raises(ValueError, match=words):
        fitted(kind, y=y, loss=loss)
