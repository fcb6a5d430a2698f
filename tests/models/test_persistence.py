"""Model files: every network comes back as it was, and hostile files are refused with a ValueError and nothing else."""

import copy
import errno
import os
import pickle
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from cases_kit import flags, normal
from safetensors import safe_open
from safetensors.numpy import load_file

import mlpx
from mlpx import layers, losses
from mlpx.files import tensor_file
from mlpx.layers import Activation, BatchNorm, Dense, Dropout, LayerNorm, MaskedSoftmax, Softmax, TimeDistributed

X = normal("x", 6, 4)
OLD = Path(__file__).parents[1] / "support" / "model_files"
"""Files that older versions wrote: these load for ever."""
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


def test_the_curves_of_the_last_fit_are_in_the_file(path) -> None:
    net = NETWORKS["dense"](dtype="float64")
    assert net.history is None
    for optimizer in ("adam", "lbfgs"):
        history = net.fit(X, X[:, :2], epochs=20, optimizer=optimizer, validation=0.5, progress=False)
        assert net.history is history
        net.save(path)
        assert mlpx.load(path).history == history
        assert mlpx.load(path).history.loss == history.loss
    assert net.copy().history == history


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


@pytest.mark.parametrize("kind", [np.float16, np.longdouble, Decimal, Fraction, np.array])
def test_options_given_as_numbers_of_other_kinds(kind, path) -> None:
    net = mlpx.Sequential(
        Dense(4, 3, lr_factor=kind(0.5)),
        BatchNorm(3, momentum=kind(0.25), eps=kind(0.125)),
        Dropout(kind(0.5)),
        Dense(3, 2, init=mlpx.Uniform(kind(-0.5), kind(0.5))),
        loss=losses.Huber(kind(0.25)),
    )
    net.save(path)
    again = mlpx.load(path)
    np.testing.assert_array_equal(again.parameters, net.parameters)
    assert (again.layers[1].momentum, again.layers[2].p, again.layers[3].init) == (0.25, 0.5, mlpx.Uniform(-0.5, 0.5))


def test_options_that_could_not_be_loaded_are_refused_before_anything_is_written(path) -> None:
    net = NETWORKS["norms"]()
    net.layers[1].momentum = True
    with pytest.raises(TypeError, match="momentum: expected a number, got True"):
        net.save(path)
    assert os.listdir(path.parent) == []


# --- files of older versions, and of other programs -----------------------------------------------------------------


def test_a_file_of_version_0_1_0() -> None:
    """Which has no checksums."""
    net = mlpx.load(OLD / "network-0.1.0.safetensors")
    assert [type(layer).__name__ for layer in net.all_layers()] == [
        "Dense", "BatchNorm", "Activation", "Dropout", "TimeDistributed", "LayerNorm", "Dense", "Dense", "Softmax"
    ]  # fmt: skip
    assert net.loss == losses.CrossEntropy(0.1, (1.0, 2.0, 0.5))
    assert net.layers[0].init == "orthogonal"
    assert net.layers[4].layers[1].bias_init == mlpx.Uniform(-0.5, 0.5)
    expected = [
        [0.19742545, 0.24089664, 0.56167781],
        [0.13684376, 0.40141371, 0.46174255],
        [0.10162405, 0.61514425, 0.28323171],
    ]
    np.testing.assert_allclose(net.predict(np.linspace(-1, 1, 12).reshape(3, 4)), expected, rtol=1e-5)


def test_files_of_the_second_format() -> None:
    """The first with checksums, states, and estimators. Such files are kept for every format that there was."""
    x = np.linspace(-1, 1, 12).reshape(3, 4)
    net = mlpx.load(OLD / "network-2.safetensors")
    assert net.history.loss[-1] == pytest.approx(0.9509865045547485)
    np.testing.assert_allclose(net.predict(x)[0], [0.18242753, 0.30182102, 0.51575148], rtol=1e-5)
    model = mlpx.load(OLD / "classifier-2.safetensors")
    p = [
        [0.08327713, 0.65658915, 0.26013372],
        [0.09270809, 0.67047463, 0.23681728],
        [0.09332703, 0.73345506, 0.17321791],
    ]
    with pytest.warns(UserWarning, match="feature names"):
        np.testing.assert_allclose(model.predict_proba(x), p, rtol=1e-6)
    assert model.classes_.tolist() == ["ant", "bee", "größe"]
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "größe"]
    assert model.class_weight == {"ant": 2.0, "bee": 1, "größe": 0.5}
    assert (len(model.loss_curve_), model.loss_curve_[-1]) == (12, 1.3239608944086716)
    del model.feature_names_in_
    model.set_params(early_stopping=False).partial_fit(x, ["bee", "ant", "bee"])
    assert len(model.loss_curve_) == 13
    regressor = mlpx.load(OLD / "regressor-2.safetensors")
    expected = [[-2.01890166, -1.76456322], [-0.46700289, -0.26471804], [0.86127739, 1.26836076]]
    np.testing.assert_allclose(regressor.predict(x), expected, rtol=1e-6)


def test_other_readers_of_safetensors_read_it(path) -> None:
    net = NETWORKS["norms"](dtype="float64")
    net.save(path)
    tensors = load_file(path)
    assert tensors.keys() == net.named_parameters().keys()
    for name, array in net.named_parameters().items():
        np.testing.assert_array_equal(tensors[name], array)
    with safe_open(path, framework="numpy") as file:
        assert file.metadata().keys() == {"mlpx", "sha256", "sha256_tensors"}


# --- weights that are not finite, draws that would be overwritten ----------------------------------------------------


def test_weights_that_are_not_finite_come_back_with_a_warning(path) -> None:
    net = NETWORKS["norms"]()
    net.layers[1].value("var")[2] = np.nan
    net.save(path)
    with pytest.warns(UserWarning, match=r"load: tensor '1\.var' holds NaN or infinity, as it did when it was saved"):
        again = mlpx.load(path)
    np.testing.assert_array_equal(again.buffers.statistics, net.buffers.statistics)


def test_nothing_is_drawn_that_is_overwritten(path, monkeypatch) -> None:
    net = mlpx.Sequential(Dense(4, 3, init="orthogonal", bias_init=mlpx.Uniform(-1, 1)), BatchNorm(3))
    net.save(path)
    sent = pickle.dumps(net)
    monkeypatch.setattr(layers.buffers, "find", None)
    for again in (mlpx.load(path), net.copy(), copy.deepcopy(net), net.astype("float32"), pickle.loads(sent)):
        np.testing.assert_array_equal(again.parameters, net.parameters)
        np.testing.assert_array_equal(again.buffers.statistics, net.buffers.statistics)


# --- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [None, 5, b"name", 0.5, ["x"], Path])
def test_paths_of_other_kinds(bad) -> None:
    for call in (mlpx.MLP([4, 3]).save, mlpx.load):
        with pytest.raises(TypeError, match="path: expected the name of a file, a str or pathlib"):
            call(bad)


@pytest.mark.parametrize("bad", ["a\0b", "", "\ud800"])
def test_names_that_no_file_has(bad) -> None:
    for call in (mlpx.MLP([4, 3]).save, mlpx.load):
        with pytest.raises(ValueError, match=r"path: .*name of a file"):
            call(bad)


def test_files_that_are_not_there(path) -> None:
    with pytest.raises(FileNotFoundError, match="path: there is no file"):
        mlpx.load(path)
    with pytest.raises(IsADirectoryError, match=r"path: .* is a folder"):
        mlpx.load(path.parent)
    path.symlink_to(path)
    with pytest.raises(OSError, match="path: Too many levels"):
        mlpx.load(path)


def test_a_file_that_may_not_be_read(path, monkeypatch) -> None:
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    path.touch()
    monkeypatch.setattr(tensor_file.os, "open", refuse)
    with pytest.raises(PermissionError, match=r"path: Permission denied: '.*model\.safetensors'"):
        mlpx.load(path)
