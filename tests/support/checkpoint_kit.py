"""Fits of every kind, to be interrupted, and what two fits must have in common."""

import numpy as np
from cases_kit import flags, normal

import mlpx
from mlpx import EarlyStopping, layers, losses, optimizers, schedules

X, Y = normal("x", 70, 6), np.arange(70) % 3
MASK = flags("mask", 70, 3) | np.eye(3, dtype=bool)[Y]
STEPS = normal("steps", 20, 3, 6)


def plain(**options):
    return mlpx.MLP([6, 8, 3], norm="batch", dropout=0.2, seed=1, **options)


def mean_square(z, target):
    return ((z - target) ** 2).mean(), 2 * (z - target) / z.size


def plateau() -> schedules.Schedule:
    return schedules.WarmUp(3, schedules.ReduceOnPlateau(patience=1))


def change(run) -> None:
    """Change whatever a callback may, once, in the middle of a fit."""
    if run.epoch == 0:
        run.net.layers[3].p = 0.5
        run.net.layers[1].momentum = 0.3
        run.net.layers[2].kind = "tanh"
        run.net.loss = losses.CrossEntropy(0.2)
        RATE.schedule = schedules.ReduceOnPlateau(patience=1)
        RATE.clip_norm = 0.7


FITS = {
    "dropout and batch norm": (plain, {"optimizer": lambda: optimizers.Adam(lr=0.01, schedule="cosine")}),
    "float64, in order": (lambda: plain(dtype="float64"), {"shuffle": False, "optimizer": "adadelta"}),
    "clipped": (plain, {"optimizer": lambda: optimizers.AdamW(lr=0.01, clip_norm=0.5, l1=1e-3)}),
    "a plateau": (plain, {

        "optimizer": lambda: optimizers.Nesterov(lr=0.1, schedule=plateau()),
        "validation": 0.3,
    }),
    "early stopping": (plain, {
        "optimizer": lambda: optimizers.RMSprop(lr=0.05), "epochs": 12, "validation": 0.3,
        "callbacks": lambda: [EarlyStopping(patience=2)],
    }),
    "a callback that changes the rate": (plain, {
        "optimizer": lambda: RATE, "callbacks": lambda: [lambda run: setattr(RATE, "lr", 0.5 * RATE.lr)],
    }),
    "a callback that changes everything": (plain, {
        "optimizer": lambda: RATE, "callbacks": lambda: [change], "epochs": 4,
    }),
    "masks and weights": (
        lambda: mlpx.MLP([6, 8, 3], output="masked_softmax", seed=2),
        {"mask": MASK, "sample_weight": np.linspace(0, 2, 70)},
    ),
    "layer by layer": (lambda: mlpx.Sequential(
        layers.TimeDistributed(layers.Dense(6, 5, "tanh")), layers.Dropout(0.3, shared_axes=(1,)),
        layers.Dense(5, 2), seed=3,
    ), {"x": STEPS, "y": STEPS[..., :2], "optimizer": "momentum"}),
    "a loss of one's own": (
        lambda: mlpx.Sequential(layers.Dense(6, 4, "relu"), layers.Dense(4, 2), loss=mean_square),
        {"y": X[:, :2], "optimizer": "sgd"},
    ),
    "rprop, all rows": (lambda: mlpx.MLP([6, 8, 3], seed=4), {"optimizer": "rprop", "batch_size": 70, "epochs": 6}),

    "other losses": (
        lambda: mlpx.MLP([6, 8, 1], output="linear", loss=losses.Huber(0.5)), {"y": X[:, 0], "optimizer": "adagrad"},
    ),
    "two threads": (lambda: mlpx.MLP([6, 600, 600, 3], seed=5), {"n_threads": 2, "epochs": 2}),
    "two threads, deterministic": (
        lambda: mlpx.MLP([6, 600, 600, 3], seed=5),
        {"n_threads": 2, "deterministic": True, "epochs": 2, "batch_size": 35},
    ),
}  # fmt: skip
RATE = optimizers.SGD(lr=0.1)


def fit(name, **more):
    """Return the network and the history of a fit from its begin."""
    make, options = FITS[name]
    net = make()
    options = {"x": X, "y": Y, "epochs": 3, "batch_size": 16, "progress": False, "seed": 7} | options | more
    for key in ("optimizer", "callbacks"):
        options[key] = (
            options[key]() if callable(options.get(key)) else options.get(key, {"optimizer": "adam"}.get(key, ()))
        )
    RATE.lr, RATE.clip_norm, RATE.schedule = 0.1, None, "constant"
    return net, net.fit(options.pop("x"), options.pop("y"), **options)


def check_same(net, history, expected, expected_history) -> None:
    np.testing.assert_array_equal(net.parameters, expected.parameters)
    np.testing.assert_array_equal(net.buffers.statistics, expected.buffers.statistics)
    for curve in ("loss", "validation_loss", "validation_accuracy", "learning_rate", "steps", "best_epoch", "stopped"):
        assert getattr(history, curve) == getattr(expected_history, curve)
    assert len(history.seconds) == len(history.loss)
