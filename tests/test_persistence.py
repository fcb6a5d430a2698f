"""Model files: every network comes back as it was, and hostile files are refused with a ValueError and nothing else."""

import os
import stat

import numpy as np
import pytest
from cases_kit import flags, normal

import mlpx
from mlpx import layers, losses, persistence
from mlpx.layers import Activation, BatchNorm, Dense, Dropout, LayerNorm, MaskedSoftmax, Softmax, TimeDistributed

X = normal("x", 6, 4)
NETWORKS = {
    "dense": lambda **o: mlpx.Sequential(Dense(4, 3, "gelu", init="orthogonal", lr_factor=0.5), Dense(3, 2), **o),
    "no bias": lambda **o: mlpx.Sequential(Dense(4, 3, bias=False, init=mlpx.Uniform(-1, 1)), **o),
    "norms": lambda **o: mlpx.MLP([4, 5, 3], norm="batch", dropout=0.25, **o),
    "layer norm": lambda **o: mlpx.Sequential(LayerNorm(4, eps=1e-3), Dense(4, 3), Softmax(), **o),
    "masked": lambda **o: mlpx.Sequential(Dense(4, 3), MaskedSoftmax(), **o),
    "sequence": lambda **o: mlpx.Sequential(
        TimeDistributed(Dense(4, 5, "relu"), TimeDistributed(BatchNorm(5, momentum=0.5))),
        Dropout(0.5, shared_axes=(1,)),
        Dense(5, 2),
        Activation("sigmoid"),
        **o,
    ),
    "nothing to learn": lambda **o: mlpx.Sequential(Softmax(), **o),
}
LOSSES = [
    losses.CrossEntropy(0.1, (1.0, 2.0, 0.5)),
    losses.BinaryCrossEntropy(0.1, (1.0, 2.0, 0.5)),
    losses.SquaredError(),
    losses.AbsoluteError(),
    losses.Huber(2.5),
    losses.Quantile((0.1, 0.5, 0.9)),
    losses.Poisson(),
    losses.Gamma(),
    losses.Focal(1.5),
    losses.BinaryFocal(0.5),
    losses.Hinge(),
]


def prediction(net):
    x = normal("x", 2, 3, 4) if isinstance(net.layers[0], TimeDistributed) else X
    return net.predict(x, flags("mask", 6, 3) if isinstance(net.layers[-1], MaskedSoftmax) else None)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_round_trip_of_every_layer(name, dtype, path) -> None:
    net = NETWORKS[name](dtype=dtype, seed=3)
    if name in ("norms", "sequence"):  # so that running statistics are not what they begin as
        x = normal("x", 5, 3, 4) if name == "sequence" else X
        net.forward(x.astype(dtype), layers.Context(training=True))
        assert net.buffers.statistics.any()
    net.save(path)
    again = mlpx.load(path)
    assert repr(again.layers) == repr(net.layers)
    assert (again.dtype, again.seed, again.loss) == (net.dtype, net.seed, net.loss)
    np.testing.assert_array_equal(again.parameters, net.parameters)
    np.testing.assert_array_equal(again.buffers.statistics, net.buffers.statistics)
    np.testing.assert_array_equal(prediction(again), prediction(net))
    again.save(path.with_name("again"))
    assert path.with_name("again").read_bytes() == path.read_bytes()


def test_every_layer_is_tried() -> None:
    tried = {type(layer) for make in NETWORKS.values() for layer in make().all_layers()}
    assert {kind for kind in layers.Layer.kinds.values() if kind.__module__.startswith("mlpx.")} <= tried
    assert {loss.name for loss in LOSSES} == set(losses.Loss.kinds) - {"custom"}


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_round_trip_of_every_loss(loss, path) -> None:
    mlpx.Sequential(Dense(4, 3), loss=loss).save(path)
    assert mlpx.load(path).loss == loss


def test_a_loaded_network_trains_on(path) -> None:
    net = mlpx.MLP([4, 5, 3], norm="batch")
    net.fit(X, np.arange(6) % 3, epochs=2, progress=False)
    net.save(path)
    again = mlpx.load(path)
    for each in (net, again):
        each.fit(X, np.arange(6) % 3, epochs=2, progress=False)
    np.testing.assert_array_equal(net.parameters, again.parameters)


def test_a_custom_loss_refuses_and_leaves_no_file(path) -> None:
    net = mlpx.Sequential(Dense(4, 3), loss=lambda y, t: (y.sum(), np.ones_like(y)))
    with pytest.raises(ValueError, match=r"custom loss cannot be saved; set net\.loss"):
        net.save(path)
    assert os.listdir(path.parent) == []
    net.loss = losses.SquaredError()
    net.save(path)
    assert mlpx.load(path).loss == losses.SquaredError()


def test_options_given_as_numbers_of_numpy(path) -> None:
    net = mlpx.Sequential(
        Dense(np.int64(4), np.int32(3), bias=np.True_, init=mlpx.Uniform(np.float32(-1), 1), lr_factor=np.float32(0.5)),
        Dropout(np.float32(0.1), shared_axes=(np.int64(0),)),
        loss=losses.Huber(np.float32(0.3)),
        seed=np.int64(7),
    )
    net.save(path)
    again = mlpx.load(path)
    assert (again.loss, again.seed, again.layers[0].lr_factor) == (net.loss, 7, 0.5)
    assert again.layers[1].p == np.float32(0.1)
    np.testing.assert_array_equal(again.predict(X), net.predict(X))


# --- writing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["replace", "chmod", "fdopen"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(broken, path, monkeypatch) -> None:
    old = mlpx.MLP([4, 3], seed=1)
    old.save(path)

    def fail(*args, **kwargs):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(persistence.os, broken, fail)
        with pytest.raises(OSError, match="disk full"):
            mlpx.MLP([4, 3], seed=2).save(path)
    assert os.listdir(path.parent) == [path.name]
    np.testing.assert_array_equal(mlpx.load(path).parameters, old.parameters)


def test_saving_replaces_and_leaves_no_temporary_file(path) -> None:
    for seed in (1, 2):
        mlpx.MLP([4, 3], seed=seed).save(str(path))
    assert os.listdir(path.parent) == [path.name]
    np.testing.assert_array_equal(mlpx.load(str(path)).parameters, mlpx.MLP([4, 3], seed=2).parameters)
    umask = persistence._umask()
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_folders_that_are_not_there(path) -> None:
    with pytest.raises(FileNotFoundError, match=r"path: there is no folder '.*nowhere'; make it first"):
        mlpx.MLP([4, 3]).save(path.parent / "nowhere" / "model")
    with pytest.raises(IsADirectoryError, match=r"path: '.*' is a folder; expected the name of a file"):
        mlpx.MLP([4, 3]).save(path.parent)
    assert os.listdir(path.parent) == []
    with pytest.raises(FileNotFoundError, match="there is no file"):
        mlpx.load(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        mlpx.load(path.parent)
