"""Layers by themselves: what each computes, keeps and refuses. Their gradients are tested with the networks."""

import numpy as np
import pytest
from cases_kit import flags, normal

import mlpx
from mlpx import ops
from mlpx.layers import (
    Activation,
    BatchNorm,
    Context,
    Dense,
    Dropout,
    Layer,
    LayerNorm,
    MaskedSoftmax,
    Softmax,
    TimeDistributed,
)
from mlpx.ops.dispatch import using_fused

X = normal("x", 8, 4)
TRAINING = Context(training=True, seed=3, step=5)
pytestmark = pytest.mark.parametrize("mode", ["auto", "off"])


@pytest.fixture(autouse=True)
def _path(mode):
    with using_fused(mode):
        yield


def ready(layer, seed=1):
    return layer.initialize(seed=seed, dtype="float64")


def test_dense_without_and_with_bias(mode) -> None:
    for bias in (True, False):
        layer = ready(Dense(4, 3, "softplus", bias=bias, bias_init="ones"))
        assert set(layer.parameters) == ({"w", "b"} if bias else {"w"})
        y, _ = layer.forward(X)
        np.testing.assert_allclose(y, np.log1p(np.exp(X @ layer.value("w").T + float(bias))), atol=1e-13)


def test_gradients_are_written_not_added(mode) -> None:
    layer = ready(Dense(4, 3))
    for _ in range(2):
        y, backprop = layer.forward(X)
        backprop(np.ones_like(y))
    np.testing.assert_allclose(layer.parameters["w"].grad, np.tile(X.sum(0), (3, 1)), atol=1e-13)
    np.testing.assert_allclose(layer.parameters["b"].grad, 8.0)


def test_a_first_layer_may_spare_the_gradient_of_its_input(mode) -> None:
    layer = ready(Dense(4, 3))
    y, backprop = layer.forward(X, Context(need_dx=False))
    assert backprop(np.ones_like(y)) is None
    np.testing.assert_allclose(layer.parameters["b"].grad, 8.0)


@pytest.mark.parametrize("kind", ["relu", "tanh", "mish", "exp"])
def test_an_activation_is_the_op(kind, mode) -> None:
    np.testing.assert_array_equal(Activation(kind).forward(X)[0], ops.activation(X, kind=kind)[0])


def test_dropout_passes_on_outside_training(mode) -> None:
    for layer, context in ((Dropout(0.5), Context()), (Dropout(0.0), TRAINING)):
        y, backprop = layer.forward(X, context)
        assert y is X
        assert backprop(X) is X


def test_dropout_keeps_the_mean_and_one_mask_per_place_and_step(mode) -> None:
    x = np.ones((500, 40))
    first, second = Dropout(0.3), Dropout(0.3)
    second.number = 1
    y, backprop = first.forward(x, TRAINING)
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.02)
    np.testing.assert_allclose(y[y != 0], 1 / 0.7)
    np.testing.assert_array_equal(backprop(x), y)
    np.testing.assert_array_equal(first.forward(x, TRAINING)[0], y)
    assert (second.forward(x, TRAINING)[0] != y).any()
    assert (first.forward(x, Context(training=True, seed=3, step=6))[0] != y).any()
    assert (first.forward(x, Context(training=True, seed=4, step=5))[0] != y).any()


@pytest.mark.parametrize("axes", [1, "1", (1.5,), (True,)])
def test_shared_axes_that_cannot_be(axes, mode) -> None:
    with pytest.raises(TypeError, match="shared_axes: expected a"):
        Dropout(0.5, shared_axes=axes)


def test_batch_norm_in_training_and_out_of_it(mode) -> None:
    layer = ready(BatchNorm(4, momentum=0.25, eps=1e-3))
    layer.value("gamma")[...], layer.value("beta")[...] = [1, 2, 3, 4], [0, 1, 0, 1]
    y, _ = layer.forward(X, TRAINING)
    expected = (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-3) * [1, 2, 3, 4] + [0, 1, 0, 1]
    np.testing.assert_allclose(y, expected, atol=1e-12)
    mean, var = 0.25 * X.mean(0), 0.75 + 0.25 * X.var(0, ddof=1)
    np.testing.assert_allclose(layer.value("mean"), mean, atol=1e-13)
    np.testing.assert_allclose(layer.value("var"), var, atol=1e-13)
    y, _ = layer.forward(X)
    np.testing.assert_allclose(y, (X - mean) / np.sqrt(var + 1e-3) * [1, 2, 3, 4] + [0, 1, 0, 1], atol=1e-12)
    np.testing.assert_allclose(layer.value("mean"), mean, atol=1e-13)


def test_batch_norm_of_one_row_and_of_none(mode) -> None:
    layer = ready(BatchNorm(4))
    y, _ = layer.forward(X[:1], TRAINING)
    np.testing.assert_allclose(y, 0.0, atol=1e-12)
    statistics = np.zeros(4), np.ones(4)  # of a single row there is no variance
    np.testing.assert_array_equal(layer.value("mean"), statistics[0])
    np.testing.assert_array_equal(layer.value("var"), statistics[1])
    assert layer.forward(X[:0], TRAINING)[0].shape == (0, 4)
    np.testing.assert_array_equal(layer.value("mean"), statistics[0])
    np.testing.assert_array_equal(layer.value("var"), statistics[1])


def test_layer_norm_is_the_same_in_training_and_out_of_it(mode) -> None:
    layer = ready(LayerNorm(4, eps=1e-3))
    expected = (X - X.mean(1, keepdims=True)) / np.sqrt(X.var(1, keepdims=True) + 1e-3)
    for context in (Context(), TRAINING):
        np.testing.assert_allclose(layer.forward(X, context)[0], expected, atol=1e-12)
    np.testing.assert_allclose(layer.forward(X[2], TRAINING)[0], expected[2], atol=1e-12)


def test_softmax_layers(mode) -> None:
    mask = flags("mask", 8, 4)
    np.testing.assert_allclose(Softmax().forward(X)[0].sum(1), 1.0)
    y, _ = MaskedSoftmax().forward(X, Context(mask=mask))
    np.testing.assert_allclose(y.sum(1), mask.any(1))
    with pytest.raises(ValueError, match=r"mask: missing.*\(8, 4\)"):
        MaskedSoftmax().forward(X)
    with pytest.raises(ValueError, match="mask"):
        MaskedSoftmax().forward(X, Context(mask=mask[:, :3]))


def test_a_mask_reaches_a_masked_softmax_inside_a_sequence(mode) -> None:
    x, mask, valid = normal("x", 3, 5, 4), flags("m", 3, 5, 4), flags("v", 3, 5)
    y, _ = TimeDistributed(MaskedSoftmax()).forward(x, Context(mask=mask, valid=valid))
    np.testing.assert_allclose(y[valid], ops.masked_softmax(x[valid], mask[valid]), atol=1e-15)
    assert not y[~valid].any()


def test_batch_norm_over_time_counts_real_steps_alone(mode) -> None:
    x, valid = normal("x", 3, 5, 4), flags("v", 3, 5)
    x[~valid] = 1e6
    layer = BatchNorm(4, momentum=1.0)
    ready(TimeDistributed(layer)).forward(x, Context(training=True, valid=valid))
    np.testing.assert_allclose(layer.value("mean"), x[valid].mean(0), atol=1e-13)


LAYERS = [
    Dense(4, 3),
    Activation("relu"),
    Dropout(0.2),
    BatchNorm(4),
    LayerNorm(4),
    Softmax(),
    TimeDistributed(Dense(4, 2), Dense(2, 3)),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_sizes_and_empty_input(layer, mode) -> None:
    ready(layer)
    assert layer.input_size() in (4, None)
    for lead in ((8,), (0,), (2, 3), (0, 3)):
        y, backprop = layer.forward(normal("x", *lead, 4))
        assert y.shape == (*lead, layer.output_size(4))
        assert backprop(np.ones_like(y)).shape == (*lead, 4)
    if layer.input_size() == 4:
        with pytest.raises(ValueError, match=r"x has 5 features in its last axis; expected 4"):
            layer.output_size(5)


def test_layers_alone_have_aligned_weights_of_their_own(mode) -> None:
    one, other = ready(Dense(4, 3)), ready(Dense(4, 3))
    np.testing.assert_array_equal(one.value("w"), other.value("w"))
    assert not np.shares_memory(one.value("w"), other.value("w"))
    assert one.value("b").ctypes.data % 64 == 0
    assert (one.value("w") != ready(Dense(4, 3), seed=2).value("w")).any()


def test_a_layer_in_a_network_of_its_user(mode) -> None:
    """A class of one's own runs layer by layer, inside fit as well."""
    kinds = dict(Layer.kinds)

    class Double(Layer):
        def __init__(self) -> None:
            self.declare({})

        def forward(self, x, context=mlpx.layers.INFERENCE):
            return 2 * x, lambda dy: 2 * dy

    try:
        net = mlpx.Sequential(Dense(4, 3), Double(), loss="squared_error", dtype="float64")
        np.testing.assert_allclose(net.predict(X), 2 * (X @ net.layers[0].value("w").T))
        history = net.fit(X, X[:, :3], epochs=30, batch_size=4, progress=False)
        assert history.loss[-1] < history.loss[0]
        assert net.plan_declined
    finally:
        Layer.kinds.clear()
        Layer.kinds.update(kinds)
