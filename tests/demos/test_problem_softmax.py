"""The second problem: one probability row per instance, with the shapes of the 2-4-3 network people ask about."""

import numpy as np
import pytest
from cases_kit import normal
from scipy.special import softmax as scipy_softmax

import mlpx
from mlpx import ops
from mlpx.ops.dispatch import using_fused

W1, B1, W2, B2 = normal("w1", 4, 2), normal("b1", 1, 4), normal("w2", 3, 4), normal("b2", 1, 3)


def by_hand(x):
    hidden = 1 / (1 + np.exp(-(x @ W1.T + B1)))
    z = hidden @ W2.T + B2
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def by_ops(x, b1, b2):
    hidden, _ = ops.dense(x, W1, b1, activation="sigmoid")
    return ops.softmax(ops.dense(hidden, W2, b2)[0])


def network():
    """Return the 2-4-3 network with its weights set from arrays whose biases are (1, n)."""
    net = mlpx.MLP([2, 4, 3], "sigmoid", dtype="float64")
    for layer, w, b in zip(net.layers, (W1, W2), (B1, B2), strict=False):
        layer.value("w")[...], layer.value("b")[...] = w, b
    return net


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("m", [1, 2, 5, 200])
def test_the_2_4_3_network(m, mode) -> None:
    x = normal("x", m, 2)
    with using_fused(mode):
        y = network().predict(x)
        np.testing.assert_allclose(y, by_hand(x), atol=1e-15)
        np.testing.assert_allclose(by_ops(x, B1, B2), by_hand(x), atol=1e-15)
        np.testing.assert_array_equal(by_ops(x, B1, B2), by_ops(x, B1[0], B2[0]))
    assert y.shape == (m, 3)


def test_biases_of_both_forms_come_back_as_gradients_of_the_weights_gradient() -> None:
    x, dy = normal("x", 5, 2), normal("dy", 5, 4)
    grads = []
    for b in (B1, B1[0]):
        _, saved = ops.dense(x, W1, b, activation="sigmoid")
        grads.append(ops.dense_grad(dy, x, W1, saved, activation="sigmoid"))
    for one, other in zip(*grads, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "argument", "came", "wanted"),
    [
        ({"x": np.ones((5, 3))}, "x", "(5, 3)", "2"),
        ({"w": np.ones((2, 4))}, "w", "(2, 4)", "2"),
        ({"w": np.ones(4)}, "w", "(4,)", "(n_out, n_in)"),
        ({"b": np.ones((4, 1))}, "b", "(4, 1)", "(4,)"),
        ({"b": np.ones(3)}, "b", "(3,)", "(4,)"),
        ({"b": np.ones((5, 4))}, "b", "(5, 4)", "(4,)"),
    ],
)
def test_shapes_that_cannot_fit_name_argument_came_and_wanted(change, argument, came, wanted) -> None:
    given = {"x": np.ones((5, 2)), "w": W1, "b": B1} | change
    with pytest.raises(ValueError, match=rf"\b{argument}\b") as caught:
        ops.dense(given["x"], given["w"], given["b"])
    assert came in str(caught.value)
    assert wanted in str(caught.value)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exact_at_logits_of_ten_thousand(dtype, mode) -> None:
    z = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4], [1e4, 1e4 - 1, -1e4]], dtype)
    with using_fused(mode):
        y = ops.softmax(z)
    a = 1 / (1 + np.exp(-1.0))
    expected = [[1, 0, 0], [1 / 3] * 3, [1 / 3] * 3, [a, 1 - a, 0]]
    np.testing.assert_allclose(y, expected, rtol=2 * np.finfo(dtype).eps)
    assert (y[0] == [1, 0, 0]).all()


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("classes", [1, 2, 3, 10, 1000, 100_000])
def test_any_number_of_classes_sums_to_one_in_float32(classes, mode) -> None:
    rng = np.random.default_rng(classes)
    for scale in (1.0, 1e4):
        z = (scale * rng.standard_normal((4, classes))).astype("f")
        with using_fused(mode):
            y = ops.softmax(z)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y.sum(axis=1, dtype=np.float64), 1.0, atol=1e-6)
        np.testing.assert_allclose(y, scipy_softmax(z.astype("d"), axis=1), rtol=3e-5, atol=1e-37)


def test_classes_past_the_last_are_an_error_that_states_the_range() -> None:
    with pytest.raises(ValueError, match=r"y: holds class numbers from 1 to 3; expected 0 to 2 for 3 outputs"):
        network().loss_and_grad(normal("x", 3, 2), np.array([1, 2, 3]))


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_it_learns_and_its_gradient_is_right(mode) -> None:
    x = normal("x", 90, 2)
    y = (np.arctan2(x[:, 1], x[:, 0]) // (2 * np.pi / 3) + 1.5).astype(int) % 3
    net = network()
    with using_fused(mode):
        mlpx.check_gradients(net, x[:9], y[:9], tol=1e-7)
        net.fit(x, y, epochs=150, batch_size=30, optimizer=mlpx.optimizers.Adam(lr=0.05), progress=False)
        assert (net.predict(x).argmax(axis=1) == y).mean() > 0.9
