"""The sixth problem: real images, many layers, any number of rows at once, above 97 % on a held-out quarter."""

from functools import cache

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import mlpx
from mlpx.ops.dispatch import using_fused


@cache
def digits():
    """Return (x, y, held-out x, held-out y): three quarters of the 1,797 images and the rest."""
    x, y = load_digits(return_X_y=True)
    assert x.shape == (1797, 64)
    return tuple(train_test_split(x / 16, y, test_size=0.25, random_state=0, stratify=y)[i] for i in (0, 2, 1, 3))


def share_right(net, x, y) -> float:
    return float((net.predict(x).argmax(axis=1) == y).mean())


@pytest.mark.parametrize(
    ("hidden", "options", "fit"),
    [
        ((64,), {}, {"optimizer": mlpx.optimizers.Adam(lr=0.003)}),
        ((128, 64), {"dropout": 0.2}, {"optimizer": mlpx.optimizers.Adam(lr=0.003)}),
        ((64, 64, 64), {"norm": "layer", "dropout": 0.2}, {"optimizer": mlpx.optimizers.Adam(lr=0.003)}),
        ((96,) * 5, {"norm": "batch", "dropout": 0.1}, {"optimizer": mlpx.optimizers.Adam(lr=0.01, schedule="cosine")}),
        (
            (64,),
            {"activation": "tanh"},
            {"batch_size": 10**6, "epochs": 100, "optimizer": mlpx.optimizers.full_batch.LBFGS(l2=1e-3)},
        ),
        (
            (200, 100),
            {"dropout": 0.3},
            {"batch_size": 10**6, "epochs": 300, "optimizer": mlpx.optimizers.Adam(lr=0.01)},
        ),
    ],
    ids=["one", "two", "three", "five", "all rows by L-BFGS", "all rows by Adam"],
)
def test_above_97_percent_on_a_held_out_quarter(hidden, options, fit) -> None:
    x, y, held_x, held_y = digits()
    net = mlpx.MLP([64, *hidden, 10], **({"activation": "relu", "seed": 1} | options))
    history = net.fit(x, y, **({"epochs": 40, "batch_size": 32, "progress": False} | fit))
    assert history.loss[-1] < 0.2 * history.loss[0]
    assert share_right(net, held_x, held_y) > 0.97


def test_the_references_alone_learn_them_too() -> None:
    x, y, held_x, held_y = digits()
    net = mlpx.MLP([64, 64, 10], seed=1)
    with using_fused("off"):
        net.fit(x, y, epochs=25, batch_size=32, optimizer=mlpx.optimizers.Adam(lr=0.003), progress=False)
        assert share_right(net, held_x, held_y) > 0.97


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("batch_size", [50, 10**6])
def test_one_hot_and_integer_targets_give_equal_results(batch_size, mode) -> None:
    x, y, held_x, _ = digits()
    predictions = []
    for target in (y, np.eye(10)[y]):
        net = mlpx.MLP([64, 32, 10], seed=1, dtype="float64")
        with using_fused(mode):
            net.fit(x, target, epochs=3, batch_size=batch_size, progress=False)
            predictions.append(net.predict(held_x))
    np.testing.assert_allclose(*predictions, atol=1e-10)


def test_a_saved_model_predicts_the_same_bit_for_bit(tmp_path) -> None:
    x, y, held_x, _ = digits()
    net = mlpx.MLP([64, 32, 10], norm="batch", dropout=0.1, seed=1)
    net.fit(x, y, epochs=3, batch_size=64, progress=False)
    net.save(tmp_path / "digits.safetensors")
    again = mlpx.load(tmp_path / "digits.safetensors")
    np.testing.assert_array_equal(again.predict(held_x), net.predict(held_x))
    assert again.dtype == net.dtype


def test_raw_integer_images_go_in_as_they_are() -> None:
    x, y, held_x, held_y = digits()
    net = mlpx.MLP([64, 128, 10], norm="batch", dropout=0.3, seed=1)
    net.fit((x * 16).astype(np.uint8), y, epochs=30, batch_size=32, progress=False)
    assert share_right(net, (held_x * 16).astype(np.uint8), held_y) > 0.97


def test_the_held_out_curve_of_fit_is_the_share_predicted_right() -> None:
    x, y, held_x, held_y = digits()
    net = mlpx.MLP([64, 32, 10], seed=1)
    history = net.fit(x, y, epochs=3, batch_size=64, validation=(held_x, held_y), progress=False)
    assert history.validation_accuracy[-1] == pytest.approx(share_right(net, held_x, held_y))
    assert history.validation_loss[-1] == pytest.approx(net.loss_and_grad(held_x, held_y)[0], rel=1e-5)
