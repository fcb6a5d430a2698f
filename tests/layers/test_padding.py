"""Padded steps count for nothing, however many there are and whatever they hold."""

import numpy as np
import pytest

import mlpx
from mlpx import layers as L

RNG = np.random.default_rng(0)
LENGTHS = np.array([4, 2, 3, 1, 4, 3, 2, 4])
X = RNG.standard_normal((8, 4, 3))
Y = RNG.integers(0, 2, (8, 4))


def data(steps: int, fill: float):
    """Return sequences padded to so many steps, their classes, and which steps are real."""
    x, y, valid = np.full((8, steps, 3), fill), np.zeros((8, steps), int), np.arange(steps) < LENGTHS[:, None]
    x[:, :4], y[:, :4] = X, Y
    x[~valid] = fill
    return x, y, valid


NETWORKS = {
    "dense": lambda: (L.Dense(3, 8, "relu"), L.Dense(8, 2)),
    "batch norm behind a dense layer": lambda: (L.Dense(3, 8), L.BatchNorm(8), L.Activation("relu"), L.Dense(8, 2)),
    "batch norm first": lambda: (L.BatchNorm(3), L.Dense(3, 2)),
    "between time-distributed layers": lambda: (
        *(L.TimeDistributed(L.Dense(3, 8)), L.BatchNorm(8), L.Activation("relu"), L.TimeDistributed(L.Dense(8, 2))),
    ),
    "layer norm": lambda: (L.Dense(3, 8), L.LayerNorm(8), L.Dense(8, 2)),
}


def fitted(made, steps: int, fill: float, optimizer: str = "adam"):
    """Return predictions for real steps, losses and running statistics after a fit."""
    net = mlpx.Sequential(*made(), L.Softmax(), dtype="float64")
    x, y, valid = data(steps, fill)
    history = net.fit(x, y, valid=valid, epochs=5, batch_size=4, optimizer=optimizer, progress=False)
    return net.predict(x, valid=valid)[valid], history.loss, net.buffers.statistics.copy()


@pytest.mark.parametrize("made", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize(("steps", "fill"), [(4, 1000.0), (24, 0.0), (24, 1000.0), (24, np.nan), (6, np.inf)])
def test_their_number_and_content_change_nothing(made, optimizer, steps, fill) -> None:
    for one, other in zip(fitted(made, 4, 0.0, optimizer), fitted(made, steps, fill, optimizer), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("made", NETWORKS.values(), ids=NETWORKS)
def test_gradients_of_padded_batches(made) -> None:
    net = mlpx.Sequential(*made(), L.Softmax(), dtype="float64")
    x, y, valid = data(6, 5.0)
    assert mlpx.check_gradients(net, x, y, valid=valid, training=True) < 1e-6
    loss, gradient = net.loss_and_grad(x, y, valid=valid, training=True)
    other = mlpx.Sequential(*made(), L.Softmax(), dtype="float64").loss_and_grad(
        *data(9, np.nan)[:2], valid=data(9, 0)[2], training=True
    )
    assert other[0] == pytest.approx(loss)
    np.testing.assert_allclose(other[1], gradient, atol=1e-12)
