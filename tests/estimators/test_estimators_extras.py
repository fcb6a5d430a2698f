"""What the estimators can do beyond scikit-learn's; that the defaults change nothing is the parity grid's to show."""

import matplotlib
import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted

from mlpx import MLPClassifier, MLPRegressor
from mlpx.estimators.fitted import dense_layers
from mlpx.ops._activation import TABLE


@pytest.mark.parametrize("activation", sorted(TABLE))
def test_every_activation_learns(activation) -> None:
    curve = fitted(activation=activation, learning_rate_init=0.003, max_iter=15).loss_curve_
    assert curve[-1] < curve[0]


def test_an_activation_for_each_layer() -> None:
    mixed = fitted(activation=("tanh", "relu"))
    assert [layer.activation for layer in dense_layers(mixed._net)] == ["tanh", "relu", "identity"]
    np.testing.assert_array_equal(mixed.coefs_[0], fitted(activation=["tanh", "relu"]).coefs_[0])
    same = fitted(activation=("tanh", "tanh"))
    np.testing.assert_array_equal(same.predict_proba(X), fitted(activation="tanh").predict_proba(X))
    with pytest.raises(ValueError, match="1 names for 2 hidden layers"):
        fitted(activation=("tanh",))
    with pytest.raises(ValueError, match="Did you mean 'tanh'"):
        fitted(activation=("tanh", "tanhh"))


def test_dropout_acts_in_training_alone() -> None:
    plain, dropped, again = fitted(), fitted(dropout=0.5), fitted(dropout=0.5)
    np.testing.assert_array_equal(dropped.coefs_[0], again.coefs_[0])
    np.testing.assert_array_equal(dropped.predict_proba(X), dropped.predict_proba(X))
    assert np.abs(dropped.coefs_[0] - plain.coefs_[0]).max() > 1e-3
    other = fitted(dropout=0.5, random_state=1, warm_start=True)
    before = other.coefs_[0].copy()
    other.set_params(dropout=0.0).predict(X)
    np.testing.assert_array_equal(other.coefs_[0], before)


@pytest.mark.parametrize("weights", ["balanced", {0: 2.0, 1: 0.5, 2: 1.0}])
def test_class_weights_are_sample_weights(weights) -> None:
    counts = np.bincount(Y)
    by_class = len(Y) / (3 * counts) if weights == "balanced" else np.array([weights[c] for c in range(3)])
    given, by_hand = fitted(class_weight=weights), fitted(sample_weight=by_class[Y])
    np.testing.assert_allclose(given.coefs_[0], by_hand.coefs_[0], rtol=1e-12)
    twice = fitted(class_weight=weights, sample_weight=np.linspace(0.5, 2.0, len(Y)))
    by_hand = fitted(sample_weight=by_class[Y] * np.linspace(0.5, 2.0, len(Y)))
    np.testing.assert_allclose(twice.coefs_[0], by_hand.coefs_[0], rtol=1e-12)


def test_balanced_weights_need_all_rows() -> None:
    with pytest.raises(ValueError, match="balanced"):
        MLPClassifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1, 2])


@pytest.mark.parametrize(("y", "floor"), [(Y, 0.1), (Y > 0, 0.15)])
def test_label_smoothing_spreads_the_targets(y, floor) -> None:
    smooth = fitted(y=y, label_smoothing=0.3, alpha=0.0, max_iter=1, batch_size=150, learning_rate_init=1e-300)
    truth = np.eye(3 if y is Y else 2)[y.astype(int)] * 0.7 + floor
    expected = -(truth * smooth.predict_log_proba(X)).sum(axis=1).mean()
    np.testing.assert_allclose(smooth.loss_, expected, rtol=1e-12)


def test_clipping_bounds_a_step() -> None:
    small = fitted(solver="sgd", momentum=0.0, clip_norm=1e-6, max_iter=1, batch_size=150, alpha=0.0)
    start = fitted(solver="sgd", momentum=0.0, learning_rate_init=1e-300, max_iter=1, batch_size=150, alpha=0.0)
    steps = [a - b for a, b in zip(small.coefs_ + small.intercepts_, start.coefs_ + start.intercepts_, strict=True)]
    np.testing.assert_allclose(np.sqrt(sum((step**2).sum() for step in steps)), 0.01 * 1e-6, rtol=1e-5)


def test_own_validation_data() -> None:
    held_out = (X[100:], Y[100:])
    watched = fitted(x=X[:100], y=Y[:100], validation_data=held_out)
    assert len(watched.validation_scores_) == len(watched.loss_curve_) == 5
    assert watched.validation_scores_[-1] == watched.score(*held_out)
    np.testing.assert_array_equal(watched.coefs_[0], fitted(x=X[:100], y=Y[:100]).coefs_[0])
    early = fitted(x=X[:100], y=Y[:100], validation_data=held_out, early_stopping=True, max_iter=60)
    assert early.score(*held_out) == early.best_validation_score_ == max(early.validation_scores_)
    with pytest.raises(ValueError, match="features"):
        fitted(validation_data=(X[:, :2], Y))


@pytest.mark.parametrize(
    ("kind", "y"), [(MLPClassifier, Y), (MLPClassifier, Y > 0), (MLPRegressor, NUMBERS), (MLPRegressor, NUMBERS[:, 0])]
)
def test_gradients_are_those_of_central_differences(kind, y) -> None:
    estimator = fitted(kind, y=y, activation="tanh")

    def outputs(x):
        if kind is MLPRegressor:
            return estimator.predict(x)
        return estimator.predict_proba(x)[:, 1] if estimator.n_outputs_ == 1 else estimator.predict_proba(x)

    h = 1e-5
    for feature in range(6):
        step = h * (np.arange(6) == feature)
        difference = (outputs(X + step) - outputs(X - step)) / (2 * h)
        np.testing.assert_allclose(estimator.gradients(X)[..., feature], difference, atol=1e-7)


def test_plot_of_the_loss() -> None:
    matplotlib.use("Agg")
    estimator = fitted(early_stopping=True)
    ax = estimator.plot_loss()
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), estimator.loss_curve_)
    np.testing.assert_array_equal(ax.figure.axes[1].lines[0].get_ydata(), estimator.validation_scores_)
    assert fitted().plot_loss(ax=ax) is ax
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), estimator.validation_loss_curve_)
    at_once = fitted(solver="lbfgs")
    np.testing.assert_array_equal(at_once.plot_loss().lines[0].get_ydata(), at_once.loss_curve_)
    matplotlib.pyplot.close("all")


# --- more losses ------------------------------------------------------------------------------------------


def pinball(e, q):
    return np.where(e > 0, q * e, (q - 1) * e)


@pytest.mark.parametrize(
    ("params", "each"),
    [
        ({"loss": "absolute_error"}, np.abs),
        ({"loss": "huber", "delta": 0.7}, lambda e: np.where(np.abs(e) < 0.7, e**2 / 2, 0.7 * (np.abs(e) - 0.35))),
        ({"loss": "quantile", "quantiles": (0.9,)}, lambda e: pinball(e, 0.9)),
    ],
)
def test_losses_of_the_library(params, each) -> None:
    still = {"alpha": 0.0, "max_iter": 1, "batch_size": 150, "learning_rate_init": 1e-300}
    start = fitted(MLPRegressor, y=NUMBERS[:, 0], **still, **params)
    np.testing.assert_allclose(start.loss_, each(NUMBERS[:, 0] - start.predict(X)).mean(), rtol=1e-12)
    curve = fitted(MLPRegressor, y=NUMBERS[:, 0], max_iter=40, **params).loss_curve_
    assert curve[-1] < 0.9 * curve[0]


def test_several_quantiles_at_once() -> None:
    noisy = X[:, 0] + np.random.default_rng(0).standard_normal(150)
    levels = (0.1, 0.5, 0.9)
    model = fitted(
        MLPRegressor, y=noisy, loss="quantile", quantiles=levels, max_iter=300, early_stopping=False, tol=0.0
    )
    assert model.predict(X).shape == (150, 3)
    np.testing.assert_allclose((noisy[:, None] < model.predict(X)).mean(axis=0), levels, atol=0.08)
    assert 0.0 < model.score(X, noisy) < 1.0
    with pytest.raises(ValueError, match="one number per row"):
        fitted(MLPRegressor, y=NUMBERS, loss="quantile")


@pytest.mark.parametrize(("kind", "y"), [(MLPClassifier, Y), (MLPRegressor, NUMBERS[:, 0])])
def test_integrated_gradients_add_up(kind, y) -> None:
    model, baseline = fitted(kind, y=y, activation="tanh"), X.mean(axis=0)
    output = model.predict_proba if kind is MLPClassifier else model.predict
    parts = model.integrated_gradients(X, baseline, steps=400)
    assert parts.shape == model.gradients(X).shape
    np.testing.assert_allclose(parts.sum(axis=-1), output(X) - output(baseline[None]), atol=1e-4)


def test_plots_of_predictions() -> None:
    matplotlib.use("Agg")
    counts = fitted().plot_confusion(X, Y).confusion_matrix
    assert counts.sum() == 150
    flat = fitted(x=X[:, :2])
    display = flat.plot_decision_boundary(X[:, :2], Y)
    assert len(display.ax_.collections[-1].get_offsets()) == 150
    matplotlib.pyplot.close("all")


def test_dtype_is_that_of_the_data_or_what_is_asked_for() -> None:
    for data, dtype, expected in (
        (np.float64, "auto", "float64"),
        (np.float32, "auto", "float32"),
        (np.float64, "float32", "float32"),
        (np.float32, "float64", "float64"),
    ):
        model = fitted(x=X.astype(data), dtype=dtype)
        assert model.coefs_[0].dtype == model.predict_proba(X.astype(data)).dtype == expected
        np.testing.assert_allclose(model.loss_curve_, fitted().loss_curve_, rtol=1e-4)
