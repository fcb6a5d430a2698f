"""Steps by the plan with numbers of their own: penalties, eps and the ceiling of a loss, against plain NumPy."""

import math

import numpy as np
import pytest
from scipy.special import expit, log_softmax, xlogy

import mlpx
from mlpx import optimizers, plan_job, plan_steps
from mlpx.choice import Choice
from mlpx.op import using_fused
from mlpx.plan import describe, kernels
from mlpx.plan_steps import PlanSteps

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
    batch = net.batch(x, y, None, sample_weight)
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
    z = net.evaluate(net.batch(x, y))[1]
    if output == "softmax":
        rows = -np.log(np.clip(np.exp(log_softmax(z, axis=1)), EPS, 1 - EPS))[np.arange(N), y]
    else:
        p = np.clip(expit(z), EPS, 1 - EPS)
        rows = -(xlogy(y, p) + xlogy(1 - y, 1 - p)).sum(axis=1)
    np.testing.assert_allclose(loss, np.average(rows, weights=weight), rtol=1e-9, atol=1e-15)
    gradient = net.gradient.copy()
    net.step(net.batch(x, y, None, weight), mlpx.layers.Context(True))
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


@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize("rows", [N, 10, 3])
@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize(("activation", "factors"), [("tanh", (1.0, 0.0)), ("gelu", (0.0, 1.0)), ("gelu", (1.0, 1.0))])
def test_what_blocks_of_rows_and_of_outputs_compute_adds_up(
    monkeypatch, activation, factors, apart, rows, clip_norm
) -> None:
    """Gradients are summed by blocks of rows; or else by those of outputs, which take the first layer by themselves.

    Ten rows leave nothing for the second of three blocks, and nine outputs nothing for the third.
    """
    monkeypatch.setattr(plan_steps, "WORTH_THREADS", 0.0)
    monkeypatch.setattr(
        plan_job, "summed_apart", lambda rows, *_, **__: [apart and row.weight is not None for row in rows]
    )
    monkeypatch.setattr(plan_job, "first_split", lambda *_: not apart)
    found = []
    for n_threads in (1, 3):
        first = mlpx.layers.Dense(N_IN, 9, activation, lr_factor=factors[0])
        second = mlpx.layers.Dense(9, 9, lr_factor=factors[1])
        layers = first, mlpx.layers.LayerNorm(9), second, mlpx.layers.Dense(9, C), mlpx.layers.Softmax()
        net = mlpx.Sequential(*layers, dtype="float64", seed=1)
        twin, by_hand = net.copy(), optimizers.Adam(clip_norm=clip_norm)
        steps = steps_of(net, LABELS, optimizers.Adam(clip_norm=clip_norm), batch_size=rows, n_threads=3)
        steps.choice = Choice(n_threads)
        parts = [ROWS[start : start + rows] for start in range(0, N, rows)]
        steps.take(ROWS, 0, 0, np.full(len(parts), 0.1), nothing)
        by_hand.start(twin)
        with using_fused("off"):
            for part in parts:
                twin.step(twin.batch(X[part], LABELS[part]), mlpx.layers.Context(True))
                by_hand.update(twin, 0.1)
        if clip_norm is not None or all(factors):  # else nobody needs the gradients of frozen layers
            np.testing.assert_allclose(net.gradient, twin.gradient, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(net.parameters, twin.parameters, rtol=1e-9, atol=1e-12)
        found.append(net.parameters)
    np.testing.assert_array_equal(*found)


def test_few_weights_for_many_rows_are_summed_by_blocks_of_rows() -> None:
    def apart(sizes, batch_size, *, blocks=2, clipped=False, **options):
        rows = describe(mlpx.MLP(sizes, **options).body(), sizes[0], training=True)
        return plan_job.summed_apart(rows, batch_size, blocks, clipped=clipped)

    assert apart([64, 100, C], 400) == [True, True]
    assert apart([64, 100, C], 400, blocks=1) == [False, False]
    assert apart([784, 512, C], 128) == [False, True]
    assert apart([64, 100, C], 400, norm="layer") == [True, True, False, True]
    assert not any(apart([64, 100, C], 400, norm="batch"))


def test_a_first_layer_of_many_weights_is_split_by_outputs() -> None:
    """But not for a deterministic fit, whose blocks may be more than there are threads."""

    def job(sizes, batch_size, **options):
        net = mlpx.MLP(sizes)
        optimizer = optimizers.Adam()
        optimizer.start(net)
        batch = net.batch(np.zeros((batch_size, sizes[0]), np.float32), np.arange(batch_size) % C)
        steps = PlanSteps(net, batch, batch_size, optimizer, seed=0, n_steps=1, n_threads=2, **options)
        return steps.job.values[kernels("job").SPLIT], len(steps.job.table.whole)

    assert job([784, 512, C], 128, deterministic=False) == (1, 4)
    assert job([784, 512, C], 128, deterministic=True) == (0, 2)
    assert job([784, 4096, C], 256, deterministic=False) == (0, 2)  # inputs of 800 KB
    assert job([9000, 15, C], 12, deterministic=False) == (0, 2)  # outputs for one block alone
    assert job([64, 100, C], 400, deterministic=False) == (0, 2)
    assert job([64, C], 32, deterministic=False) == (0, 1)  # on one thread
