"""`evaluate` and `score`: what predictions are worth on given rows."""

import math

import numpy as np
import pytest
from sklearn.metrics import log_loss, r2_score

import mlpx

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4))
CLASSES = RNG.integers(0, 3, 60)
NUMBERS = X[:, :2] + 0.1 * RNG.standard_normal((60, 2))
WEIGHT = RNG.random(60)


def test_classes_against_scikit_learn(both_ways) -> None:
    net = mlpx.MLP([4, 8, 3], dropout=0.5, dtype="float64")
    net.fit(X, CLASSES, epochs=3, progress=False)
    p = net.predict(X)
    loss, accuracy = net.evaluate(X, CLASSES)
    assert loss == pytest.approx(log_loss(CLASSES, p, labels=[0, 1, 2]))
    assert accuracy == net.score(X, CLASSES) == np.mean(p.argmax(axis=1) == CLASSES)
    loss, accuracy = net.evaluate(X, CLASSES, sample_weight=WEIGHT)
    assert loss == pytest.approx(log_loss(CLASSES, p, labels=[0, 1, 2], sample_weight=WEIGHT))


def test_numbers_against_scikit_learn(both_ways) -> None:
    net = mlpx.MLP([4, 8, 2], output="linear", dtype="float64")
    net.fit(X, NUMBERS, epochs=3, progress=False)
    y = net.predict(X)
    assert net.evaluate(X, NUMBERS).accuracy is None
    assert net.score(X, NUMBERS) == pytest.approx(r2_score(NUMBERS, y))
    assert net.score(X, NUMBERS, sample_weight=WEIGHT) == pytest.approx(r2_score(NUMBERS, y, sample_weight=WEIGHT))


def test_an_output_whose_targets_are_alike() -> None:
    net = mlpx.MLP([4, 2], output="linear", dtype="float64")
    met = net.predict(np.ones((5, 4)))
    assert net.score(np.ones((5, 4)), met) == r2_score(met, met) == 1.0
    assert net.score(np.ones((5, 4)), met + 1.0) == 0.0
    assert math.isnan(net.score(np.ones((1, 4)), met[:1]))


def test_rates_are_scored_as_they_are_predicted() -> None:
    net, y = mlpx.MLP([4, 1], output="exp", dtype="float64"), np.exp(X[:, 0])
    assert net.score(X, y) == pytest.approx(r2_score(y, net.predict(X)[:, 0]))


def test_padded_steps_count_for_nothing() -> None:
    net = mlpx.Sequential(mlpx.TimeDistributed(mlpx.Dense(4, 3)), mlpx.Softmax(), dtype="float64")
    x, y, valid = X.reshape(6, 10, 4), CLASSES.reshape(6, 10), np.ones((6, 10), bool)
    valid[:, 7:] = False
    loss, accuracy = net.evaluate(x, y, valid=valid)
    expected = net.evaluate(x[:, :7], y[:, :7])
    assert loss == pytest.approx(expected.loss)
    assert accuracy == pytest.approx(expected.accuracy)


@pytest.mark.parametrize("method", ["evaluate", "score"])
def test_data_that_do_not_fit_are_named(method) -> None:
    net = mlpx.MLP([4, 8, 3])
    with pytest.raises(ValueError, match=r"^y: "):
        getattr(net, method)(X, CLASSES[:-1])
    with pytest.raises(ValueError, match=r"^x: .*NaN"):
        getattr(net, method)(np.full((2, 4), np.nan), [0, 1])
    with pytest.raises(ValueError, match=r"^mask: "):
        getattr(net, method)(X, CLASSES, mask=np.ones((60, 3), bool))
