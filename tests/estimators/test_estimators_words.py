"""What does not go together is refused before anything is trained, in words that name it."""

from functools import partial

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlpx import MLPClassifier, MLPRegressor

LABELS = np.random.default_rng(0).integers(0, 2, (150, 3))
ONE = NUMBERS[:, 0]


@pytest.mark.parametrize(
    ("kind", "first", "then", "said"),
    [
        (MLPRegressor, ONE, NUMBERS, r"y: has shape \(150, 2\); training had 1 numbers in each row"),
        (MLPRegressor, NUMBERS, ONE, r"y: has shape \(150,\); training had 2 numbers in each row"),
        (MLPClassifier, Y, LABELS, "y: is an indicator matrix of labels; earlier calls had classes"),
        (MLPClassifier, LABELS, Y, "y: holds classes, one for each row; earlier calls had an indicator matrix"),
    ],
)
def test_targets_of_another_shape_than_in_earlier_calls(kind, first, then, said) -> None:
    classes = {"classes": [0, 1, 2]} if kind is MLPClassifier else {}
    for model, again in (
        (fitted(kind, first, warm_start=True), "fit"),
        (kind((5,) if kind is MLPClassifier else "squared_error").partial_fit(X, first, **classes), "partial_fit"),
    ):
        before = [w.copy() for w in model.coefs_]
        with pytest.raises(ValueError, match=f"^{said}"):
            getattr(model, again)(X, then)
        for w, old in zip(model.coefs_, before, strict=True):
            np.testing.assert_array_equal(w, old)
        model.predict(X)


@pytest.mark.parametrize(
    ("kind", "y", "validation", "said"),
    [
        (MLPRegressor, ONE, (X, NUMBERS), r"y: has shape \(150, 2\)"),
        (MLPClassifier, Y, (X, LABELS), "y: expected classes, one for each row, as in training"),
        (MLPClassifier, Y > 0, (X, LABELS), "y: expected classes"),
        (MLPClassifier, LABELS, (X, Y), "y: expected an indicator matrix of labels, as in training"),
        (MLPClassifier, LABELS, (X, LABELS[:, :2]), "classes .* mismatch"),
        (MLPClassifier, Y, (X, Y + 1), r"y has classes that training has not; it has \[0 1 2\]"),
        (MLPClassifier, Y, (X[:, :2], Y), "X has 2 features"),
        (MLPClassifier, Y, (X, Y[:5]), "y: Found input variables with inconsistent numbers of samples"),
        (MLPRegressor, ONE, (X, ONE, -np.ones(150)), "sample_weight: holds negative values"),
    ],
)
def test_validation_data_that_training_cannot_use(kind, y, validation, said) -> None:
    with pytest.raises(ValueError, match=f"^validation_data: {said}"):
        fitted(kind, y, validation_data=validation)


def test_validation_numbers_that_are_none() -> None:
    with pytest.raises(TypeError, match=r"^validation_data: y: expected real numbers"):
        fitted(MLPRegressor, ONE, validation_data=(X, ONE.astype(str)))


@pytest.mark.parametrize("weight", [-1.0, np.nan])
def test_class_weights_below_zero(weight) -> None:
    with pytest.raises(ValueError, match=r"^class_weight\[0\]: expected a finite number in \[0, inf\]"):
        fitted(class_weight={0: weight})


@pytest.mark.parametrize(
    ("quantiles", "error", "said"),
    [
        ((), ValueError, "is empty; expected at least one level"),
        ((0.1, 1.2), ValueError, r"expected a finite number in \(0, 1\), got 1.2"),
        (("a",), TypeError, "expected a number, got 'a'"),
    ],
)
def test_quantiles(quantiles, error, said) -> None:
    with pytest.raises(error, match=f"^quantiles: {said}"):
        fitted(MLPRegressor, ONE, loss="quantile", quantiles=quantiles)


def test_more_quantiles_than_before() -> None:
    model = fitted(MLPRegressor, ONE, loss="quantile", quantiles=(0.1, 0.9), warm_start=True)
    with pytest.raises(ValueError, match=r"^quantiles: 3 levels; the network was made for 2\."):
        model.set_params(quantiles=(0.1, 0.5, 0.9)).fit(X, ONE)


def test_a_solver_that_the_loss_rules_out() -> None:
    with pytest.raises(ValueError, match=r"^solver: LevenbergMarquardt needs the loss squared_error"):
        fitted(solver="levenberg_marquardt")


def test_a_loss_of_the_user_s_own_that_is_no_number() -> None:
    with pytest.raises(ValueError, match=r"^loss: your function returns a loss of shape \(8, 2\); expected one number"):
        fitted(MLPRegressor, NUMBERS, loss=lambda y, output: (output - y, output - y), batch_size=50)


def test_a_baseline_of_another_width() -> None:
    model = fitted()
    with pytest.raises(ValueError, match=r"^baseline: has shape \(3,\); expected a number, or \(6,\) one for each"):
        model.integrated_gradients(X, np.zeros(3))
    for baseline in (0.0, np.zeros(6), np.zeros_like(X)):
        np.testing.assert_array_equal(model.integrated_gradients(X, baseline), model.integrated_gradients(X))


# --- arrays that users put into the attributes ------------------------------------------------------------------------


@pytest.mark.parametrize("convert", [np.ndarray.tolist, lambda w: w.astype(int)], ids=["list", "integers"])
def test_weights_that_are_no_floats_become_some(convert) -> None:
    model, twin = fitted(), fitted()
    for each in (model, twin):
        each.coefs_[0] = np.round(10 * each.coefs_[0])
        each.intercepts_[1] = np.round(10 * each.intercepts_[1])
    model.coefs_[0], model.intercepts_[1] = convert(model.coefs_[0]), convert(model.intercepts_[1])
    np.testing.assert_array_equal(model.predict_proba(X), twin.predict_proba(X))


def test_weights_that_fit_no_network() -> None:
    def spoilt(**arrays):
        model = fitted()
        for name, change in arrays.items():
            setattr(model, name, change(getattr(model, name)))
        return model

    for said, model in (
        (r"coefs_: holds 2 arrays, and intercepts_ 3", spoilt(coefs_=lambda c: c[:2])),
        (r"coefs_\[0\]: has shape \(2, 8\).*expected \(6, n_out\)", spoilt(coefs_=lambda c: [c[0][:2], *c[1:]])),
        (
            r"coefs_\[1\]: has shape \(8, 4\), and intercepts_\[1\] \(5,\)",
            spoilt(coefs_=lambda c: [c[0], c[1][:, :4], c[2]]),
        ),
        (
            r"coefs_\[-1\]: has 2 columns; expected 3",
            spoilt(coefs_=lambda c: [*c[:2], c[2][:, :2]], intercepts_=lambda b: [*b[:2], b[2][:2]]),
        ),
    ):
        with pytest.raises(ValueError, match=f"^{said}"):
            model.predict(X)


@pytest.mark.parametrize("params", [{}, {"early_stopping": True}, {"solver": "conjugate_gradient"}], ids=str)
def test_warnings_name_the_line_that_called(params) -> None:
    model = MLPClassifier(max_iter=1, batch_size=20, **params)
    for fit in (model.fit, make_pipeline(StandardScaler(), model).fit, partial(cross_val_score, model, cv=2)):
        with pytest.warns(ConvergenceWarning, match="hasn't converged yet") as told:
            fit(X, Y)
        assert {each.filename for each in told} == {__file__}


def test_a_program_without_a_name_is_not_warned_but_gets_its_fit() -> None:
    model = MLPClassifier(max_iter=1)
    exec("fit(X, Y)", {"__name__": None, "fit": model.fit, "X": X, "Y": Y})
    assert model.n_iter_ == 1
