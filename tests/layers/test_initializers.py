"""Initial weights: their means, variances and ranges, the same from one seed everywhere."""

import numpy as np
import pytest
from strict import STRICT, from_strict

import mlpx
from mlpx.initializers import INITIALIZERS, automatic, find
from mlpx.layers import Dense
from mlpx.ops import ACTIVATIONS

N_IN, N_OUT = 300, 200
VARIANCES = {"glorot": 2 / (N_IN + N_OUT), "he": 2 / N_IN, "lecun": 1 / N_IN}


def draw(init, shape=(N_OUT, N_IN), seed=0):
    return find(init)(np.random.default_rng(seed), shape)


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("family", VARIANCES)
def test_variances(family, kind) -> None:
    w = draw(f"{family}_{kind}")
    assert w.shape == (N_OUT, N_IN)
    assert abs(w.mean()) < 4 * np.sqrt(VARIANCES[family] / w.size)
    assert w.var() == pytest.approx(VARIANCES[family], rel=0.02)
    bound = np.sqrt(3 * VARIANCES[family])
    assert (np.abs(w).max() <= bound) == (kind == "uniform")
    assert np.abs(w).max() > 0.99 * bound


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (1, 4), (4, 1)])
def test_orthogonal(shape) -> None:
    w = draw("orthogonal", shape)
    assert w.shape == shape
    gram = w @ w.T if shape[0] <= shape[1] else w.T @ w
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=1e-14)
    assert np.abs(draw("orthogonal", shape, 1) - w).max() > 1e-3


def test_orthogonal_is_spread_evenly() -> None:
    first = np.array([draw("orthogonal", (3, 3), seed)[0, 0] for seed in range(400)])
    assert abs(first.mean()) < 0.1
    assert (first > 0).mean() == pytest.approx(0.5, abs=0.1)


def test_constants_and_uniform() -> None:
    assert not draw("zeros").any()
    assert (draw("ones") == 1).all()
    w = draw(mlpx.Uniform(-0.5, 2.0))
    assert w.min() >= -0.5
    assert w.max() < 2.0
    assert w.mean() == pytest.approx(0.75, abs=0.02)
    assert (draw(mlpx.Uniform(1.5, 1.5)) == 1.5).all()


@pytest.mark.parametrize("init", [*INITIALIZERS, mlpx.Uniform(-1, 1)])
def test_vectors_and_thin_weights_can_be_drawn(init) -> None:
    for shape in ((7,), (1, 1), (1, 9), (9, 1)):
        w = draw(init, shape)
        assert w.shape == shape
        assert np.isfinite(w).all()


HE = ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "mish")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_automatic_choice(activation) -> None:
    wanted = "he_uniform" if activation in HE else "lecun_normal" if activation == "selu" else "glorot_uniform"
    assert automatic(activation) == wanted
    dense, same = (Dense(9, 5, activation, init=init).initialize(seed=2) for init in ("auto", wanted))
    np.testing.assert_array_equal(dense.value("w"), same.value("w"))


@pytest.mark.parametrize(
    "activation", [name for name in ACTIVATIONS if name != "exp"]
)  # exp of exp is too large anywhere
def test_the_automatic_choice_keeps_a_signal_alive(activation) -> None:
    net = mlpx.Sequential(*(Dense(256, 256, activation) for _ in range(5)), seed=1, dtype="float64")
    y = net.predict(0.5 * np.random.default_rng(0).standard_normal((50, 256)))
    assert np.isfinite(y).all()
    assert 1e-3 < y.std() < 10


def test_layers_take_their_initialisers() -> None:
    dense = Dense(4, 3, init="ones", bias_init=mlpx.Uniform(2, 3)).initialize(seed=1)
    assert (dense.value("w") == 1).all()
    assert ((dense.value("b") >= 2) & (dense.value("b") < 3)).all()
    assert not Dense(4, 3).initialize().value("b").any()


def test_a_seed_gives_the_same_network_on_every_backend() -> None:
    here = mlpx.MLP([5, 6, 3], norm="layer", seed=4)
    with mlpx.using_backend(STRICT):
        there = mlpx.MLP([5, 6, 3], norm="layer", seed=4)
    np.testing.assert_array_equal(from_strict(there.parameters), here.parameters)
