"""The short ways past scikit-learn's checks: what they let pass is what its own checks leave alone, and all else is
left to those.
"""

import inspect
import warnings

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from sklearn import config_context, get_config
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.validation import validate_data

from mlpx import MLPClassifier, MLPRegressor
from mlpx.estimators import base, labels, parameters, weights

LABELS = {
    "int64": Y,
    "int8": Y.astype(np.int8),
    "uint16": Y.astype(np.uint16),
    "int8, all of them": np.arange(len(Y)).clip(0, 127).astype(np.int8),
    "other byte order": Y.astype(Y.dtype.newbyteorder()),
    "negative": Y - 1,
    "negative int8": (Y - 1).astype(np.int8),
    "far apart": Y * 10**12,
    "bool": Y > 0,
    "one class": np.zeros_like(Y),
    "names": np.array(["ant", "bee", "cat"])[Y],
    "objects": np.array(["ant", "bee", "cat"], object)[Y],
    "floats": Y.astype(np.float64),
    "strided": np.repeat(Y, 2)[::2],
    "a column": Y[:, None],
    "indicators": (X[:, :3] > 0).astype(int),
}


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.filterwarnings("ignore:A column-vector")
def test_classes_are_learnt_as_scikit_learn_learns_them(name) -> None:
    y = LABELS[name]
    made, expected = labels._binarizer(labels._ravelled(y)), LabelBinarizer().fit(y.ravel() if y.shape[-1] == 1 else y)
    assert vars(made).keys() == vars(expected).keys()
    assert (made.y_type_, made.sparse_input_) == (expected.y_type_, expected.sparse_input_)
    np.testing.assert_array_equal(made.classes_, expected.classes_)
    assert made.classes_.dtype == expected.classes_.dtype
    np.testing.assert_array_equal(made.inverse_transform(expected.transform(y)), labels._ravelled(y))


ROWS = {
    "float64": X,
    "float32": X.astype(np.float32),
    "Fortran": np.asfortranarray(X),
    "strided": np.repeat(X, 2, axis=0)[::2],
    "integers": (10 * X).astype(int),
    "other bytes": X.astype(X.dtype.newbyteorder()),
    "a list": X.tolist(),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_rows_and_targets_are_what_scikit_learn_makes_of_them(kind, name, monkeypatch) -> None:
    options = {"accept_sparse": "csr", "multi_output": True, "dtype": (np.float64, np.float32)}
    options["y_numeric"] = kind is MLPRegressor
    numeric = kind is MLPRegressor
    every = [y for key, y in LABELS.items() if not (numeric and key in ("names", "objects"))]
    for y in [*every, NUMBERS, NUMBERS.astype(np.float32)[:, 0]]:
        expected = validate_data(kind(), ROWS[name], y, reset=True, **options)
        model = kind()
        found = model._checked(ROWS[name], y, reset=True)
        for a, b in zip(found, expected, strict=True):
            assert (a.dtype, a.shape, a.flags.c_contiguous) == (b.dtype, b.shape, b.flags.c_contiguous)
            np.testing.assert_array_equal(a, b)
        assert model.n_features_in_ == 6
    calls = []
    monkeypatch.setattr(base, "validate_data", lambda *a, **k: calls.append(a) or validate_data(*a, **k))
    kind()._checked(ROWS[name], Y, reset=True)
    assert len(calls) == (name in ("integers", "other bytes", "a list"))


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.where(X > 2, np.nan, X), Y, "contains NaN"),
        (np.where(X > 2, np.inf, X), Y, "infinity"),
        (X, np.where(X[:, 0] > 1, np.nan, 0.0), "y contains NaN"),
        (X[:0], Y[:0], "0 sample"),
        (X[:, :0], Y, "0 feature"),
        (X, Y[:9], "inconsistent numbers"),
        (X[0], Y, "Expected 2D array"),
        (X, Y[0], "at least 1 dimension"),
        (X, np.ones((150, 2, 2)), "dim 3"),
        (X + 1j, Y, "Complex data"),
    ],
)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_data_that_are_wrong_get_scikit_learns_words(kind, x, y, words) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        kind().fit(x, y)


def test_names_of_features_are_forgotten_and_asked_for() -> None:
    pandas = pytest.importorskip("pandas")
    model = fitted(x=pandas.DataFrame(X, columns=list("abcdef")), warm_start=True)
    assert list(model.feature_names_in_) == list("abcdef")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(X, Y)
    assert any("feature names" in str(w.message) for w in told if w.category is UserWarning)
    with pytest.raises(ValueError, match="features"), pytest.warns(UserWarning, match="feature names"):
        model.partial_fit(X[:, :5], Y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.set_params(warm_start=False).fit(X, Y)
    assert not hasattr(model, "feature_names_in_")


def error_of(call):
    """Return kind and words of the error that a call ends with, or None."""
    try:
        call()
    except ValueError as error:
        return type(error), str(error)
    return None


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_parameters_are_checked_as_scikit_learn_checks_them(kind, monkeypatch) -> None:
    defaults = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
    validate_parameter_constraints(kind._parameter_constraints, defaults, "")  # what is not looked at is right
    values = [
        *defaults.values(),
        0,
        -1,
        2.5,
        np.nan,
        np.inf,
        "",
        "adam",
        (3, 4),
        [],
        None,
        True,
        1e-3,
        np.float32(0.5),
        len,
    ]
    for name in defaults:
        for value in values:
            model = clone(kind()).set_params(**{name: value})
            given = kind._parameter_constraints, model.get_params(deep=False), kind.__name__
            expected = error_of(lambda g=given: validate_parameter_constraints(*g))
            found = error_of(model._validate_params)
            assert found == expected
            assert parameters.satisfied(model) == (expected is None)
    monkeypatch.setattr(weights.BaseEstimator, "_validate_params", lambda self: pytest.fail("the long way was taken"))
    kind(alpha=0.5, solver="sgd")._validate_params()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_scikit_learns_functions_check_less_where_they_are_called(method, early_stopping) -> None:
    """Its context is entered for them alone: it takes longer than ten steps of a small network."""
    seen = []

    class Asking(MLPClassifier):
        def _train(self, *given):
            seen.append(get_config()["skip_parameter_validation"])
            return super()._train(*given)

    model = Asking(max_iter=1, early_stopping=early_stopping)
    getattr(model, method)(X, Y, **({"classes": np.unique(Y)} if method == "partial_fit" else {}))
    assert seen == [early_stopping]
    assert not get_config()["skip_parameter_validation"]
    with pytest.raises(ValueError, match="The 'alpha' parameter of Asking must be"):
        Asking(alpha=-1.0).fit(X, Y)
    with config_context(skip_parameter_validation=True):
        Asking(alpha=-1.0, max_iter=1).fit(X, Y)


@pytest.mark.parametrize(("dtype", "n"), [(np.int8, 300), (np.int16, 70_000)])
def test_negative_classes_of_more_rows_than_the_dtype_has_numbers(dtype, n) -> None:
    y = np.resize([-1, 2], n).astype(dtype)
    np.testing.assert_array_equal(labels._unique(y), [-1, 2])


def test_a_subclass_checks_its_parameters_by_itself() -> None:
    class Strict(MLPClassifier):
        def _validate_params(self) -> None:
            raise RuntimeError("checked")

    with pytest.raises(RuntimeError, match="checked"):
        Strict().fit(X, Y)
