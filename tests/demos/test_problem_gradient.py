"""The first problem: the gradient of an n-layer network in matrices, on the numbers that people ask about."""

import numpy as np
import pytest
from cases_kit import normal
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import mlpx
from mlpx.layers import Dense
from mlpx.ops import ACTIVATIONS
from mlpx.ops.dispatch import using_fused

KINKED = ("relu", "leaky_relu", "hard_sigmoid")
SMOOTH = [name for name in ACTIVATIONS if name not in (*KINKED, "elu", "selu")]
HEADS = {"softmax": np.array([0, 2, 1, 1, 0, 2, 2]), "linear": normal("t", 7, 3), "sigmoid": normal("t", 7, 3) > 0}


def check(net, *batch, **options) -> None:
    """Compare with central differences, by the fused kernels and by the references."""
    for mode in ("auto", "off"):
        with using_fused(mode):
            mlpx.check_gradients(net, *batch, tol=1e-7, **options)


@pytest.mark.parametrize("output", HEADS)
@pytest.mark.parametrize("n_layers", range(1, 7))
def test_any_number_of_layers_and_any_mix_of_smooth_activations(n_layers, output) -> None:
    shift = 5 * n_layers + 4 * list(HEADS).index(output)
    mix = [SMOOTH[(shift + place) % len(SMOOTH)] for place in range(n_layers - 1)]
    start = {"init": "lecun_normal", "bias_init": mlpx.Uniform(-0.3, 0.3), "seed": n_layers}
    net = mlpx.MLP([4, *[5 + i for i in range(n_layers - 1)], 3], mix, output, dtype="float64", **start)
    check(net, 0.7 * normal("x", 7, 4), HEADS[output], directions=4)


@pytest.mark.parametrize("activation", [*KINKED, "elu", "selu"])
def test_activations_with_a_kink_away_from_it(activation) -> None:
    net = mlpx.MLP([4, 6, 5, 3], activation, "linear", dtype="float64", bias_init=mlpx.Uniform(-1, 1), seed=4)
    x = normal("x", 7, 4)
    z = x
    for layer in net.layers[:2]:
        z = z @ layer.value("w").T + layer.value("b")
        for kink in (-3.0, 3.0) if activation == "hard_sigmoid" else (0.0,):
            assert np.abs(z - kink).min() > 5e-4, "the point must lie away from every kink"
        z = mlpx.ops.activation(z, kind=activation)[0]
    check(net, x, HEADS["linear"])


@settings(max_examples=40)
@given(
    mix=st.lists(st.tuples(st.sampled_from([*SMOOTH, "elu", "selu"]), st.integers(1, 6)), max_size=5),
    output=st.sampled_from(sorted(HEADS)),
    mode=st.sampled_from(["auto", "off"]),
    seed=st.integers(0, 5),
)
def test_networks_that_nobody_thought_of(mix, output, mode, seed) -> None:
    """Activations without a leap in their slope at all, and elu and selu, whose slopes meet or are far from 0 here."""
    names, widths = [name for name, _ in mix], [width for _, width in mix]
    start = {"init": "lecun_normal", "bias_init": mlpx.Uniform(0.4, 0.9), "seed": seed, "dtype": "float64"}
    net = mlpx.MLP([4, *widths, 3], names, output, **start)
    x = 0.2 * normal("x", 7, 4)
    z = x
    for layer, name in zip(net.layers, names, strict=False):
        z = z @ layer.value("w").T + layer.value("b")
        if name in ("elu", "selu"):
            assume(np.abs(z).min() > 0.02)
        z = mlpx.ops.activation(z, kind=name)[0]
    assume(np.abs(z).max() < 50)
    with using_fused(mode):
        mlpx.check_gradients(net, x, HEADS[output], tol=1e-7, directions=2)


def test_one_instance_is_the_case_of_one_row() -> None:
    net = mlpx.MLP([4, 5, 3], "tanh", dtype="float64", seed=1)
    x, y = normal("x", 7, 4), HEADS["softmax"]
    check(net, x[:1], y[:1])
    whole = net.loss_and_grad(x, y)[1].copy()
    rows = [net.loss_and_grad(x[i : i + 1], y[i : i + 1])[1].copy() for i in range(7)]
    np.testing.assert_allclose(np.mean(rows, axis=0), whole, atol=1e-15)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_the_equations_as_they_stand(mode) -> None:
    x, w, b, dedy = normal("x", 20, 6), normal("w", 4, 6), normal("b", 4), normal("dedy", 20, 4)
    layer = Dense(6, 4, "sigmoid").initialize(dtype="float64")
    layer.value("w")[...], layer.value("b")[...] = w, b
    with using_fused(mode):
        y, backprop = layer.forward(x)
        dedx = backprop(dedy)
    g = 1 / (1 + np.exp(-(x @ w.T + b)))
    d = g * (1 - g) * dedy
    np.testing.assert_allclose(y, g, atol=1e-14)
    np.testing.assert_allclose(dedx, d @ w, atol=1e-14)
    np.testing.assert_allclose(layer.parameters["w"].grad, d.T @ x, atol=1e-13)
    np.testing.assert_allclose(layer.parameters["b"].grad, d.sum(0), atol=1e-13)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("output", HEADS)
def test_delta_is_y_minus_t_for_the_canonical_pairs(output, mode) -> None:
    x, target = normal("x", 7, 4), HEADS[output]
    net = mlpx.MLP([4, 3], output=output, dtype="float64", seed=2)
    with using_fused(mode):
        net.loss_and_grad(x, target)
        delta = (net.predict(x) - (np.eye(3)[target] if output == "softmax" else target)) / len(x)
    dense = net.layers[0]
    np.testing.assert_allclose(dense.parameters["b"].grad, delta.sum(0), atol=1e-15)
    np.testing.assert_allclose(dense.parameters["w"].grad, delta.T @ x, atol=1e-15)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("optimizer", [mlpx.optimizers.SGD(lr=2.0), mlpx.optimizers.Adam(lr=0.05), "lbfgs"])
def test_xor_trains_to_a_loss_below_a_hundredth(optimizer, mode) -> None:
    x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    net = mlpx.MLP([2, 4, 1], "tanh", "sigmoid", seed=1)
    with using_fused(mode):
        history = net.fit(x, y, epochs=1500, batch_size=4, optimizer=optimizer, progress=False)
        assert net.loss_and_grad(x, y)[0] < 0.01
        assert history.loss[-1] < 0.01
        assert ((net.predict(x)[:, 0] > 0.5) == y).all()


def test_bias_as_an_extra_row_both_ways() -> None:
    weights = [normal("v1", 5, 6), normal("v2", 7, 3)]
    net = mlpx.MLP.from_bias_rows(weights, "tanh", "softmax", dtype="float64")
    x = normal("x", 8, 4)
    one = np.ones((8, 1))
    logits = np.hstack([np.tanh(np.hstack([x, one]) @ weights[0]), one]) @ weights[1]
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(net.predict(x), expected, atol=1e-14)
    for back, there in zip(net.with_bias_rows(), weights, strict=True):
        np.testing.assert_array_equal(back, there)
        assert not np.shares_memory(back, net.parameters)
    again = mlpx.MLP.from_bias_rows(net.with_bias_rows(), "tanh", "softmax", dtype="float64")
    np.testing.assert_array_equal(again.parameters, net.parameters)


def test_a_layer_without_bias_has_a_row_of_zeros() -> None:
    net = mlpx.Sequential(Dense(3, 2, bias=False), dtype="float64")
    (v,) = net.with_bias_rows()
    np.testing.assert_array_equal(v, np.vstack([net.layers[0].value("w").T, np.zeros((1, 2))]))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([], "weights: is empty"),
        ([np.ones(3)], r"weights\[0\]: has shape \(3,\); expected \(n_in \+ 1, n_out\)"),
        ([np.ones((1, 3))], r"weights\[0\]: has shape \(1, 3\)"),
        ([np.ones((3, 4)), np.ones((4, 2))], r"weights\[1\]: has shape \(4, 2\); expected 5 rows .*\(3, 4\)"),
    ],
)
def test_bias_rows_that_do_not_fit(weights, words) -> None:
    with pytest.raises(ValueError, match=words):
        mlpx.MLP.from_bias_rows(weights)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_a_thousand_rows_of_five_thousand_at_once_equal_a_loop_over_instances(mode) -> None:
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((1000, 5000)), rng.standard_normal((1000, 10))
    net = mlpx.Sequential(Dense(5000, 10, "tanh"), dtype="float64", seed=1)
    w, b = net.layers[0].value("w"), net.layers[0].value("b")
    with using_fused(mode):
        loss, _ = net.loss_and_grad(x, t)
    dw, db, total = np.zeros_like(w), np.zeros_like(b), 0.0
    for row, target in zip(x, t, strict=True):
        y = np.tanh(w @ row + b)
        d = (1 - y * y) * (y - target) / 1000
        dw += np.outer(d, row)
        db += d
        total += 0.5 * ((y - target) ** 2).sum() / 1000
    assert loss == pytest.approx(total, rel=1e-12)
    np.testing.assert_allclose(net.layers[0].parameters["w"].grad, dw, atol=1e-13)
    np.testing.assert_allclose(net.layers[0].parameters["b"].grad, db, atol=1e-13)
