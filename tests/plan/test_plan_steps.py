"""Steps by the plan with numbers of their own: penalties, eps and the ceiling of a loss, against plain NumPy."""

import math

import numpy as np
import pytest
from scipy.special import expit, log_softmax, xlogy

import mlpx
from mlpx import optimizers
from mlpx.ops.dispatch import using_fused
from mlpx.steps.cpu import PlanSteps

pytestmark = pytest.mark.usefixtures("many_cores")

N, N_IN, C, BATCH = 70, 6, 4, 20
RNG = np.random.default_rng(5)
X = RNG.standard_normal((N, N_IN))
LABELS = RNG.integers(0, C, N)
WEIGHT = RNG.integers(0, 3, N) + 0.5
ROWS = RNG.permutation(N)
PARTS = [ROWS[start : start + BATCH] for start in range(0, N, BATCH)]
EPS = float(np.finfo(np.float64).eps)


def nothing(taken) -> None:
    """Be called after steps."""


def steps_of(net, y, optimizer, *, sample_weight=None, x=X, batch_size=BATCH, n_threads=1, **options) -> PlanSteps:
    optimizer.start(net)
    batch = net.batch(x, y, sample_weight=sample_weight)
    return PlanSteps(
        net, batch, batch_size, optimizer, seed=0, n_steps=9, n_threads=n_threads, deterministic=False, **options
    )


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_a_step_can_have_its_own_rate_penalty_and_eps(clip_norm) -> None:
    rates, l2, eps = np.array([0.1, 0.05, 0.2, 0.01]), np.array([0.3, 0.0, 2.0, 0.7]), np.array([1e-8, 0.1, 1e-3, 1.0])
    net = mlpx.MLP([N_IN, 9, C], "tanh", dtype="float64", seed=1)
    twin = net.copy()
    losses = steps_of(net, LABELS, optimizers.Adam(clip_norm=clip_norm)).take(
        ROWS, 0, 0, rates, nothing, l2=l2, eps=eps
    )
    by_hand = optimizers.Adam(clip_norm=clip_norm)
    by_hand.start(twin)
    wanted = np.zeros((2, 4))
    for s, part in enumerate(PARTS):
        wanted[0, s] = float(twin.step(twin.batch(X[part], LABELS[part]), mlpx.layers.Context(True, 0, s)))
        squares = [(layer.value("w") ** 2).sum() for layer in twin.layers if isinstance(layer, mlpx.layers.Dense)]
        wanted[1, s] = 0.5 * l2[s] * sum(squares)
        by_hand.l2, by_hand.eps = l2[s], eps[s]
        by_hand.update(twin, rates[s])
    np.testing.assert_allclose(losses, wanted, rtol=1e-12)
    np.testing.assert_allclose(net.parameters, twin.parameters, rtol=1e-9, atol=1e-12)


def test_penalties_of_several_blocks_add_up() -> None:
    sizes = [N_IN, 300, 301, C]
    found = []
    for n_threads in (1, 2, 3):
        net = mlpx.MLP(sizes, dtype="float64", seed=1)
        weights = [layer.value("w") for layer in net.layers if isinstance(layer, mlpx.layers.Dense)]
        before = 0.5 * sum(float((w**2).sum()) for w in weights)
        x, y = np.tile(X, (3, 1)), np.tile(LABELS, 3)
        steps = steps_of(net, y, optimizers.SGD(), x=x, batch_size=210, n_threads=n_threads)
        assert steps.blocks == n_threads
        found.append(steps.take(np.arange(210), 0, 0, np.zeros(1), nothing, l2=np.ones(1))[1, 0])
        np.testing.assert_allclose(found[-1], before, rtol=1e-12)
        np.testing.assert_array_equal(net.parameters, mlpx.MLP(sizes, dtype="float64", seed=1).parameters)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("size", [0.1, 3.0, 20.0, 300.0, 1e20])
@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("classes", [C, 40])
def test_the_ceiling_is_that_of_clipped_probabilities(output, size, weight, classes) -> None:
    net = mlpx.MLP([N_IN, classes], output=output, dtype="float64", seed=1)
    y = np.arange(N) % classes if output == "softmax" else (np.arange(N * classes) % 3 == 0).reshape(N, classes) * 1.0
    x = X * size
    steps = steps_of(net, y, optimizers.SGD(), x=x, sample_weight=weight, batch_size=N, ceiling=-math.log(EPS))
    loss = steps.take(np.arange(N), 0, 0, np.zeros(1), nothing)[0, 0]
    z = net.evaluate_batch(net.batch(x, y))[1]
    if output == "softmax":
        rows = -np.log(np.clip(np.exp(log_softmax(z, axis=1)), EPS, 1 - EPS))[np.arange(N), y]
    else:
        p = np.clip(expit(z), EPS, 1 - EPS)
        rows = -(xlogy(y, p) + xlogy(1 - y, 1 - p)).sum(axis=1)
    np.testing.assert_allclose(loss, np.average(rows, weights=weight), rtol=1e-9, atol=1e-15)
    gradient = net.gradient.copy()
    net.step(net.batch(x, y, sample_weight=weight), mlpx.layers.Context(True))
    np.testing.assert_allclose(gradient, net.gradient, rtol=1e-9, atol=1e-12 * size)


def test_certain_rows_count_for_the_rounding_of_one() -> None:
    net = mlpx.MLP([1, 2], dtype="float64", seed=1)
    net.layers[0].value("w")[...] = [[1.0], [-1.0]]
    x, y = np.array([[500.0], [-500.0]]), np.array([0, 1])
    steps = steps_of(net, y, optimizers.SGD(), x=x, batch_size=2, ceiling=-math.log(EPS))
    assert steps.take(np.arange(2), 0, 0, np.zeros(1), nothing)[0, 0] == pytest.approx(EPS, rel=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "width"), [(83, 100), (80, 100), (500, 40), (9, 3000), (1000, 257)])
def test_biases_get_the_sums_over_all_rows(rows, width, dtype) -> None:
    """Wide layers' columns are summed some rows at a time."""
    x, t = RNG.standard_normal((rows, 3)), RNG.standard_normal((rows, width))
    net = mlpx.Sequential(mlpx.layers.Dense(3, width), dtype=dtype, seed=1)
    twin = net.copy()
    still = optimizers.SGD()
    steps_of(net, t, still, x=x, batch_size=rows).take(np.arange(rows), 0, 0, np.zeros(1), nothing)
    with using_fused("off"):
        twin.step(twin.batch(x, t), mlpx.layers.Context(True))
    np.testing.assert_allclose(net.gradient, twin.gradient, rtol=1e-3 if dtype == "float32" else 1e-9, atol=1e-6)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_of_a_single_row_moves_no_running_statistics(mode, dtype) -> None:
    """It has no variance; 21 rows in batches of 20 leave one over."""
    found = []
    for n in (20, 21):
        net = mlpx.MLP([N_IN, 5, C], output="softmax", norm="batch", seed=1, dtype=dtype)
        sgd = optimizers.SGD(lr=1e-30)  # whose second step changes nothing else
        with using_fused(mode):
            net.fit(X[:n], LABELS[:n], epochs=1, batch_size=20, shuffle=False, optimizer=sgd, progress=False)
        found.append(net.buffers.statistics.copy())
    np.testing.assert_array_equal(*found)
    assert found[0].any()


@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_whose_squares_no_float64_holds_are_clipped(both_ways, threads) -> None:
    net = mlpx.Sequential(mlpx.Dense(3, 1), loss="absolute_error", dtype="float64", seed=0)
    before, large = net.parameters.copy(), np.full((8, 3), 1e160)
    options = {"optimizer": mlpx.SGD(1.0, clip_norm=1.0), "n_threads": threads, "progress": False}
    net.fit(large, large[:, 0], epochs=1, batch_size=8, **options)
    assert np.linalg.norm(net.parameters - before) == pytest.approx(1.0)


@pytest.mark.parametrize("size", [1e-200, 1e-160])
def test_gradients_whose_squares_are_0_are_clipped(both_ways, size) -> None:
    net = mlpx.Sequential(mlpx.Dense(3, 1, bias=False), loss="absolute_error", dtype="float64", seed=0)
    net.parameters[:] = 0.0  # so that no digit of the step is lost
    x, y = np.full((8, 3), size), np.ones(8)
    net.fit(x, y, epochs=1, batch_size=8, optimizer=mlpx.SGD(1.0, clip_norm=size / 4), progress=False)
    assert np.linalg.norm(net.parameters / size) == pytest.approx(0.25)
