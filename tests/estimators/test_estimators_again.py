"""Going on from an earlier call: from weights that may not be written to, by scores of before, after a warning."""

import signal
import warnings

import joblib
import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor

from mlpx import MLPClassifier, MLPRegressor
from mlpx.estimators import prediction

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
    unchanged = joblib.load(tmp_path / "model")
    for one, other in zip(unchanged.coefs_, fitted(solver=solver).coefs_, strict=True):
        np.testing.assert_array_equal(one, other)
    if solver != "lbfgs":
        fresh = joblib.load(tmp_path / "model", mmap_mode=mode).partial_fit(X, Y)
        for one, other in zip(fresh.coefs_, unchanged.partial_fit(X, Y).coefs_, strict=True):
            np.testing.assert_array_equal(one, other)


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


@quiet
def test_warm_starts_with_the_same_validation_data_keep_the_best_weights() -> None:
    rows = X[100:], Y[100:]
    model = MLPClassifier(
        (8,), warm_start=True, early_stopping=True, max_iter=4, learning_rate_init=0.1, random_state=1
    )
    for _ in range(5):
        model.fit(X[:100], Y[:100], validation_data=rows)
        assert model.score(*rows) == model.best_validation_score_


@quiet
def test_calls_after_a_warm_start_that_brought_no_better_score() -> None:
    model = MLPClassifier((8,), warm_start=True, early_stopping=True, max_iter=40, n_iter_no_change=2, random_state=0)
    for _ in range(3):
        model.fit(X, Y)
    while not model.stopped_:
        model.partial_fit(X, Y)
    before = model.coefs_[0].copy()
    np.testing.assert_array_equal(model.restore_best().coefs_[0], before)


@pytest.mark.parametrize(
    "params", [{}, {"early_stopping": True}, {"solver": "lbfgs"}, {"solver": "conjugate_gradient"}]
)
def test_a_warning_that_is_made_an_error_leaves_the_fit(params) -> None:
    model = MLPClassifier((8,), max_iter=2, random_state=0, **params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConvergenceWarning, match="converge"):
            model.fit(X, Y)
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


def test_a_network_that_is_put_together_by_hand_and_mended() -> None:
    model = MLPRegressor()
    model.n_layers_, model.n_outputs_, model.out_activation_ = 2, 1, "identity"
    model.intercepts_ = [np.ones(1)]
    for wrong, said in (([np.ones(5)], "has shape"), ([np.ones((5, 1))], "5"), ([1.0], "has shape")):
        model.coefs_ = wrong
        with pytest.raises(ValueError, match=said):
            model.predict(X)
    model.coefs_ = [np.ones((6, 1))]
    np.testing.assert_allclose(model.predict(X), X.sum(axis=1) + 1.0)
    assert not hasattr(model, "n_features_in_")


@pytest.mark.parametrize("shape", [(40,), (40, 1), (1, 40), (8, 5)])
@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_numbers_are_looked_at_in_blocks(shape, order, monkeypatch) -> None:
    monkeypatch.setattr(prediction, "CONVERTED_AT_ONCE", 3)
    x = np.ones(shape)
    x = np.repeat(x, 2, axis=0)[::2] if order == "strided" else np.array(x, order=order)
    looked_at, isfinite = [], np.isfinite
    monkeypatch.setattr(np, "isfinite", lambda part: looked_at.append(part.size) or isfinite(part))
    assert prediction.all_finite(x)
    assert sum(looked_at) == x.size
    assert max(looked_at) <= (3 if order != "strided" else max(3, x.shape[-1]))
    for place in np.ndindex(shape):
        x[place] = np.nan
        assert not prediction.all_finite(x)
        x[place] = 1.0


def test_rows_too_large_for_the_dtype_of_the_weights() -> None:
    model = fitted(dtype="float32")
    with pytest.raises(ValueError, match=r"^X: holds numbers too large for float32, the dtype of the weights"):
        model.predict(np.where(X[0, 0] == X, 1e39, X))
    assert model.predict_proba(X).dtype == np.float32


@pytest.mark.parametrize("solver", ["adam", "lbfgs", "conjugate_gradient"])
def test_ctrl_c_in_what_was_the_last_epoch_anyway_is_told(solver) -> None:
    def press(model) -> bool:
        signal.raise_signal(signal.SIGINT)
        return True

    with pytest.warns(UserWarning, match="^Training interrupted by user") as told:
        model = MLPClassifier((8,), solver=solver, random_state=0, callbacks=[press]).fit(X, Y)
    assert len(told) == 1
    assert model.n_iter_ == 1
