"""Networks as users hold them: predict, loss and gradient, what they tell of themselves, and copies."""

import copy

import numpy as np
import pytest
from cases_kit import flags, normal
from network_kit import N_IN, C, N, T, X, Y, network
from strict import STRICT, from_strict, to_strict

import mlpx
from mlpx import losses
from mlpx.layers import Activation, Context, Dense, Dropout, MaskedSoftmax, Softmax, TimeDistributed
from mlpx.ops.dispatch import using_fused

# --- predict ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("output", ["softmax", "sigmoid", "linear", "exp"])
def test_predict_is_the_forward_pass(output, mode) -> None:
    net = network(output=output, dropout=0.4, norm="batch", dtype="float64")
    net.fit(X, np.abs(T) / np.abs(T).sum(1, keepdims=True), epochs=1, progress=False)
    with using_fused(mode):
        y = net.predict(X)
        np.testing.assert_allclose(y, net.forward(X)[0], atol=1e-14)
        np.testing.assert_allclose(net.predict(X[2]), y[2], atol=1e-14)
        np.testing.assert_allclose(net.predict(X.reshape(3, 1, 3, N_IN)).reshape(N, C), y, atol=1e-14)
    assert net.predict(X[2]).shape == (C,)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_many_rows_are_taken_in_blocks(mode) -> None:
    x = normal("many", 10_000, N_IN)
    net = network(dtype="float64")
    with using_fused(mode):
        whole = net.predict(x)
        parts = np.concatenate([net.predict(x[i : i + 999]) for i in range(0, 10_000, 999)])
        np.testing.assert_allclose(whole, parts, atol=1e-14)
        loss, z = net.evaluate_batch(net.batch(x, np.zeros(10_000, int)))
        assert loss == pytest.approx(net.loss_and_grad(x, np.zeros(10_000, int))[0], rel=1e-12)
    assert z.shape == (10_000, C)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_what_predict_returns_is_the_callers(mode) -> None:
    x = X.astype("f")
    for net in (network(), mlpx.Sequential(Dropout(0.5)), mlpx.Sequential(TimeDistributed(Dropout(0.5)))):
        with using_fused(mode):
            y = net.predict(x)
        assert y.flags.writeable
        assert not np.shares_memory(y, x)
        assert not np.shares_memory(y, net.parameters)


# --- loss and gradient --------------------------------------------------------------------------------------------


def test_the_loss_is_a_weighted_mean_and_the_gradient_the_buffer() -> None:
    net = network(dtype="float64")
    weight = np.arange(N) % 3.0
    loss, gradient = net.loss_and_grad(X, Y, sample_weight=weight)
    assert isinstance(loss, float)
    assert gradient is net.gradient
    np.testing.assert_allclose(loss, np.average(-np.log(net.predict(X)[np.arange(N), Y]), weights=weight))
    repeated = np.repeat(np.arange(N), weight.astype(int))
    kept = gradient.copy()
    again, other = net.loss_and_grad(X[repeated], Y[repeated])
    assert again == pytest.approx(loss, rel=1e-13)
    np.testing.assert_allclose(other, kept, atol=1e-15)


def test_training_draws_masks_from_seed_and_step_and_uses_batch_statistics() -> None:
    net = network(dropout=0.5, norm="batch")
    quiet = net.loss_and_grad(X, Y)[0]
    assert quiet == net.loss_and_grad(X, Y, seed=5, step=7)[0]
    statistics = net.buffers.statistics.copy()
    loud = net.loss_and_grad(X, Y, training=True, seed=5, step=7)[0]
    assert (net.buffers.statistics != statistics).any()
    assert loud == net.loss_and_grad(X, Y, training=True, seed=5, step=7)[0] != quiet
    assert loud != net.loss_and_grad(X, Y, training=True, seed=5, step=8)[0]
    assert loud != net.loss_and_grad(X, Y, training=True, seed=6, step=7)[0]


@pytest.mark.parametrize(
    ("output", "name"),
    [
        ("softmax", "cross_entropy"),
        ("masked_softmax", "cross_entropy"),
        ("sigmoid", "binary_cross_entropy"),
        ("exp", "poisson"),
        ("linear", "squared_error"),
    ],
)
def test_the_default_loss_suits_the_output(output, name) -> None:
    assert network(output=output).loss.name == name


# --- what a network tells of itself, and its copies ---------------------------------------------------------------


def test_names_sizes_and_counts() -> None:
    net = network(norm="batch", dropout=0.1)
    assert (net.n_in, net.n_out) == (N_IN, C)
    named = net.named_parameters()
    assert list(named) == ["0.w", "1.gamma", "1.beta", "1.mean", "1.var", "4.w", "4.b"]
    assert net.n_parameters == 4 * 5 + 5 + 5 + 5 * 3 + 3
    named["4.b"][...] = 7
    assert (net.layers[4].value("b") == 7).all()
    assert eval(repr(net.layers[0]), {"Dense": Dense}) == net.layers[0]
    for word in ("Dense(4, 5", "Dropout(0.1", "dtype='float32'"):
        assert word in repr(net)
    assert mlpx.Sequential(Softmax()).n_in is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_copies_are_independent(dtype) -> None:
    net = network(norm="batch", dropout=0.2, loss=losses.CrossEntropy(0.1))
    net.fit(X, Y, epochs=2, progress=False)
    for twin in (net.copy(), net.copy(dtype=dtype), net.astype(dtype), net.to("numpy")):
        np.testing.assert_array_equal(twin.parameters, net.parameters)
        np.testing.assert_array_equal(twin.buffers.statistics, net.buffers.statistics)
        assert (repr(twin.layers), twin.loss, twin.seed) == (repr(net.layers), net.loss, net.seed)
        np.testing.assert_allclose(twin.predict(X), net.predict(X), atol=1e-6)
        before = net.parameters.copy(), net.buffers.statistics.copy()
        twin.fit(X, Y, epochs=1, progress=False)
        assert (twin.parameters != before[0]).any()
        np.testing.assert_array_equal(net.parameters, before[0])
        np.testing.assert_array_equal(net.buffers.statistics, before[1])
    assert net.astype(dtype).dtype == dtype == net.astype(dtype).predict(X).dtype


def test_a_loss_may_be_set_later_by_name() -> None:
    net = network(output="linear", dtype="float64")
    net.loss = "huber"
    assert net.loss == losses.Huber()
    twin = network(output="linear", loss="huber", dtype="float64")
    assert net.loss_and_grad(X, T)[0] == twin.loss_and_grad(X, T)[0]


def test_the_loss_decides_anew_whether_the_last_layer_is_fused_with_it() -> None:
    net = network(dtype="float64")
    first = net.evaluate_batch(net.batch(X, np.eye(C)[Y]))[0]
    net.loss = "squared_error"
    y = net.predict(X)
    for mode in ("auto", "off"):
        with using_fused(mode):
            loss, z = net.evaluate_batch(net.batch(X, np.eye(C)[Y]))
        np.testing.assert_allclose(z, y, atol=1e-14)
        assert loss == pytest.approx(0.5 * ((y - np.eye(C)[Y]) ** 2).sum() / N, rel=1e-12) != first


def test_a_layer_belongs_to_one_living_network() -> None:
    shared = [Dense(N_IN, 5, "tanh"), Dense(5, C)]
    net = mlpx.Sequential(*shared, seed=1)
    before = net.predict(X)
    with pytest.raises(ValueError, match=r"layers: number 0 Dense belongs to another network"):
        mlpx.Sequential(*shared, Softmax())
    with pytest.raises(ValueError, match=r"layers: number 1 Dense belongs to another network"):
        mlpx.Sequential(TimeDistributed(shared[0]), Softmax())
    with pytest.raises(ValueError, match=r"Dense: belongs to a network"):
        shared[0].initialize(seed=5)
    for mode in ("auto", "off"):
        with using_fused(mode):
            np.testing.assert_allclose(net.predict(X), before, atol=1e-6)
    assert np.shares_memory(shared[0].value("w"), net.parameters)
    mlpx.Sequential(copy.deepcopy(shared[0]), Dense(5, 2))
    net.copy()
    del net
    mlpx.Sequential(*shared, Softmax())


@pytest.mark.parametrize("fit_loss", ["squared_error", "cross_entropy"])
def test_a_masked_softmax_inside_a_network(fit_loss) -> None:
    mask = flags("inside", N, C)
    nets = []
    for mode in ("auto", "off"):
        net = mlpx.Sequential(Dense(N_IN, C), MaskedSoftmax(), Dense(C, C), Softmax(), loss=fit_loss, seed=1)
        with using_fused(mode):
            y = net.predict(X, mask)
            history = net.fit(X, np.eye(C)[Y], mask=mask, epochs=3, validation=0.3, progress=False)
            with pytest.raises(ValueError, match="mask: missing"):
                net.predict(X)
            with pytest.raises(ValueError, match="mask: missing"):
                net.fit(X, np.eye(C)[Y], progress=False)
        nets.append((y, history.loss, history.validation_loss, net.parameters))
    for one, other in zip(*nets, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_to_another_backend_and_back() -> None:
    net = network(norm="layer", dtype="float64")
    there = net.to(STRICT)
    np.testing.assert_allclose(from_strict(there.predict(to_strict(X))), net.predict(X), atol=1e-14)
    np.testing.assert_array_equal(there.to("numpy").parameters, net.parameters)
    with pytest.raises(TypeError, match=r"x: lies on the backend numpy, the network on array_api_strict"):
        there.predict(X)


def test_options_of_mlp() -> None:
    net = mlpx.MLP([4, 6, 5, 3], ["relu", "tanh"], "linear", dropout=0.1, norm="layer", seed=3)
    kinds = [type(layer).__name__ for layer in net.layers]
    assert kinds == ["Dense", "LayerNorm", "Activation", "Dropout"] * 2 + ["Dense"]
    assert [layer.kind for layer in net.layers if isinstance(layer, Activation)] == ["relu", "tanh"]
    assert not net.layers[0].bias
    plain = mlpx.MLP([4, 6, 3], "gelu", init="zeros", bias_init="ones")
    assert not plain.layers[0].value("w").any()
    assert (plain.layers[1].value("b") == 1).all()
    assert plain.layers[0].activation == "gelu"
    assert mlpx.MLP([4, 3]).predict(np.ones(4)).shape == (3,)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("predicted", [False, True])
def test_a_network_over_other_buffers(mode, predicted) -> None:
    """It is the same network with those weights, and neither sees what is done to the other."""
    nets = {
        "plain": network(dropout=0.2, norm="batch", output="softmax", dtype="float64"),
        "masked": network(norm="layer", output="masked_softmax", dtype="float64"),
        "inside": mlpx.Sequential(TimeDistributed(Dense(N_IN, 3, "tanh")), Dense(3, 2), dtype="float64"),
    }
    for name, net in nets.items():
        x = np.stack([X, 2 * X]) if name == "inside" else X
        options = {"mask": np.arange(C) < 2 + 0 * X[:, :1]} if name == "masked" else {}
        with using_fused(mode):
            before = net.predict(x, **options)
            net._predictors.clear()
            if predicted:
                net.predict(x, **options)
            again = net.over(net.parameters.copy(), net.buffers.statistics.copy())
            other = net.over(2.0 * net.parameters, 1.0 + net.buffers.statistics)
            np.testing.assert_array_equal(again.predict(x, **options), before)
            expected = copy.deepcopy(net)
            expected.parameters[...], expected.buffers.statistics[...] = other.parameters, other.buffers.statistics
            np.testing.assert_allclose(other.predict(x, **options), expected.predict(x, **options), rtol=1e-6)
            assert repr(other) == repr(net)
            for layer in again.all_layers():
                for parameter in layer.parameters.values():
                    parameter.value[...] = 0.0
            assert not again.parameters.any()
            y, backprop = other.forward(x, Context(mask=options.get("mask")))
            backprop(np.ones_like(y))
            assert other.gradient.any()
            assert not net.gradient.any()
            np.testing.assert_array_equal(net.predict(x, **options), before)
