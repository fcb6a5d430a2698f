"""Every optimiser trains; its options do what they say. The arithmetic of each step is tested with the ops."""

import copy
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
from cases_kit import normal

import mlpx
from mlpx import optimizers
from mlpx.layers import Dense, Softmax
from mlpx.ops.dispatch import using_fused
from mlpx.optimizers import OPTIMIZERS, SGD

N, N_IN, C = 120, 4, 3
X = normal("x", N, N_IN)
Y = (X @ normal("w", N_IN, C)).argmax(axis=1)
RATES = {"sgd": 0.5, "momentum": 0.1, "nesterov": 0.1, "adagrad": 0.1, "adadelta": 10.0, "rprop": 0.01}


def network(**options):
    return mlpx.MLP([N_IN, 8, C], "tanh", **({"seed": 1, "dtype": "float64"} | options))


def fit(net, optimizer, **options):
    return net.fit(X, Y, optimizer=optimizer, **({"epochs": 1, "batch_size": N, "progress": False} | options))


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_trains_a_small_network(name, mode) -> None:
    net = network(dtype="float32")
    batch_size = N if name == "rprop" else 20
    with using_fused(mode):
        history = fit(net, OPTIMIZERS[name](lr=RATES.get(name, 0.02)), epochs=60, batch_size=batch_size)
    assert history.loss[-1] < 0.35 * history.loss[0]
    assert (net.predict(X).argmax(axis=1) == Y).mean() > 0.9


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_name_is_the_object_with_its_defaults(name) -> None:
    one, other = network(), network()
    fit(one, name, epochs=2, batch_size=50)
    fit(other, OPTIMIZERS[name](), epochs=2, batch_size=50)
    np.testing.assert_array_equal(one.parameters, other.parameters)
    assert (one.parameters != network().parameters).any()


def step(**options):
    """Return (weights before, gradient, weights after) one step of gradient descent with these options."""
    net = network()
    before, gradient = net.parameters.copy(), net.loss_and_grad(X, Y)[1].copy()
    fit(net, SGD(lr=0.5, **options))
    return before, gradient, net.parameters.copy()


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("limit", [1e-3, 0.05, 1e3])
def test_clipping_by_norm(limit, mode) -> None:
    with using_fused(mode):
        before, gradient, after = step(clip_norm=limit)
    factor = min(1.0, limit / np.linalg.norm(gradient))
    np.testing.assert_allclose(after, before - 0.5 * factor * gradient, atol=1e-14)
    assert np.linalg.norm(after - before) <= 0.5 * limit * (1 + 1e-12)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("limit", [1e-3, 0.01, 1e3])
def test_clipping_by_value(limit, mode) -> None:
    with using_fused(mode):
        before, gradient, after = step(clip_value=limit)
    np.testing.assert_allclose(after, before - 0.5 * np.clip(gradient, -limit, limit), atol=1e-14)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_clipping_survives_gradients_whose_squares_overflow(mode) -> None:
    net = mlpx.Sequential(Dense(2, 1, bias=False, init="zeros"), loss="squared_error")
    with using_fused(mode):
        net.fit([[1e10, 1e10]], [-1e15], epochs=1, optimizer=SGD(lr=1.0, clip_norm=2.0), progress=False)
    np.testing.assert_allclose(net.layers[0].value("w"), [[-(2**0.5)] * 2], rtol=1e-5)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_penalties_and_decay_as_written(mode) -> None:
    weights = np.zeros(network().parameters.size, bool)
    for layer in network().all_layers():
        if isinstance(layer, Dense):
            p = layer.parameters["w"]
            weights[p.offset : p.offset + p.size] = True
    with using_fused(mode):
        for option, extra in (
            ("l1", lambda w: 0.1 * np.sign(w)),
            ("l2", lambda w: 0.1 * w),
            ("weight_decay", lambda w: 0.1 * w),
        ):
            before, gradient, after = step(**{option: 0.1})
            expected = before - 0.5 * (gradient + np.where(weights, extra(before), 0.0))
            np.testing.assert_allclose(after, expected, atol=1e-14)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learning_rate_factors_freeze_and_scale_layers(name, mode) -> None:
    def make(factor):
        layers = Dense(N_IN, 8, "tanh", lr_factor=factor), Dense(8, C)
        return mlpx.Sequential(*layers, Softmax(), seed=1, dtype="float64")

    frozen, whole = make(0.0), make(1.0)
    with using_fused(mode):
        fit(frozen, OPTIMIZERS[name](weight_decay=0.1, l2=0.1), epochs=3)
        fit(whole, OPTIMIZERS[name](weight_decay=0.1, l2=0.1), epochs=3)
    start = make(0.0)
    for key in "wb":
        np.testing.assert_array_equal(frozen.layers[0].value(key), start.layers[0].value(key))
        assert (whole.layers[0].value(key) != start.layers[0].value(key)).any()
        assert (frozen.layers[1].value(key) != start.layers[1].value(key)).any()


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_a_learning_rate_factor_multiplies_the_step(mode) -> None:
    moves = []
    for factor in (1.0, 0.25):
        layers = Dense(N_IN, 8, "tanh", lr_factor=factor), Dense(8, C)
        net = mlpx.Sequential(*layers, Softmax(), seed=1, dtype="float64")
        before = net.layers[0].value("w").copy()
        with using_fused(mode):
            fit(net, SGD(lr=0.5))
        moves.append(net.layers[0].value("w") - before)
    np.testing.assert_allclose(moves[1], 0.25 * moves[0], atol=1e-14)


def test_adam_and_adamw_against_the_papers() -> None:
    for decay in (0.0, 0.1):
        net, mine = network(), network()
        m = v = np.zeros(mine.parameters.size)
        is_weight = np.zeros(m.size, bool)
        is_weight[slice(*net.buffers.groups[0][:2])] = net.buffers.groups[0][2]
        for t in range(1, 6):
            g = mine.loss_and_grad(X, Y)[1]
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            move = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            mine.parameters[...] -= 0.01 * (move + np.where(is_weight, decay * mine.parameters, 0.0))
        fit(net, optimizers.AdamW(lr=0.01, weight_decay=decay), epochs=5)
        np.testing.assert_allclose(net.parameters, mine.parameters, atol=1e-12)


def test_optimisers_compare_by_their_options_and_show_them() -> None:
    assert optimizers.Adam(lr=0.1) == optimizers.Adam(lr=0.1) != optimizers.Adam(lr=0.2)
    used = optimizers.Adam(lr=0.1)
    fit(network(), used)
    assert used == optimizers.Adam(lr=0.1)
    assert "lr=0.1" in repr(used)
    assert "array" not in repr(used)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_the_learning_rate_comes_first_and_all_else_by_name(name) -> None:
    assert optimizers.OPTIMIZERS[name](0.25).lr == 0.25
    with pytest.raises(TypeError, match="positional"):
        optimizers.OPTIMIZERS[name](0.25, "constant")


# --- the state, and which network's it is ----------------------------------------------------------------------------

JOINT = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda both: pickle.loads(pickle.dumps(both)),
    "twice": lambda both: copy.deepcopy(pickle.loads(pickle.dumps(both))),
}


@pytest.mark.parametrize("way", JOINT.values(), ids=JOINT)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_copies_of_network_and_optimizer_go_on_as_both_do(name, way) -> None:
    net, optimizer = network(), OPTIMIZERS[name](lr=0.01)
    options = {"epochs": 2, "batch_size": 30, "shuffle": False}
    fit(net, optimizer, **options)
    others = way((net, optimizer)), way({"optimizer": optimizer, "net": net}).values()
    fit(net, optimizer, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for made in others:
            twin, own = sorted(made, key=lambda thing: isinstance(thing, optimizers.Optimizer))
            assert own.steps == 8
            fit(twin, own, **options)
            np.testing.assert_array_equal(twin.parameters, net.parameters)
            assert own.steps == optimizer.steps == 16
            for state, other in zip(own.state, optimizer.state, strict=True):
                np.testing.assert_array_equal(state, other)


def test_an_optimizer_copied_alone_says_that_its_state_is_dropped() -> None:
    net, adam = network(), optimizers.Adam()
    fit(net, adam, epochs=3)
    for alone in (copy.deepcopy(adam), pickle.loads(pickle.dumps(adam))):
        twin = net.copy()
        with pytest.warns(
            UserWarning, match=r"Adam was copied without its network, so the state of its 3 steps"
        ) as seen:
            fit(twin, alone)
        assert seen[0].filename == __file__
        assert alone.steps == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(network(), adam)  # which was meant
        fit(net.copy(), copy.deepcopy(optimizers.Adam()))  # nothing to drop
        fit(network(), replace(adam))  # which has no state
        fit(network(), alone)
        alone.forget()
        fit(net, alone)
        fit(net.copy(), copy.copy(alone))


def test_an_optimizer_copied_alone_may_adopt_the_network() -> None:
    net, adam = network(), optimizers.Adam()
    fit(net, adam, epochs=3)
    twin, alone = net.copy(), pickle.loads(pickle.dumps(adam))
    alone.adopt(twin)
    fit(net, adam, epochs=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(twin, alone, epochs=3)
    np.testing.assert_array_equal(twin.parameters, net.parameters)
    with pytest.raises(
        ValueError, match=r"net: has \d+ parameters of float32; the optimizer's state is of \d+ of float64"
    ):
        alone.adopt(network(dtype="float32"))
    assert alone.steps == 6


def test_a_state_that_may_not_be_written_to_is_copied() -> None:
    """As one is that joblib maps from a file, or that was pickled out of band."""
    net, adam = network(), optimizers.Adam()
    fit(net, adam)
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps((net, adam), protocol=5, buffer_callback=buffers.append)
    twin, own = pickle.loads(data, buffers=[bytes(b.raw()) for b in buffers])
    assert not own.state[0].flags.writeable
    for each in ((net, adam), (twin, own)):
        fit(*each)
    np.testing.assert_array_equal(twin.parameters, net.parameters)


def test_a_shallow_copy_counts_for_itself() -> None:
    net, adam = network(), optimizers.Adam()
    fit(net, adam, epochs=3)
    other = copy.copy(adam)
    assert other.state[0] is adam.state[0]
    fit(net, adam, epochs=3)
    assert (other.steps, adam.steps) == (3, 6)


def test_what_was_trained_on_a_gpu_goes_on_wherever_it_is_copied_to(cupy_standin) -> None:
    del cupy_standin  # only its presence matters
    with mlpx.using_backend("cupy"):
        net, adam = network(dtype="float32"), optimizers.Adam()
        fit(net, adam, epochs=3)
    data = pickle.dumps((net, adam))
    there = copy.deepcopy((net, adam))
    assert there[0].backend.name == "cupy"
    here = pickle.loads(data)
    assert here[0].backend.name == "numpy"
    for each in ((net, adam), there, here):
        with mlpx.using_backend(each[0].backend):
            fit(*each)
            assert each[1].steps == 4
    for twin, _ in (there, here):
        np.testing.assert_allclose(mlpx.to_numpy(twin.parameters), mlpx.to_numpy(net.parameters), atol=1e-5)


def test_an_eps_that_is_0_in_the_network_s_dtype_is_refused() -> None:
    net = mlpx.MLP([4, 3, 2])
    with pytest.raises(ValueError, match="eps: 1e-300 is 0 in float32"):
        net.fit(np.ones((6, 4)), np.arange(6) % 2, optimizer=mlpx.Adam(eps=1e-300), progress=False)
    net.astype("float64").fit(
        np.ones((6, 4)), np.arange(6) % 2, optimizer=mlpx.Adam(eps=1e-300), progress=False, epochs=1
    )
