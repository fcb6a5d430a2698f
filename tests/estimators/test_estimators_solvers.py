"""Every solver of the library behind the estimators, by name and as objects."""

import pickle
import warnings

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge

from mlpx import MLPClassifier, MLPRegressor, optimizers
from mlpx.optimizers import OPTIMIZERS, full_batch
from mlpx.optimizers.full_batch import FULL_BATCH

ON_BATCHES = sorted(set(OPTIMIZERS) - {"rprop"})


@pytest.mark.parametrize("solver", ON_BATCHES)
def test_names_of_the_library(solver) -> None:
    rate = 1.0 if solver == "adadelta" else 0.01
    model = fitted(solver=solver, learning_rate_init=rate, max_iter=30)
    assert model.loss_curve_[-1] < 0.9 * model.loss_curve_[0]
    again = fitted(solver=solver, learning_rate_init=rate, max_iter=2).partial_fit(X, Y)
    np.testing.assert_allclose(again.loss_curve_[:2], model.loss_curve_[:2], rtol=1e-12)


def test_rprop_takes_all_rows_for_a_step() -> None:
    x, y = np.tile(X, (2, 1)), np.tile(Y, 2)
    model = fitted(x=x, y=y, solver="rprop", max_iter=40)
    assert model._training.optimizer.steps == 40
    assert model.loss_ < 0.5 * model.loss_curve_[0]


def test_objects_are_names_with_options() -> None:
    solver = optimizers.Adam(lr=0.01)
    by_object, by_name = fitted(solver=solver), fitted(solver="adam")
    np.testing.assert_array_equal(by_object.coefs_[0], by_name.coefs_[0])
    assert solver.steps == 0
    assert not solver.state
    assert by_object.solver is solver
    copied = pickle.loads(pickle.dumps(by_object)).partial_fit(X, Y)
    np.testing.assert_allclose(copied.coefs_[0], by_name.partial_fit(X, Y).coefs_[0], rtol=1e-12, atol=1e-14)
    assert clone(by_object).solver == solver
    clipped = fitted(solver=optimizers.Adam(lr=0.01, clip_norm=1e-3))
    np.testing.assert_array_equal(clipped.coefs_[0], fitted(clip_norm=1e-3).coefs_[0])


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_penalties_of_an_object_come_beside_alpha(mode, monkeypatch) -> None:
    monkeypatch.setattr("mlpx.ops.dispatch._mode", mode)
    rows = 150
    plain = fitted(solver=optimizers.SGD(lr=0.1), alpha=0.6, batch_size=rows, max_iter=3)
    shared = fitted(solver=optimizers.SGD(lr=0.1, l2=0.4 / rows), alpha=0.2, batch_size=rows, max_iter=3)
    np.testing.assert_allclose(shared.coefs_[0], plain.coefs_[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", sorted(FULL_BATCH))
def test_all_rows_at_once(name) -> None:
    y = np.tanh(X[:, 0] * X[:, 1])
    params = {"activation": "tanh", "alpha": 0.0, "max_iter": 60, "hidden_layer_sizes": (6,)}
    model = fitted(MLPRegressor, y=y, solver=name, **params)
    assert model.loss_ < 0.3 * np.var(y) / 2
    assert model.loss_curve_[-1] == pytest.approx(model.loss_, rel=1e-6)
    np.testing.assert_allclose(model.loss_, np.mean((model.predict(X) - y) ** 2) / 2, rtol=1e-6)
    assert model.n_iter_ == len(model.loss_curve_) <= 60
    by_object = fitted(MLPRegressor, y=y, solver=FULL_BATCH[name](), **params)
    if name != "lbfgs":  # scikit-learn's has other tolerances
        np.testing.assert_array_equal(by_object.coefs_[0], model.coefs_[0])


@pytest.mark.parametrize("weighted", [False, True])
def test_the_minimum_of_a_full_batch_solver_is_ridge_regressions(weighted) -> None:
    weight = np.linspace(0.2, 2.0, 150) if weighted else None
    params = {"hidden_layer_sizes": (), "alpha": 3.0, "max_iter": 400}
    solver = full_batch.ConjugateGradient(tol=1e-9)
    model = fitted(MLPRegressor, y=NUMBERS, solver=solver, sample_weight=weight, **params)
    expected = Ridge(alpha=3.0).fit(X, NUMBERS, sample_weight=weight)
    np.testing.assert_allclose(model.coefs_[0], expected.coef_.T, rtol=1e-4, atol=1e-6)
    thin = fitted(MLPRegressor, y=NUMBERS, x=sparse.csr_array(X), solver=solver, sample_weight=weight, **params)
    np.testing.assert_allclose(thin.coefs_[0], model.coefs_[0], rtol=1e-4, atol=1e-6)


def test_iterations_that_do_not_suffice_are_told() -> None:
    with pytest.warns(ConvergenceWarning, match="3 iterations reached"):
        MLPClassifier(solver="conjugate_gradient", max_iter=3).fit(X, Y)


@pytest.mark.parametrize("solver", ["lbfgs", "conjugate_gradient", "adam"])
def test_callbacks_see_each_epoch_and_can_stop(solver, capsys) -> None:
    seen, predicted = [], []

    def stop_at_three(estimator):
        seen.append(estimator.loss_)
        predicted.append(estimator.predict_proba(X))
        return estimator.n_iter_ == 3

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MLPClassifier(
            solver=solver, callbacks=[stop_at_three, lambda estimator: None], verbose=True, random_state=0
        ).fit(X, Y)
    assert model.n_iter_ == 3
    assert seen == model.loss_curve_
    assert not np.array_equal(predicted[0], predicted[1])
    np.testing.assert_array_equal(model.predict_proba(X), predicted[-1])
    assert capsys.readouterr().out.splitlines()[2] == f"Iteration 3, loss = {seen[2]:.8f}"


@pytest.mark.parametrize(
    "params",
    [{"dropout": 0.1}, {"clip_norm": 1.0}, {"learning_rate": "cosine"}, {"validation_data": X}],
)
@pytest.mark.parametrize("solver", ["lbfgs", "conjugate_gradient"])
def test_what_solvers_of_all_rows_refuse(solver, params) -> None:
    with pytest.raises(ValueError, match="validation_data" if "validation_data" in params else solver):
        fitted(solver=solver, **params)


ALL_ROWS = ["lbfgs", "conjugate_gradient", "scaled_conjugate_gradient", full_batch.LBFGS()]
HELD = slice(100, 150)
NOISY = np.where(np.arange(150) % 4 == 0, (Y + 1) % 3, Y)  # nothing that could be learnt by heart helps


@pytest.mark.parametrize("solver", ALL_ROWS, ids=str)
def test_held_out_rows_are_looked_at_after_each_iteration(solver) -> None:
    seen = []

    def look(e):
        p = np.clip(e.predict_proba(X[HELD]), 1e-300, 1.0)
        seen.append(-np.log(p[np.arange(50), Y[HELD]]).mean())

    given = {"x": X[:100], "y": Y[:100], "solver": solver, "max_iter": 12}
    model = fitted(**given, validation_data=(X[HELD], Y[HELD]), callbacks=[look])
    np.testing.assert_allclose(model.validation_loss_curve_, seen, rtol=1e-9)
    assert len(seen) == len(model.validation_scores_) == model.n_iter_ == 12
    assert model.score(X[HELD], Y[HELD]) == model.validation_scores_[-1]
    assert model.best_validation_score_ is None
    assert not model.stopped_
    np.testing.assert_array_equal(model.coefs_[0], fitted(**given).coefs_[0])  # they only look
    assert not hasattr(fitted(**given), "validation_scores_")


@pytest.mark.parametrize("solver", ALL_ROWS, ids=str)
def test_early_stopping_by_rows_of_ones_own(solver, capsys) -> None:
    given = {"x": X[:100], "y": NOISY[:100], "solver": solver, "max_iter": 300, "hidden_layer_sizes": (40,)}
    model = fitted(**given, validation_data=(X[HELD], Y[HELD]), early_stopping=True, verbose=True)
    assert model.stopped_
    assert model.n_iter_ < 100
    assert model.best_validation_score_ == max(model.validation_scores_) > model.validation_scores_[-1]
    assert model.score(X[HELD], Y[HELD]) == model.best_validation_score_
    assert "for 10 consecutive iterations. Stopping." in capsys.readouterr().out


def test_early_stopping_holds_rows_out_as_other_solvers_do() -> None:
    model = fitted(solver="conjugate_gradient", early_stopping=True, max_iter=300, n_iter_no_change=5)
    by_steps = fitted(solver="adam", early_stopping=True)
    assert model.stopped_
    assert len(model.validation_scores_) == model.n_iter_
    first = fitted(solver="conjugate_gradient", early_stopping=True, max_iter=1)
    rows, held_out = first._hold_out(first._rows(X, Y, None, None, False), None, 0)
    assert (rows.n, held_out.n) == (135, 15)
    assert len(by_steps.validation_scores_) == by_steps.n_iter_


def test_scikit_learns_lbfgs_passes_early_stopping_over() -> None:
    model = fitted(solver="lbfgs", early_stopping=True, max_iter=20)
    np.testing.assert_array_equal(model.coefs_[0], fitted(solver="lbfgs", max_iter=20).coefs_[0])
    assert not hasattr(model, "validation_scores_")


@pytest.mark.parametrize("solver", ALL_ROWS, ids=str)
def test_batch_norm_over_all_rows(solver) -> None:
    seen = []

    def look(e):
        z = X @ e.coefs_[0] + e.intercepts_[0]
        np.testing.assert_allclose(e.norms_[0]["mean"], z.mean(axis=0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(e.norms_[0]["var"], z.var(axis=0, ddof=1), rtol=1e-9)
        seen.append(e.score(X, Y))

    given = {"solver": solver, "batch_norm": True, "max_iter": 40}
    model = fitted(**given, callbacks=[look])
    look(model)
    assert model.loss_ < 0.5 * model.loss_curve_[0]
    assert seen[-1] > 0.85
    np.testing.assert_array_equal(model.coefs_[0], fitted(**given).coefs_[0])


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"solver": "adams"}, "'solver' parameter"),
        ({"solver": optimizers.Adam}, "'solver' parameter"),
        ({"learning_rate": "cosinus"}, "'learning_rate' parameter"),
        ({"solver": optimizers.Adam(clip_norm=1.0), "clip_norm": 1.0}, "clip_norm: is given twice"),
        ({"solver": optimizers.Adam(schedule="cosine"), "learning_rate": "cosine"}, "in one place"),
        ({"solver": "levenberg_marquardt"}, "LevenbergMarquardt needs the loss"),
    ],
)
def test_what_cannot_work(params, words) -> None:
    with pytest.raises(ValueError, match=words):
        fitted(**params)


# --- warm starts ------------------------------------------------------------------------------------------------------


def test_a_warm_start_that_keeps_the_optimiser_is_one_long_fit() -> None:
    whole = fitted(max_iter=6, shuffle=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        parts = fitted(max_iter=3, shuffle=False, warm_start=True, warm_start_optimizer=True).fit(X, Y)
        restarted = fitted(max_iter=3, shuffle=False, warm_start=True).fit(X, Y)
        cold = fitted(max_iter=3, shuffle=False, warm_start_optimizer=True).fit(X, Y)
    np.testing.assert_allclose(parts.coefs_[0], whole.coefs_[0], rtol=1e-10, atol=1e-13)
    assert np.abs(restarted.coefs_[0] - whole.coefs_[0]).max() > 1e-4
    np.testing.assert_array_equal(cold.coefs_[0], fitted(max_iter=3, shuffle=False).coefs_[0])


@pytest.mark.filterwarnings("ignore:Stochastic")
def test_state_that_no_longer_fits_is_dropped() -> None:
    model = fitted(max_iter=3, warm_start=True, warm_start_optimizer=True)
    model.set_params(dtype="float32").partial_fit(X, Y)
    assert model._training.optimizer.steps == 1
    assert model._training.optimizer.state[0].shape == model._net.parameters.shape
