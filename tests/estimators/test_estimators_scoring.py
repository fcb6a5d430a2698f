"""What early stopping goes by: the score's own measure, the loss, scikit-learn's scorers, functions."""

import copy

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from sklearn.base import clone
from sklearn.metrics import get_scorer, make_scorer, median_absolute_error, roc_auc_score

from mlpx import MLPClassifier, MLPRegressor

TRAIN, OUT = slice(0, 100), slice(100, 150)
WEIGHT = np.linspace(0.1, 2.0, 50)
LABELS = (X[:, :3] > 0).astype(int)
MASK = (np.arange(3) != 2) | (Y[:, None] == 2)


def watched(kind, y, scoring, *rest, **params):
    """Return an estimator whose last epoch's weights, and no better ones, are in place."""
    parts = (X[OUT], y[OUT], *rest)
    return fitted(kind, x=X[TRAIN], y=y[TRAIN], scoring=scoring, validation_data=parts, **params)


@pytest.mark.parametrize(
    ("kind", "y", "scoring"),
    [
        (MLPClassifier, Y, "neg_log_loss"),
        (MLPClassifier, Y, "roc_auc_ovr"),
        (MLPClassifier, Y, "f1_macro"),
        (MLPClassifier, Y > 0, "roc_auc"),
        (MLPClassifier, np.array(["ant", "bee"])[(Y > 0).astype(int)], "average_precision"),
        (MLPClassifier, LABELS, "f1_macro"),
        (MLPRegressor, NUMBERS[:, 0], "neg_mean_absolute_error"),
        (MLPRegressor, NUMBERS, "neg_root_mean_squared_error"),
    ],
)
@pytest.mark.parametrize("weights", [(), (WEIGHT,)], ids=["plain", "weights"])
@pytest.mark.filterwarnings("ignore:y_pos_label")
def test_scores_are_those_of_scikit_learns_scorers(kind, y, scoring, weights) -> None:
    if scoring == "average_precision":
        scoring = make_scorer(
            lambda t, p, sample_weight=None: -np.average((p - (t == "bee")) ** 2, weights=sample_weight),
            response_method="predict_proba",
        )
    model = watched(kind, y, scoring, *weights)
    named = {"sample_weight": weights[0]} if weights else {}
    scorer = get_scorer(scoring) if isinstance(scoring, str) else scoring
    assert model.validation_scores_[-1] == pytest.approx(scorer(model, X[OUT], y[OUT], **named), rel=1e-9)


@pytest.mark.parametrize("loss", ["log_loss", "hinge"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs", "conjugate_gradient"])
def test_the_loss_scores_and_its_best_weights_come_back(loss, solver) -> None:
    parts = {"x": X[TRAIN], "y": Y[TRAIN], "validation_data": (X[OUT], Y[OUT]), "loss": loss, "solver": solver}
    parts |= {"max_iter": 40, "learning_rate_init": 0.05}
    weights = []
    model = fitted(
        **parts, scoring="loss", early_stopping=True, callbacks=[lambda e: weights.append(copy.deepcopy(e.coefs_))]
    )
    curve = model.validation_loss_curve_
    np.testing.assert_array_equal(model.validation_scores_, -np.array(curve))
    assert model.best_validation_score_ == -min(curve)
    np.testing.assert_array_equal(model.coefs_[0], weights[int(np.argmin(curve))][0])


def test_rare_classes_are_learnt_where_accuracy_does_not_move() -> None:
    rng = np.random.default_rng(0)

    def data(n):
        x = rng.normal(size=(n, 8))
        return x, (rng.random(n) < 1 / (1 + np.exp(6.2 - 1.5 * x[:, 0] - 1.5 * x[:, 1]))).astype(int)

    (x, y), (x_test, y_test) = data(4000), data(20000)
    settings = {"hidden_layer_sizes": (16,), "max_iter": 200, "learning_rate_init": 0.001, "early_stopping": True}
    by_accuracy, by_loss = (fitted(x=x, y=y, **settings, scoring=scoring) for scoring in (None, "loss"))
    areas = [roc_auc_score(y_test, model.predict_proba(x_test)[:, 1]) for model in (by_accuracy, by_loss)]
    assert areas[0] < 0.65
    assert areas[1] > 0.83


def test_functions_get_the_estimator_the_rows_and_their_weights() -> None:
    seen = []

    def plain(estimator, x, y):
        seen.append((estimator.predict(x), estimator.predict(x[:7]), estimator.n_iter_))
        return float(np.mean(estimator.predict(x) == y))

    def weighed(estimator, x, y, sample_weight=None):
        return estimator.score(x, y, sample_weight=sample_weight)

    model = watched(MLPClassifier, Y, plain, WEIGHT)
    assert len(seen) == 5
    np.testing.assert_array_equal(seen[-1][0], model.predict(X[OUT]))
    np.testing.assert_array_equal(seen[-1][1], model.predict(X[OUT])[:7])
    assert model.validation_scores_[-1] == model.score(X[OUT], Y[OUT])
    expected = watched(MLPClassifier, Y, None, WEIGHT).validation_scores_
    np.testing.assert_allclose(watched(MLPClassifier, Y, weighed, WEIGHT).validation_scores_, expected)
    numbers = watched(MLPRegressor, NUMBERS, make_scorer(median_absolute_error, greater_is_better=False))
    assert numbers.validation_scores_[-1] == -median_absolute_error(NUMBERS[OUT], numbers.predict(X[OUT]))


def test_held_out_rows_keep_their_masks() -> None:
    model = fitted(
        x=X[TRAIN], y=Y[TRAIN], mask=MASK[TRAIN], scoring="accuracy", validation_data=(X[OUT], Y[OUT], None, MASK[OUT])
    )
    assert model.validation_scores_[-1] == model.score(X[OUT], Y[OUT], mask=MASK[OUT])


def test_names_of_features_are_no_matter() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    fitted(x=frame, early_stopping=True, scoring=lambda e, x, y: float(np.mean(e.predict(x[:5]) == y[:5])))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("kind", "y", "scoring", "error", "said"),
    [
        (MLPClassifier, Y, "accurate", ValueError, "The 'scoring' parameter of MLPClassifier must be a str among"),
        (MLPClassifier, Y, 3, ValueError, "The 'scoring' parameter of MLPClassifier must be"),
        (MLPClassifier, Y, "roc_auc", ValueError, "scoring: 'roc_auc' cannot score the held-out rows: multi_class"),
        (MLPRegressor, NUMBERS, "accuracy", ValueError, "scoring: 'accuracy' cannot score the held-out rows: "),
        (
            MLPRegressor,
            NUMBERS,
            "neg_max_error",
            ValueError,
            "scoring: 'neg_max_error' cannot score the held-out rows: ",
        ),
        (
            MLPClassifier,
            Y,
            lambda e, x, y: None,
            TypeError,
            "scoring: the score of the held-out rows: expected a number",
        ),
        (MLPClassifier, Y, lambda e, x, y: np.nan, ValueError, "scoring: the score .*: expected a finite number"),
        (MLPClassifier, Y, lambda e, x, y: 1 / 0, ZeroDivisionError, "division by zero"),
    ],
)
def test_scorers_that_fail(kind, y, scoring, error, said, method) -> None:
    model = kind(scoring=scoring, early_stopping=True, max_iter=2)
    with pytest.raises(error, match=f"^{said}"):
        getattr(model, method)(
            X, y, **({"classes": [0, 1, 2]} if (kind, method) == (MLPClassifier, "partial_fit") else {})
        )
    assert not hasattr(model, "coefs_")


def test_calls_of_partial_fit_go_by_it() -> None:
    model = MLPClassifier(random_state=0, early_stopping=True, scoring="neg_log_loss", learning_rate_init=0.05)
    for _ in range(60):
        model.partial_fit(X[TRAIN], Y[TRAIN], classes=[0, 1, 2], X_val=X[OUT], y_val=Y[OUT])
        if model.stopped_:
            break
    assert model.stopped_
    assert get_scorer("neg_log_loss")(model, X[OUT], Y[OUT]) == pytest.approx(max(model.validation_scores_))
    assert clone(model).scoring == "neg_log_loss"


def test_without_rows_held_out_it_does_nothing() -> None:
    np.testing.assert_array_equal(fitted(scoring="roc_auc").coefs_[0], fitted().coefs_[0])
