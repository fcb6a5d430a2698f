"""Gradients of every joining of parts against central differences: activations, losses, layers."""

import numpy as np
import pytest
from cases_kit import flags
from network_kit import N_IN, C, N, T, X, Y, network

import mlpx
from mlpx import layers, losses
from mlpx.layers import Activation, BatchNorm, Dense, Dropout, LayerNorm, MaskedSoftmax, Softmax, TimeDistributed
from mlpx.ops import ACTIVATIONS
from mlpx.ops.dispatch import using_fused

BIASED = {"bias_init": mlpx.Uniform(-0.4, 0.4)}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_every_activation(activation) -> None:
    fused = mlpx.MLP([N_IN, 5, C], activation, dtype="float64", seed=3, **BIASED)
    alone = mlpx.Sequential(Dense(N_IN, C, **BIASED), Activation(activation), loss="squared_error", seed=2)
    for mode in ("auto", "off"):
        with using_fused(mode):
            mlpx.check_gradients(fused, X, Y, directions=4)
            mlpx.check_gradients(alone, X, T, directions=4)


LOSSES = {
    "cross_entropy": ("softmax", losses.CrossEntropy(0.1, (1.0, 2.0, 0.5)), Y),
    "cross_entropy of probabilities": ("softmax", losses.CrossEntropy(), np.abs(T) / np.abs(T).sum(1, keepdims=True)),
    "binary_cross_entropy": ("sigmoid", losses.BinaryCrossEntropy(0.1, (1.0, 2.0, 0.5)), T > 0),
    "squared_error": ("linear", losses.SquaredError(), T),
    "squared_error of sigmoids": ("sigmoid", losses.SquaredError(), T),
    "squared_error of softmax": ("softmax", losses.SquaredError(), T),
    "absolute_error": ("linear", losses.AbsoluteError(), T + 5 * np.sign(T)),
    "huber": ("linear", losses.Huber(0.5), T + 3 * np.sign(T)),
    "quantile": ("linear", losses.Quantile((0.1, 0.5, 0.9)), T + 5 * np.sign(T)),
    "poisson": ("exp", losses.Poisson(), np.abs(T).round()),
    "poisson of log-rates": ("linear", losses.Poisson(), np.abs(T).round()),
    "gamma": ("exp", losses.Gamma(), np.abs(T) + 0.1),
    "focal": ("softmax", losses.Focal(1.5), Y),
    "binary_focal": ("sigmoid", losses.BinaryFocal(), T > 0),
    "hinge": ("linear", losses.Hinge(), T > 0),
    "custom": ("linear", lambda y, t: (((y - t) ** 4).mean(), 4 * (y - t) ** 3 / y.size), T),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_every_loss(name) -> None:
    output, loss, y = LOSSES[name]
    net = network(output=output, loss=loss, dtype="float64")
    weight = None if name == "custom" else 1.0 + np.arange(N) % 3
    for mode in ("auto", "off"):
        with using_fused(mode):
            mlpx.check_gradients(net, X, y, sample_weight=weight, directions=4)


ROWS = {
    "batch norm": lambda: (BatchNorm(N_IN), Dense(N_IN, 5), BatchNorm(5), Activation("tanh"), Dense(5, C), Softmax()),
    "layer norm": lambda: (LayerNorm(N_IN), Dense(N_IN, C), LayerNorm(C), Softmax()),
    "dropout": lambda: (Dropout(0.2), Dense(N_IN, 8, "tanh"), Dropout(0.5), Dense(8, C), Softmax()),
    "softmax inside": lambda: (Dense(N_IN, 5), Softmax(), Dense(5, C, bias=False), Softmax()),
    "sequence": lambda: (TimeDistributed(Dense(N_IN, 5, "gelu"), LayerNorm(5), Dropout(0.2)), Dense(5, C), Softmax()),
    "masked": lambda: (Dense(N_IN, C), MaskedSoftmax()),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ROWS)
def test_gradients_of_every_layer(name, training) -> None:
    net = mlpx.Sequential(*ROWS[name](), seed=1, dtype="float64")
    allowed = flags("mask", N, C)
    allowed[np.arange(N), Y] = True
    for mode in ("auto", "off"):
        with using_fused(mode):
            mask = allowed if name == "masked" else None
            mlpx.check_gradients(net, X, Y, mask=mask, training=training, step=3, directions=4)


def test_all_layers_have_been_checked() -> None:
    checked = {type(layer) for make in ROWS.values() for top in make() for layer in top.walk()}
    assert {kind for kind in layers.Layer.kinds.values() if kind.__module__.startswith("mlpx.")} == checked
    assert {loss.name for _, loss, _ in LOSSES.values() if isinstance(loss, losses.Loss)} | {"custom"} == set(
        losses.Loss.kinds
    )


@pytest.mark.parametrize(
    ("output", "loss", "y"), [("linear", "hinge", T > 0), ("sigmoid", "binary_focal", T > 0), ("softmax", "focal", Y)]
)
def test_accuracy_of_losses_of_classes(output, loss, y) -> None:
    """What counts as right is what the prediction says: the largest probability, a half, or the sign of a margin."""
    net = network(output=output, loss=loss)
    history = net.fit(X, y, epochs=3, validation=(X, y), progress=False)
    p = net.predict(X)
    right = p.argmax(axis=1) == y if output == "softmax" else (p > (0.0 if output == "linear" else 0.5)) == y
    np.testing.assert_allclose(history.validation_accuracy[-1], right.mean())
