"""Early stopping across calls of ``partial_fit``, curves of validation, and what watches a fit."""

import copy
import pickle

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.model_selection import train_test_split

from mlpx import EarlyStopping, MLPClassifier, MLPRegressor

TRAIN, HELD_OUT = (X[:100], Y[:100]), (X[100:], Y[100:])


def calls(n, model, *rows, **given):
    """Call ``partial_fit`` so many times, or until early stopping ends that."""
    for _ in range(n):
        model.partial_fit(*rows, **given)
        if model.stopped_:
            break
    return model


PARAMS = {
    "hidden_layer_sizes": (8, 5), "early_stopping": True, "learning_rate_init": 0.02, "n_iter_no_change": 3,
    "max_iter": 200, "shuffle": False, "random_state": 0,
}  # fmt: skip


def test_a_loop_of_calls_ends_where_fit_does() -> None:
    whole = MLPClassifier(**PARAMS).fit(*TRAIN, validation_data=HELD_OUT)
    assert whole.stopped_
    loop = MLPClassifier(**PARAMS)
    for _ in range(200):
        loop.partial_fit(*TRAIN, classes=[0, 1, 2], validation_data=HELD_OUT)
        if loop.stopped_:
            break
    assert len(loop.validation_scores_) == len(whole.validation_scores_) < 200
    np.testing.assert_allclose(loop.validation_loss_curve_, whole.validation_loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(loop.coefs_[0], whole.coefs_[0], rtol=1e-9, atol=1e-12)
    assert loop.score(*HELD_OUT) == loop.best_validation_score_ == max(loop.validation_scores_)


def test_after_the_end_nothing_changes_and_is_told() -> None:
    model = calls(100, MLPClassifier(**PARAMS), *TRAIN, classes=[0, 1, 2], validation_data=HELD_OUT)
    assert model.stopped_
    before, length = model.coefs_[0].copy(), len(model.loss_curve_)
    for each in (model, pickle.loads(pickle.dumps(model))):
        with pytest.warns(UserWarning, match=r"^partial_fit: early stopping has ended .*early_stopping=False, or fit"):
            each.partial_fit(*TRAIN, validation_data=HELD_OUT)
        np.testing.assert_array_equal(each.coefs_[0], before)
        assert len(each.loss_curve_) == length
        assert each.stopped_
        each.set_params(early_stopping=False).partial_fit(*TRAIN)
        assert not np.array_equal(each.coefs_[0], before)
        assert not each.set_params(early_stopping=True).partial_fit(*TRAIN).stopped_
    model.fit(*TRAIN, validation_data=HELD_OUT)
    assert len(model.loss_curve_) == model.n_iter_


def test_after_a_stopped_fit_calls_learn() -> None:
    model = MLPClassifier(**PARAMS).fit(*TRAIN, validation_data=HELD_OUT)
    assert model.stopped_
    other = X[::-1], (X[::-1, 0] > 0).astype(int)
    for each in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        length = len(each.validation_scores_)
        assert each.partial_fit(*other).validation_scores_[-1] == each.best_validation_score_
        assert len(each.validation_scores_) == length + 1
        calls(300, each.set_params(n_iter_no_change=30), *other)
        assert each.stopped_
        assert each.score(*other) > 0.8
        assert max(each.validation_scores_[length:]) == each.best_validation_score_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_another_measure_is_counted_anew() -> None:
    """Epochs whose score did not improve are none whose loss did not."""
    model = MLPClassifier(**(PARAMS | {"warm_start": True})).fit(*TRAIN, validation_data=HELD_OUT)
    assert model.stopped_
    assert model.set_params(early_stopping=False, tol=0.0, max_iter=20).fit(*TRAIN).n_iter_ == 20
    model.set_params(tol=1.0, max_iter=200).fit(*TRAIN)
    fresh = MLPClassifier(**PARAMS).fit(*TRAIN, validation_data=HELD_OUT)
    assert model.set_params(early_stopping=True, tol=1e-4).fit(*TRAIN, validation_data=HELD_OUT).n_iter_ > 3
    assert fresh.stopped_


def test_a_warm_start_that_has_converged_already_tells() -> None:
    """Its counter is scikit-learn's, which lives on from fit to fit."""
    params = {"hidden_layer_sizes": (16,), "tol": 1e-2, "learning_rate_init": 0.02, "random_state": 0}
    y = (X[:, 0] > 0).astype(int)
    model = MLPClassifier(**params, warm_start=True, max_iter=500).fit(X, y)
    idle = model._watch.idle
    with pytest.warns(
        ConvergenceWarning, match=f"^warm_start: the fit ended after 1 epoch.* {idle + 1} in a row"
    ) as told:
        model.fit(X, 1 - y)
    assert [each.filename for each in told] == [__file__]
    with pytest.warns(ConvergenceWarning):
        model.set_params(n_iter_no_change=300).fit(X, 1 - y)
    assert model.n_iter_ > 200
    assert model.score(X, 1 - y) > 0.9


def test_the_best_weights_are_kept_aside_until_they_are_asked_for() -> None:
    noise = np.random.default_rng(0).standard_normal(150)  # it can only be learnt by heart
    model = MLPRegressor(**{**PARAMS, "n_iter_no_change": 1000})
    held_out, kept = (X[100:], noise[100:]), []
    for _ in range(30):
        model.partial_fit(X[:100], noise[:100], validation_data=held_out)
        kept.append(copy.deepcopy(model.coefs_))
    best = int(np.argmax(model.validation_scores_))
    assert best < 29
    np.testing.assert_array_equal(model.coefs_[0], kept[-1][0])
    copied = pickle.loads(pickle.dumps(model))
    for each in (model, copied):
        assert each.restore_best() is each
        np.testing.assert_array_equal(each.coefs_[0], kept[best][0])
        np.testing.assert_allclose(each.score(*held_out), max(model.validation_scores_), rtol=1e-12)
    with pytest.raises(ValueError, match="no best weights"):
        MLPClassifier().restore_best()
    with pytest.raises(ValueError, match="no best weights"):
        fitted().restore_best()


def test_rows_are_held_out_of_each_call() -> None:
    """With an int for a seed the same ones of the same rows, which are those of ``fit``."""
    kept, out = train_test_split(np.arange(150), random_state=0, test_size=0.1)
    by_share = calls(5, MLPClassifier(**PARAMS), X, Y, classes=[0, 1, 2])
    by_hand = calls(5, MLPClassifier(**PARAMS), X[kept], Y[kept], classes=[0, 1, 2], validation_data=(X[out], Y[out]))
    assert len(set(by_share.validation_loss_curve_)) == 5
    np.testing.assert_allclose(by_share.validation_scores_, by_hand.validation_scores_)
    with pytest.raises(ValueError, match="validation set is too small"):
        MLPClassifier(early_stopping=True).partial_fit(X[:5], Y[:5], classes=[0, 1, 2])


def test_without_early_stopping_validation_data_is_only_looked_at() -> None:
    watched = calls(4, MLPClassifier(random_state=0), *TRAIN, classes=[0, 1, 2], validation_data=HELD_OUT)
    plain = calls(4, MLPClassifier(random_state=0), *TRAIN, classes=[0, 1, 2])
    np.testing.assert_array_equal(watched.coefs_[0], plain.coefs_[0])
    assert len(watched.validation_scores_) == len(watched.validation_loss_curve_) == 4
    assert not watched.stopped_
    assert plain.validation_loss_curve_ is None


# --- the curve of validation losses -----------------------------------------------------------------------------------


def test_the_curve_is_the_loss_without_the_penalty() -> None:
    model = fitted(x=TRAIN[0], y=TRAIN[1], validation_data=HELD_OUT, alpha=10.0)
    expected = log_loss(HELD_OUT[1], model.predict_proba(HELD_OUT[0]), labels=[0, 1, 2])
    np.testing.assert_allclose(model.validation_loss_curve_[-1], expected, rtol=1e-9)
    weight = np.linspace(0.0, 2.0, 50)
    both = fitted(MLPRegressor, x=X[:100], y=NUMBERS[:100], validation_data=(X[100:], NUMBERS[100:], weight))
    expected = mean_squared_error(NUMBERS[100:], both.predict(X[100:]), sample_weight=weight) / 2
    np.testing.assert_allclose(both.validation_loss_curve_[-1], expected, rtol=1e-9)
    assert len(fitted(early_stopping=True).validation_loss_curve_) == 5


def test_sparse_rows_are_held_out_alike(monkeypatch) -> None:
    from scipy.sparse import csr_array

    monkeypatch.setattr("mlpx.estimators.validation.DENSE_ELEMENTS", 45)
    weight = np.linspace(0.0, 2.0, 50)
    dense, thin = (
        fitted(x=kind(X[:100]), y=Y[:100], validation_data=(kind(X[100:]), Y[100:], weight))
        for kind in (np.array, csr_array)
    )
    np.testing.assert_allclose(thin.validation_loss_curve_, dense.validation_loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(thin.validation_scores_, dense.validation_scores_)


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        (MLPClassifier, (X, Y + 1), "validation_data: y has classes"),
        (MLPClassifier, (X[:, :2], Y), "features"),
        (MLPClassifier, (X,), r"validation_data: expected a tuple \(X, y\[, sample_weight\[, mask\]\]\), got tuple"),
        (MLPClassifier, 0.1, "expected a tuple .* got float"),
        (MLPClassifier, (X, Y, -np.ones(150)), "sample_weight: holds negative values"),
        (MLPRegressor, (X, Y, None, np.ones((150, 3))), r"expected a tuple \(X, y\[, sample_weight\]\)"),
    ],
)
def test_validation_data_that_cannot_work(kind, data, words) -> None:
    with pytest.raises(ValueError, match=words):
        fitted(kind, validation_data=data)


# --- watching a fit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_progress_bar(solver, capsys) -> None:
    model = fitted(solver=solver, progress_bar=True, max_iter=7)
    said = capsys.readouterr()
    assert f"loss {model.loss_curve_[-1]:.4f}" in said.err
    assert "7/7" in said.err
    assert not said.out
    fitted(solver=solver, progress_bar="auto")
    fitted(solver=solver)
    MLPClassifier(progress_bar=True).partial_fit(X, Y, classes=[0, 1, 2])
    assert not capsys.readouterr().err
    with pytest.raises(ValueError, match="'progress_bar' parameter"):
        fitted(progress_bar="yes")


class Recorder:
    """A callback of scikit-learn's."""

    def __init__(self, stop_after=None):
        self.said, self.scores, self.stop_after = [], [], stop_after

    def setup(self, estimator, context):
        self.said.append("setup")

    def teardown(self, estimator, context):
        self.said.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.said.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        self.said.append(f"end {context.task_name}")
        self.scores.append(fitted_estimator)
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_after


def test_callbacks_that_are_none() -> None:
    with pytest.raises(ValueError, match="callbacks: expected functions of the estimator, got EarlyStopping"):
        fitted(callbacks=[EarlyStopping()])


def test_callbacks_of_scikit_learn() -> None:
    pytest.importorskip("sklearn.callback", reason="scikit-learn has no callbacks before 1.9")
    recorder = Recorder(stop_after=3)
    model = MLPClassifier(random_state=0).set_callbacks(recorder).fit(X, Y)
    epoch = ["begin epoch", "end epoch"]
    assert recorder.said == ["setup", "begin fit", *epoch * 3, "end fit", "teardown"]
    assert model.n_iter_ == 3
    outputs = [each.predict_proba(X) for each in recorder.scores]
    np.testing.assert_array_equal(outputs[-1], model.predict_proba(X))
    assert not np.array_equal(outputs[0], outputs[1])
    recorder.said.clear()
    with pytest.raises(ValueError, match="NaN"):
        model.fit(X * np.nan, Y)
    assert recorder.said == ["setup", "begin fit", "teardown"]
    assert not hasattr(model, "_callback_fit_ctx")
    np.testing.assert_array_equal(model.predict_proba(X), outputs[-1])


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_scikit_learns_scoring_monitor(solver) -> None:
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has no callbacks before 1.9")
    monitor, seen = callback.ScoringMonitor(scoring="accuracy"), []
    MLPClassifier(
        solver=solver, max_iter=6, random_state=0, callbacks=[lambda e: seen.append(e.score(X, Y)) or e.n_iter_ == 5]
    ).set_callbacks(monitor).fit(X, Y)
    scores = [row["accuracy"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    np.testing.assert_allclose(scores, seen)
