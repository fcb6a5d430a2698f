"""The estimators as scikit-learn's users meet them: its own checks, its tools, and what they do with bad input."""

import pickle
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification, make_regression
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import (
    check_sample_weight_equivalence_on_dense_data,
    parametrize_with_checks,
)

from mlpx import MLPClassifier, MLPRegressor
from mlpx.estimators.parameters import satisfied

X, Y = make_classification(n_samples=120, n_features=6, n_informative=4, n_classes=3, random_state=0)
XR, YR = make_regression(n_samples=90, n_features=5, random_state=0)
YR = YR / 50.0


def small(kind=MLPClassifier, **params):
    return kind(**{"hidden_layer_sizes": (8,), "max_iter": 30, "tol": 10.0, "random_state": 0, **params})


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([MLPClassifier(max_iter=100), MLPRegressor(max_iter=100)])
def test_scikit_learns_own_checks(estimator, check) -> None:
    check(estimator)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "estimator",
    [
        MLPClassifier(solver="lbfgs", max_iter=100),
        MLPRegressor(solver="sgd", tol=1e-2, random_state=42, max_iter=100),
    ],
    ids=["classifier", "regressor"],
)
def test_a_weight_of_two_is_a_row_that_stands_there_twice(estimator) -> None:
    """With the solvers with which scikit-learn shows it of its own."""
    check_sample_weight_equivalence_on_dense_data(type(estimator).__name__, estimator)


def test_import_of_the_library_does_not_load_scikit_learn() -> None:
    code = (
        "import sys, mlpx; assert 'sklearn' not in sys.modules; "
        "from mlpx import MLPClassifier; assert 'sklearn' in sys.modules and MLPClassifier is mlpx.MLPClassifier; "
        "assert 'MLPRegressor' in dir(mlpx)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_inside_scikit_learns_tools() -> None:
    pipeline = make_pipeline(StandardScaler(), small())
    search = GridSearchCV(pipeline, {"mlpclassifier__alpha": [1e-4, 1.0]}, cv=2, n_jobs=2).fit(X, Y)
    assert search.best_params_["mlpclassifier__alpha"] in (1e-4, 1.0)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert cross_val_score(small(MLPRegressor), XR, YR, cv=3).shape == (3,)
    calibrated = CalibratedClassifierCV(small(), cv=2).fit(X, Y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1.0)
    fitted = small().fit(X, Y)
    assert permutation_importance(fitted, X, Y, n_repeats=2, random_state=0).importances.shape == (6, 2)
    assert partial_dependence(fitted, X, [0], grid_resolution=4)["average"].shape == (3, 4)


def test_names_of_columns() -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    fitted = small().fit(frame, Y)
    assert fitted.feature_names_in_.tolist() == list("abcdef")
    np.testing.assert_array_equal(fitted.predict(frame), small().fit(X, Y).predict(X))
    with pytest.warns(UserWarning, match="valid feature names"):
        fitted.predict(X)


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_copies_by_clone_and_pickle(kind) -> None:
    x, y = (X, Y) if kind is MLPClassifier else (XR, YR)
    fitted = small(kind).fit(x, y)
    assert not hasattr(clone(fitted), "coefs_")
    assert clone(fitted).get_params() == fitted.get_params()
    copied = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copied.predict(x), fitted.predict(x))
    # The optimiser's state travels too: both go on alike.
    np.testing.assert_allclose(
        copied.partial_fit(x, y).coefs_[0], fitted.partial_fit(x, y).coefs_[0], rtol=1e-12, atol=1e-15
    )


def test_html_representation_names_the_estimator() -> None:
    assert "MLPClassifier" in small()._repr_html_()


def test_weights_that_users_write_are_used() -> None:
    fitted = small(MLPRegressor).fit(XR, YR)
    fitted.intercepts_[-1][...] = 0.0
    before = fitted.predict(XR)
    fitted.intercepts_[-1][...] = 100.0
    np.testing.assert_allclose(fitted.predict(XR), before + 100.0)
    fitted.intercepts_[-1] = np.array([7.0])
    np.testing.assert_allclose(fitted.predict(XR), before + 7.0)
    fitted.coefs_ = [np.zeros_like(w) for w in fitted.coefs_]
    np.testing.assert_allclose(fitted.predict(XR), 7.0)


def test_sparse_predictions_are_those_of_dense_rows() -> None:
    x = np.where(np.abs(X) > 0.7, X, 0.0)
    fitted = small().fit(x, Y)
    for format_ in (sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array):
        np.testing.assert_allclose(fitted.predict_proba(format_(x)), fitted.predict_proba(x), rtol=1e-12)


def test_verbose_tells_what_scikit_learn_tells(capsys) -> None:
    small(verbose=True, early_stopping=True, n_iter_no_change=2).fit(X, Y)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Iteration 1, loss = ")
    assert said[1].startswith("Validation score: ")
    assert said[-1] == "Validation score did not improve more than tol=10.000000 for 2 consecutive epochs. Stopping."


def test_a_fit_that_has_not_converged_warns() -> None:
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        small(max_iter=2, tol=0.0).fit(X, Y)
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge"):
        small(solver="lbfgs", max_iter=2, tol=0.0).fit(X, Y)


def test_n_threads_changes_nothing_but_time() -> None:
    one, two = (small(n_threads=n, hidden_layer_sizes=(300, 300), max_iter=2) for n in (1, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for each in (one, two):
            each.fit(np.tile(X, (2, 20)), np.tile(Y, 2))
    np.testing.assert_allclose(one.loss_curve_, two.loss_curve_, rtol=1e-9)


def test_weights_are_routed() -> None:
    weight = np.linspace(0.1, 3.0, len(Y))
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(MinMaxScaler(), small().set_fit_request(sample_weight=True))
        pipeline.fit(X, Y, sample_weight=weight)
    by_hand = small().fit(MinMaxScaler().fit_transform(X), Y, sample_weight=weight)
    np.testing.assert_array_equal(pipeline[-1].coefs_[0], by_hand.coefs_[0])


def test_ctrl_c_ends_a_fit_and_keeps_what_it_learnt() -> None:
    def press(estimator) -> None:
        if estimator.n_iter_ == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.warns(UserWarning, match="interrupted by user"):
        stopped = small(callbacks=[press]).fit(X, Y)
    assert len(stopped.loss_curve_) == stopped.n_iter_ == 3
    assert stopped.predict(X).shape == Y.shape


# --- bad input --------------------------------------------------------------------------------------------------------


def test_nothing_before_fit() -> None:
    for method in ("predict", "predict_proba", "predict_log_proba"):
        with pytest.raises(NotFittedError):
            getattr(small(), method)(X)
    with pytest.raises(AttributeError, match="partial_fit"):
        small(solver="lbfgs").partial_fit  # noqa: B018
    with pytest.raises(ValueError, match="classes must be passed"):
        small().partial_fit(X, Y)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes"),
        ({"hidden_layer_sizes": (4.5,)}, "hidden_layer_sizes"),
        ({"hidden_layer_sizes": [[3, 3]]}, "hidden_layer_sizes"),
        ({"activation": "swoosh"}, "activation"),
        ({"solver": "adams"}, "solver"),
        ({"alpha": -1.0}, "alpha"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate_init": 0.0}, "learning_rate_init"),
        ({"max_iter": 0}, "max_iter"),
        ({"momentum": 1.5}, "momentum"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"beta_1": 1.0}, "beta_1"),
        ({"n_threads": 0}, "n_threads"),
        ({"early_stopping": True, "validation_fraction": 0.001}, "validation set is too small"),
    ],
)
def test_parameters_that_cannot_work(params, words) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        small(**params).fit(X, Y)


def test_data_that_cannot_work() -> None:
    holed = X.copy()
    holed[3, 2] = np.nan
    fitted = small().fit(X, Y)
    for call in (lambda: small().fit(holed, Y), lambda: fitted.predict(holed)):
        with pytest.raises(ValueError, match="NaN"):
            call()
    with pytest.raises(ValueError, match="features"):
        fitted.predict(X[:, :3])
    with pytest.raises(ValueError, match="negative"):
        small().fit(X, Y, sample_weight=-np.ones(len(Y)))
    with pytest.raises(ValueError, match="at least 0"):
        small(MLPRegressor, loss="poisson").fit(XR, -np.abs(YR))
    days = (np.arange(len(YR)) + 18000).astype("M8[D]")
    for y, words in (
        (YR.astype(str), "dtype <U"),
        (days, "dtype datetime64"),
        (sparse.csr_array(YR[:, None]), "sparse"),
    ):
        with pytest.raises(TypeError, match=f"^y: expected real numbers .* in a dense array, got .*{words}"):
            small(MLPRegressor).fit(XR, y)
    with pytest.raises(ValueError, match="classes not in"):
        small().partial_fit(X, Y, classes=[0, 1])


def test_a_failed_fit_leaves_the_estimator_as_it_was() -> None:
    fitted = small(solver="sgd").fit(X, Y)
    before, curve = fitted.predict_proba(X), list(fitted.loss_curve_)
    fitted.set_params(learning_rate_init=1e200, warm_start=True, n_iter_no_change=50, activation="identity")
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="non-finite parameter weights"):
        fitted.fit(X, Y)
    fitted.set_params(activation="relu")
    np.testing.assert_array_equal(fitted.predict_proba(X), before)
    assert fitted.loss_curve_ == curve
    with pytest.raises(ValueError, match="NaN"):
        fitted.partial_fit(X * np.nan, Y)
    np.testing.assert_array_equal(fitted.predict_proba(X), before)
    unfitted = small()
    with pytest.raises(ValueError, match="NaN"):
        unfitted.partial_fit(X * np.nan, Y, classes=[0, 1, 2])
    assert not hasattr(unfitted, "classes_")


def test_without_finiteness_checks_nothing_else_changes() -> None:
    fitted = small().fit(X, Y)
    with config_context(assume_finite=True):
        np.testing.assert_array_equal(fitted.predict(X), small().fit(X, Y).predict(X))


def test_a_parameter_that_equals_a_valid_one_is_looked_at_itself() -> None:
    """What has been valid before is remembered, and 1 equals True."""
    assert satisfied(MLPClassifier(early_stopping=True))
    assert not satisfied(MLPClassifier(early_stopping=1))
    assert satisfied(MLPClassifier(max_iter=7))
    assert not satisfied(MLPClassifier(max_iter=7.0))
