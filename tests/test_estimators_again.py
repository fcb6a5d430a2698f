"""Going on from an earlier call: from weights that may not be written to, by scores of before, after a warning."""

import warnings

import joblib
import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor

from mlpx import MLPClassifier, MLPRegressor

quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@quiet
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("mode", ["r", "c"])
def test_an_estimator_on_a_mapped_file_goes_on_from_copies(mode, solver, tmp_path) -> None:
    """joblib hands large arrays to its workers so."""
    model = fitted(solver=solver)
    joblib.dump(model, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode=mode)
    np.testing.assert_array_equal(mapped.predict_proba(X), model.predict_proba(X))
    for each in (model, mapped):
        each.set_params(warm_start=True, warm_start_optimizer=True).fit(X, Y)
        if solver != "lbfgs":
            each.partial_fit(X, Y)
    for one, other in zip(mapped.coefs_, model.coefs_, strict=True):
        np.testing.assert_array_equal(one, other)
    fresh = joblib.load(tmp_path / "model", mmap_mode="r")
    if solver != "lbfgs":
        fresh.partial_fit(X, Y)


@quiet
def test_weights_that_are_marked_read_only_are_left_alone() -> None:
    model = fitted()
    weights, before = model.coefs_[0], model.coefs_[0].copy()
    weights.flags.writeable = False
    model.partial_fit(X, Y)
    np.testing.assert_array_equal(weights, before)
    assert not np.array_equal(model.coefs_[0], before)


@quiet
@pytest.mark.parametrize(
    ("ours", "theirs", "y"), [(MLPClassifier, TheirClassifier, Y), (MLPRegressor, TheirRegressor, NUMBERS[:, 0])]
)
@pytest.mark.parametrize("max_iter", [1, 7])
def test_warm_starts_with_early_stopping_are_those_of_scikit_learn(ours, theirs, y, max_iter) -> None:
    """The best score of the fits before is to be beaten, and where it is not the last weights stay."""
    params = {"hidden_layer_sizes": (8,), "warm_start": True, "early_stopping": True, "learning_rate_init": 0.01}
    one, other = (kind(**params, max_iter=max_iter, random_state=0) for kind in (ours, theirs))
    for _ in range(12):
        one.fit(X, y)
        other.fit(X, y)
        assert one.best_validation_score_ == pytest.approx(other.best_validation_score_, rel=1e-9)
        for w, expected in zip(one.coefs_, other.coefs_, strict=True):
            np.testing.assert_allclose(w, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "params", [{}, {"early_stopping": True}, {"solver": "lbfgs"}, {"solver": "conjugate_gradient"}]
)
def test_a_warning_that_is_made_an_error_leaves_the_fit(params) -> None:
    model = MLPClassifier((8,), max_iter=2, random_state=0, **params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConvergenceWarning, match=r"onverge") as told:
            model.fit(X, Y)
    assert told.traceback[0].path.name == "test_estimators_again.py"
    assert model.n_iter_ == 2
    assert model.loss_ == model.loss_curve_[-1]
    expected = MLPClassifier((8,), max_iter=2, random_state=0, **params)
    with pytest.warns(ConvergenceWarning) as told:
        expected.fit(X, Y)
    assert [each.filename for each in told] == [__file__]
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))


@quiet
@pytest.mark.parametrize("batch_size", [np.int64(50), np.uint8(50), True], ids=repr)
def test_numbers_of_rows_that_are_no_int_of_pythons(batch_size) -> None:
    np.testing.assert_array_equal(
        fitted(batch_size=batch_size, max_iter=2).coefs_[0], fitted(batch_size=int(batch_size), max_iter=2).coefs_[0]
    )


def test_a_network_that_is_put_together_by_hand() -> None:
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape) for shape in ((6, 3), (3, 1))]
    outputs = []
    for kind in (MLPRegressor, TheirRegressor):
        model = kind(activation="tanh")
        model.coefs_, model.intercepts_ = [w.copy() for w in weights], [np.zeros(3), np.ones(1)]
        model.n_layers_, model.n_outputs_, model.out_activation_ = 3, 1, "identity"
        outputs.append(model.predict(X))
    np.testing.assert_allclose(*outputs)


def test_rows_too_large_for_the_dtype_of_the_weights() -> None:
    model = fitted(dtype="float32")
    with pytest.raises(ValueError, match=r"^X: holds numbers too large for float32, the dtype of the weights"):
        model.predict(np.where(X[0, 0] == X, 1e39, X))
