"""Bad input to the estimators' parameters and methods: the error names the argument, and nothing is changed."""

import inspect
from decimal import Decimal
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from scipy.sparse import csr_array

from mlpx import MLPClassifier, MLPRegressor

NO_NUMBERS = {
    "an int beyond floats": 10**400,
    "a span of time": np.timedelta64(3, "D"),
    "a date": np.datetime64("2020-01-01"),
    "void": np.void(b"abc"),
    "Decimal": Decimal("0.5"),
    "Fraction": Fraction(1, 2),
    "complex": np.complex64(0.1 + 9j),
    "bytes": b"1",
    "text": "1",
    "a class": int,
    "a set": {3},
    "an array": np.array([0.1, 0.2]),
    "NaN": np.nan,
}
NUMERIC = {
    MLPClassifier: (
        "alpha", "batch_size", "learning_rate_init", "power_t", "max_iter", "tol", "verbose", "random_state",
        "momentum", "validation_fraction", "beta_1", "beta_2", "epsilon", "n_iter_no_change", "max_fun", "focus",
        "dropout", "label_smoothing", "clip_norm", "n_threads",
    ),
    MLPRegressor: ("delta",),
}  # fmt: skip


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in NUMERIC.items() for name in names])
def test_parameters_that_are_no_plain_numbers(kind, name, value) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^The '{name}' parameter of {kind.__name__} must be"):
        kind(**{name: NO_NUMBERS[value]}).fit(X, Y)


def test_every_other_parameter_is_none_of_these() -> None:
    """So that a new one is thought of."""
    named = {
        "hidden_layer_sizes",
        "activation",
        "solver",
        "learning_rate",
        "loss",
        "class_weight",
        "scoring",
        "callbacks",
    }
    named |= {
        "shuffle",
        "warm_start",
        "nesterovs_momentum",
        "early_stopping",
        "batch_norm",
        "layer_norm",
        "dtype",
        "device",
    }
    named |= {"warm_start_optimizer", "progress_bar", "quantiles"}
    for kind in NUMERIC:
        assert set(inspect.signature(kind).parameters) <= named | set(NUMERIC[MLPClassifier]) | set(NUMERIC[kind])


@pytest.mark.parametrize(
    ("sizes", "error", "said"),
    [
        ({8, 64}, TypeError, r"expected a sequence of numbers, got \{.*\(set\)"),
        ({8: 1}, TypeError, r"expected a sequence of numbers, got \{8: 1\} \(dict\)"),
        ((8, None), TypeError, "expected a whole number, got None"),
        ((8, 2.5), TypeError, "expected a whole number, got 2.5"),
        ((10**400,), ValueError, "expected a whole number of at most 2147483647, got 1000"),
        (2**40, ValueError, "expected a whole number of at most 2147483647"),
        ((0,), ValueError, "expected a whole number of at least 1, got 0"),
        (np.timedelta64(3, "D"), ValueError, "parameter of MLPClassifier must be"),
    ],
)
def test_widths_that_are_none(sizes, error, said) -> None:
    with pytest.raises(error, match=f"hidden_layer_sizes.*{said}"):
        MLPClassifier(sizes).fit(X, Y)


@pytest.mark.parametrize("quantiles", [{0.1, 0.9}, {0.1: 1}, np.array(0.5)])
def test_quantiles_that_have_no_order(quantiles) -> None:
    with pytest.raises(TypeError, match=r"^quantiles: expected a sequence"):
        MLPRegressor(loss="quantile", quantiles=quantiles).fit(X, NUMBERS[:, 0])


# --- methods ----------------------------------------------------------------------------------------------------------

ROWS = {
    "None": None,
    "text": "abc",
    "a number": 3,
    "ints beyond floats": [[10**400] * 6] * 150,
    "one axis": X[:, 0],
    "three axes": X[None],
    "complex": X + 1j,
    "words": np.full((150, 6), "a"),
    "ragged": [[1, 2], [3]],
    "a dict": {"a": 1},
    "a generator": (row for row in X),
    "empty": X[:0],
    "NaN": np.where(X > 2, np.nan, X),
    "another width": X[:, :3],
    "void": np.zeros((150, 6), "V4"),
    "a class": int,
}
COLUMNS = {
    **{
        name: ROWS[name]
        for name in ("text", "ints beyond floats", "three axes", "complex", "ragged", "a dict", "a class")
    },
    "words": np.full(150, "a"),
    "too few": np.ones(7),
    "two columns of names": np.full((150, 2), "a"),
    "NaN": np.full(150, np.nan),
}


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("kind", "y"), [(MLPClassifier, Y), (MLPRegressor, NUMBERS)])
def test_rows(kind, y, rows) -> None:
    model, x = fitted(kind, y=y, warm_start=True), ROWS[rows]
    before = model.coefs_[0].copy()
    calls = [lambda: model.fit(x, y), lambda: model.partial_fit(x, y), lambda: model.score(x, y)]
    names = ("predict", "predict_proba", "predict_log_proba", "gradients", "integrated_gradients", "plot_importance")
    calls += [partial(getattr(model, name), x) for name in names if hasattr(model, name)]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=r"^[^\n]*\bX\b"):
            call()
    with pytest.raises((TypeError, ValueError), match=r"^X_val"):
        model.fit(X, y, X_val=x, y_val=y)
    with pytest.raises((TypeError, ValueError), match=r"^validation_data: "):
        model.fit(X, y, validation_data=(x, y))
    np.testing.assert_array_equal(model.coefs_[0], before)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize(("kind", "y"), [(MLPClassifier, Y), (MLPRegressor, NUMBERS)])
def test_targets_and_weights(kind, y, column) -> None:
    model, given = fitted(kind, y=y), COLUMNS[column]
    if not (kind is MLPClassifier and column == "words"):
        for call in (lambda: kind().fit(X, given), lambda: model.partial_fit(X, given), lambda: model.score(X, given)):
            with pytest.raises((TypeError, ValueError), match=r"^[^\n]*\by\b"):
                call()
        with pytest.raises((TypeError, ValueError), match=r"^X_val, y_val: "):
            model.fit(X, y, X_val=X, y_val=given)
    for call in (
        lambda: model.fit(X, y, sample_weight=given),
        lambda: model.partial_fit(X, y, sample_weight=given),
        lambda: model.score(X, y, sample_weight=given),
        lambda: model.fit(X, y, X_val=X, y_val=y, sample_weight_val=given),
    ):
        with pytest.raises((TypeError, ValueError), match=r"^[^\n]*sample_weight"):
            call()


@pytest.mark.parametrize("classes", [None, 3, "abc", 10**400, {0: 1}, np.ones((3, 2)), [0, None], [0.5, 1.5], int])
def test_classes(classes) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^[^\n]*\bclasses\b"):
        MLPClassifier().partial_fit(X, Y, classes=classes)


@pytest.mark.parametrize(
    "baseline",
    [
        None,
        "1",
        1j,
        np.nan,
        np.inf,
        np.datetime64("2020-01-01"),
        X + 1j,
        X.astype(str),
        [[1], [2, 3]],
        csr_array(X),
        int,
    ],
    ids=lambda each: type(each).__name__,
)
def test_baselines(baseline) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^baseline: "):
        fitted().integrated_gradients(X, baseline)


@pytest.mark.parametrize("steps", [None, 0, 1.5, "x", 10**400, True])
def test_steps(steps) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^steps: expected a whole number"):
        fitted().integrated_gradients(X, steps=steps)
