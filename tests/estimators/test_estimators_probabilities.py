"""Probabilities and their logarithms, of each class from the logits: nothing is lost where one is close to 0 or 1."""

import warnings

import numpy as np
import pytest
from estimators_kit import X, Y, fitted
from scipy.sparse import csr_array
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import cross_val_predict

from mlpx import MLPClassifier

LABELS = (X[:, :3] > 0).astype(int)
MASK = (np.arange(3) != 2) | (Y[:, None] == 2)
FAR = np.concatenate([scale * X for scale in (1.0, 30.0, 1000.0)])


def logits(model, x):
    """Return what the output layer is computed from, in float64."""
    z = np.asarray(x, np.float64)
    for w, b in zip(model.coefs_, model.intercepts_, strict=True):
        z = np.maximum(z, 0.0) if w is not model.coefs_[0] else z
        z = z @ np.asarray(w, np.float64) + b
    return z


def brier(y, output):
    """A loss of the user's own."""
    return float(np.mean(np.sum((output - y) ** 2, axis=1))), 2.0 * (output - y) / len(y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", ["log_loss", "focal", brier])
@pytest.mark.parametrize("y", [Y, Y > 0, LABELS], ids=["classes", "two", "labels"])
@pytest.mark.parametrize("rows", [np.array, csr_array])
def test_they_are_those_of_the_logits(y, loss, dtype, rows) -> None:
    model = fitted(y=y, loss=loss, dtype=dtype)
    z = logits(model, FAR.astype(dtype))
    if y is Y:
        p, log_p = softmax(z, axis=1), log_softmax(z, axis=1)
    else:
        both = z if y is LABELS else np.hstack([-z, z])
        p, log_p = expit(both), log_expit(both)
    eps, size = np.finfo(dtype).eps, np.abs(z).max()
    least = float(np.finfo(dtype).smallest_normal)
    for n in (1, len(FAR)):
        x = rows(FAR[:n].astype(dtype))
        np.testing.assert_allclose(model.predict_log_proba(x), log_p[:n], rtol=1e3 * eps, atol=1e3 * eps * size)
        np.testing.assert_allclose(model.predict_proba(x), p[:n], rtol=1e3 * eps * size, atol=least)
        assert model.predict_proba(x).dtype == model.predict_log_proba(x).dtype == dtype
    assert np.isfinite(model.predict_log_proba(rows(FAR))).all()


def test_rows_are_ranked_by_the_first_class_as_by_the_second() -> None:
    model = fitted(y=Y > 0, dtype="float32", max_iter=50)
    far = 1000.0 * X[logits(model, 1000.0 * X)[:, 0].argmax()]
    x = np.linspace(20.0, 80.0, 40)[:, None] / logits(model, far[None]) * far  # logits of about 20 to 80
    p = model.predict_proba(x.astype(np.float32))
    assert len(np.unique(p[:, 0])) == 40
    assert (p[:, 1] == 1.0).all()
    assert len(np.unique(model.predict_log_proba(x.astype(np.float32))[:, 1])) > 8
    assert (np.diff(p[:, 0]) < 0).all()


@pytest.mark.parametrize("y", [Y, Y > 0])
def test_masks(y) -> None:
    mask = MASK if y is Y else MASK[:, 1:]
    mask = mask.copy()
    mask[4] = False
    model = fitted(y=y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p, log_p = model.predict_proba(X, mask=mask), model.predict_log_proba(X, mask=mask)
    np.testing.assert_allclose(np.exp(log_p), p, rtol=1e-12)
    assert (log_p[~mask] == -np.inf).all()
    assert (p[~mask] == 0.0).all()
    np.testing.assert_allclose(p.sum(axis=1), np.arange(150) != 4)
    far = model.predict_log_proba(1000 * X, mask=mask)
    assert np.isfinite(far[mask]).all()


def test_one_class_has_one_column() -> None:
    model = fitted(y=np.full(150, 7))
    np.testing.assert_array_equal(model.predict_proba(X), np.ones((150, 1)))
    np.testing.assert_array_equal(model.predict_log_proba(X), np.zeros((150, 1)))
    np.testing.assert_array_equal(model.predict_proba(X[:2], mask=[[True], [False]]), [[1.0], [0.0]])
    np.testing.assert_array_equal(model.predict_log_proba(X[:2], mask=[[True], [False]]), [[0.0], [-np.inf]])
    np.testing.assert_array_equal(model.predict(X), 7)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_others_can_use_one_column() -> None:
    vote = VotingClassifier([("a", MLPClassifier(max_iter=2))], voting="soft").fit(X, np.full(150, 7))
    assert vote.predict_proba(X).shape == (150, 1)
    parts = [(np.arange(75), np.arange(75, 150)), (np.arange(75, 150), np.arange(75))]
    y = np.repeat([0, 1], 75)
    with pytest.warns(RuntimeWarning, match="Number of classes in training fold"):
        p = cross_val_predict(MLPClassifier(max_iter=2), X, y, cv=parts, method="predict_proba")
    np.testing.assert_array_equal(p, np.eye(2)[1 - y])
