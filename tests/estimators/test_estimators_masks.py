"""Masks: classes that are impossible in some rows get probability 0, exactly, and have no say in the training."""

import pickle
import warnings

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mlpx
from mlpx import MLPClassifier, MLPRegressor, losses

rng = np.random.default_rng(0)
MASK = rng.random((150, 3)) > 0.4
MASK[np.arange(150), Y] = True
TWO = Y > 0
MASK2 = rng.random((150, 2)) > 0.4
MASK2[np.arange(150), TWO.astype(int)] = True


def softmax(z, mask):
    e = np.where(mask, np.exp(z - z.max(axis=1, keepdims=True)), 0.0)
    return e / e.sum(axis=1, keepdims=True)


def logits(model, x):
    for w, b in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        x = np.maximum(x @ w + b, 0.0)
    return x @ model.coefs_[-1] + model.intercepts_[-1]


@pytest.mark.parametrize("fused", ["auto", "off"])
@pytest.mark.parametrize("trained", [False, True], ids=["trained without", "trained with"])
def test_probabilities_are_those_of_the_allowed_classes(trained, fused, monkeypatch) -> None:
    model = fitted(mask=MASK if trained else None)
    monkeypatch.setattr("mlpx.ops.dispatch._mode", fused)
    p = model.predict_proba(X, mask=MASK)
    np.testing.assert_allclose(p, softmax(logits(model, X), MASK), rtol=1e-9, atol=1e-15)
    assert (p[~MASK] == 0.0).all()
    np.testing.assert_array_equal(model.predict_log_proba(X, mask=MASK)[~MASK], -np.inf)
    np.testing.assert_array_equal(model.predict(X, mask=MASK), p.argmax(axis=1))
    np.testing.assert_allclose(model.score(X, Y, mask=MASK), (p.argmax(axis=1) == Y).mean())
    np.testing.assert_allclose(model.predict_proba(X), softmax(logits(model, X), True), rtol=1e-9)
    np.testing.assert_allclose(model.predict_proba(sparse.csr_array(X), mask=MASK), p, rtol=1e-9)
    np.testing.assert_array_equal(model.predict_proba(X[:1], mask=MASK[:1]), p[:1])


@pytest.mark.parametrize("solver", ["adam", "lbfgs", "conjugate_gradient"])
@pytest.mark.parametrize("loss", ["log_loss", "focal"])
def test_training_minimises_the_masked_loss(solver, loss) -> None:
    model = fitted(mask=MASK, solver=solver, loss=loss, alpha=0.0, max_iter=30)
    p = model.predict_proba(X, mask=MASK)[np.arange(150), Y]
    value = -np.mean((1 - p) ** (2.0 if loss == "focal" else 0.0) * np.log(p))
    if solver == "adam":  # whose reported loss is that before each update
        assert value < model.loss_curve_[-1] < model.loss_curve_[0]
    else:
        np.testing.assert_allclose(model.loss_, value, rtol=1e-6)
    thin = fitted(x=sparse.csr_array(X), mask=MASK, solver=solver, loss=loss, alpha=0.0, max_iter=5)
    same = fitted(mask=MASK, solver=solver, loss=loss, alpha=0.0, max_iter=5)
    np.testing.assert_allclose(thin.coefs_[0], same.coefs_[0], rtol=1e-6, atol=1e-9)


def test_the_steps_are_those_of_the_librarys_network() -> None:
    start = {"max_iter": 1, "batch_size": 150, "alpha": 0.0, "shuffle": False}
    model = fitted(mask=MASK, **start, learning_rate_init=1e-300)
    net = mlpx.MLP([6, 8, 5, 3], output="masked_softmax", dtype="float64", loss=losses.CrossEntropy())
    for layer, w, b in zip(net.all_layers()[:3], model.coefs_, model.intercepts_, strict=True):
        layer.value("w")[...], layer.value("b")[...] = w.T, b
    loss, _ = net.loss_and_grad(X, Y, mask=MASK)
    np.testing.assert_allclose(model.loss_, loss, rtol=1e-12)
    net.fit(
        X, Y, epochs=1, batch_size=150, mask=MASK, optimizer=mlpx.optimizers.SGD(lr=0.01), shuffle=False, progress=False
    )
    trained = fitted(mask=MASK, **start, solver=mlpx.optimizers.SGD(lr=0.01))
    np.testing.assert_allclose(trained.coefs_[1], net.layers[1].value("w").T, rtol=1e-9)


def test_everything_allowed_is_no_mask() -> None:
    everything = np.ones((150, 3))
    masked, plain = fitted(mask=everything, early_stopping=True), fitted(early_stopping=True)
    np.testing.assert_allclose(masked.coefs_[0], plain.coefs_[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(masked.validation_loss_curve_, plain.validation_loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(masked.predict_proba(X), plain.predict_proba(X), rtol=1e-9)
    np.testing.assert_allclose(masked.gradients(X), plain.gradients(X), rtol=1e-6, atol=1e-9)


def test_two_classes() -> None:
    model = fitted(y=TWO, mask=MASK2)
    p, free = model.predict_proba(X, mask=MASK2), MASK2.all(axis=1)
    np.testing.assert_array_equal(p[~free], MASK2[~free].astype(float))
    np.testing.assert_array_equal(p[free], model.predict_proba(X)[free])
    np.testing.assert_array_equal(model.predict(X, mask=MASK2), p[:, 1] > 0.5)
    taught = fitted(y=TWO, sample_weight=free.astype(float))
    np.testing.assert_allclose(model.coefs_[0], taught.coefs_[0], rtol=1e-7, atol=1e-10)
    alone = fitted(y=np.zeros(150), mask=np.ones((150, 1)))
    np.testing.assert_array_equal(alone.predict(X, mask=np.ones((150, 1))), 0.0)
    with pytest.raises(ValueError, match="leaves no row a choice"):
        fitted(y=TWO, mask=np.eye(2)[TWO.astype(int)])


def test_held_out_rows_bring_their_masks() -> None:
    model = fitted(x=X[:100], y=Y[:100], mask=MASK[:100], validation_data=(X[100:], Y[100:], None, MASK[100:]))
    p = model.predict_proba(X[100:], mask=MASK[100:])
    np.testing.assert_allclose(model.validation_loss_curve_[-1], log_loss(Y[100:], p, labels=[0, 1, 2]), rtol=1e-9)
    assert model.validation_scores_[-1] == model.score(X[100:], Y[100:], mask=MASK[100:])
    early = fitted(mask=MASK, early_stopping=True)
    assert len(early.validation_scores_) == 5
    without = fitted(x=X[:100], y=Y[:100], mask=MASK[:100], validation_data=(X[100:], Y[100:]))
    expected = log_loss(Y[100:], without.predict_proba(X[100:]), labels=[0, 1, 2])
    np.testing.assert_allclose(without.validation_loss_curve_[-1], expected, rtol=1e-9)
    early.partial_fit(X, Y)
    assert len(early.validation_scores_) == 6


def test_masks_call_by_call_and_copies() -> None:
    model = MLPClassifier(hidden_layer_sizes=(8,), random_state=0)
    for _ in range(3):
        model.partial_fit(X, Y, classes=[0, 1, 2], mask=MASK)
    assert model._training.optimizer.steps == 3
    model.partial_fit(X, Y)  # all classes are possible now
    assert model._training.optimizer.steps == 4
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict_proba(X, mask=MASK), model.predict_proba(X, mask=MASK))
    assert not hasattr(clone(model), "coefs_")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        again = fitted(mask=MASK).fit(X, Y)
    np.testing.assert_array_equal(again.coefs_[0], fitted().coefs_[0])


def test_masks_are_routed() -> None:
    with config_context(enable_metadata_routing=True):
        inner = MLPClassifier(hidden_layer_sizes=(8, 5), max_iter=5, tol=10.0, random_state=0, learning_rate_init=0.01)
        inner.set_fit_request(mask=True).set_predict_proba_request(mask=True).set_score_request(mask=True)
        model = make_pipeline(StandardScaler(), inner.set_predict_request(mask=True))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, Y, mask=MASK)
        p = model.predict_proba(X, mask=MASK)
        assert (p[~MASK] == 0.0).all()
        np.testing.assert_array_equal(model.predict(X, mask=MASK), p.argmax(axis=1))
        assert model.score(X, Y, mask=MASK) == (p.argmax(axis=1) == Y).mean()


def test_a_row_that_allows_nothing() -> None:
    nothing = MASK.copy()
    nothing[7] = False
    model = fitted()
    assert (model.predict_proba(X, mask=nothing)[7] == 0.0).all()
    with pytest.raises(ValueError, match="row 7 allows no class"):
        model.predict(X, mask=nothing)


LABELS = (X[:, :3] > 0).astype(int)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fitted(mask=MASK[:, :2]), r"mask: has shape \(150, 2\); expected \(150, 3\)"),
        (lambda: fitted(mask=MASK[:9]), r"mask: has shape \(9, 3\)"),
        (lambda: fitted(mask=MASK * 0.5), "values other than True and False"),
        (lambda: fitted(mask=np.arange(3) != Y[:, None]), "the class of row 0 is one that its mask forbids"),
        (lambda: fitted(y=TWO, mask=np.arange(2) != TWO[:, None]), "the class of row 0"),
        (lambda: fitted(y=LABELS, mask=np.ones((150, 3))), "independent labels"),
        (lambda: fitted(loss="hinge", mask=MASK), "loss='hinge' takes none"),
        (lambda: fitted().predict_proba(X, mask=MASK[:5]), r"mask: has shape \(5, 3\)"),
        (lambda: fitted(loss="hinge").predict(X, mask=MASK), "loss='hinge' takes none"),
    ],
)
def test_masks_that_cannot_work(call, words) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_a_regressor_takes_none() -> None:
    with pytest.raises(TypeError, match="mask"):
        MLPRegressor().fit(X, NUMBERS, mask=MASK)
