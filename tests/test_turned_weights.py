"""The first layer's weights turned while a plan's steps are taken: nobody outside sees them, however the steps end."""

import numpy as np
import pytest

import mlpx
from mlpx import optimizers, plan, plan_job, plan_steps
from mlpx.plan_steps import PlanSteps
from mlpx.steps import LayerSteps

N_IN, C, BATCH, STEPS = 13, 4, 5, 40
N = BATCH * STEPS - 2
RNG = np.random.default_rng(7)
X, Y = RNG.standard_normal((N, N_IN)), RNG.integers(0, C, N)
ORDER = RNG.permutation(N)
RATES = np.full(STEPS, 0.05)


class Enough(Exception):
    """Ends steps early."""


def nothing(taken) -> None:
    """Be called after steps."""


@pytest.fixture
def many_calls(monkeypatch) -> None:
    """Let a call take a step or two."""
    monkeypatch.setattr(plan_steps, "SLICE", 0.0)


def pair(optimizer, *, outputs=16, n_threads=1, dtype="float64"):
    """Return a network with its turned steps, and a twin with steps layer by layer."""
    net = mlpx.MLP([N_IN, outputs, 9, C], "tanh", dtype=dtype, seed=1)
    twin = net.copy()
    ways = []
    for each, kind, options in (
        (net, PlanSteps, {"n_threads": n_threads, "deterministic": False}),
        (twin, LayerSteps, {}),
    ):
        chosen = optimizer()
        chosen.start(each)
        ways.append(kind(each, each.batch(X, Y), BATCH, chosen, seed=0, n_steps=STEPS, **options))
    assert ways[0].job.turning
    return ways


def same(fused, plain) -> None:
    """Compare everything that is kept for each weight."""
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if fused.net.dtype == "float32" else {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(fused.net.parameters, plain.net.parameters, **tolerance)
    for one, other in zip(fused.optimizer.state, plain.optimizer.state, strict=True):
        np.testing.assert_allclose(one, other, **tolerance)
    np.testing.assert_allclose(fused.net.gradient, plain.net.gradient, **tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize(("n_threads", "outputs"), [(1, 16), (1, 48), (2, 64), (3, 96)])
def test_steps_with_turned_weights_are_those_layer_by_layer(
    monkeypatch, many_calls, name, clip_norm, dtype, n_threads, outputs
) -> None:
    monkeypatch.setattr(plan_steps, "WORTH_THREADS", 0.0)
    monkeypatch.setattr(plan_job, "first_split", lambda row, batch_size, blocks, itemsize: blocks > 1)
    fused, plain = pair(
        lambda: optimizers.OPTIMIZERS[name](clip_norm=clip_norm, l2=0.01),
        outputs=outputs,
        n_threads=n_threads,
        dtype=dtype,
    )
    assert [(n_in, n_out) for _, n_in, n_out in fused.job.turning] == [(N_IN, outputs // n_threads)] * n_threads
    calls = []
    for epoch in range(2):
        for way in (fused, plain):
            way.take(ORDER, epoch, epoch * STEPS, RATES, calls.append if way is fused else nothing)
        same(fused, plain)
    assert len(calls) > 8


def test_steps_that_end_between_two_calls_leave_the_weights_as_they_should_lie(many_calls) -> None:
    fused, plain = pair(optimizers.Adam)
    before, taken = fused.net.parameters.copy(), []

    def enough(steps) -> None:
        taken.append(steps)
        np.testing.assert_array_equal(fused.net.parameters, before)  # other threads may predict with them
        if sum(taken) >= 7:
            raise Enough

    with pytest.raises(Enough):
        fused.take(ORDER, 0, 0, RATES, enough)
    done = sum(taken)
    assert done < STEPS
    plain.take(ORDER[: done * BATCH], 0, 0, RATES[:done], nothing)
    same(fused, plain)
    for way in (fused, plain):  # and they can go on
        way.take(ORDER[done * BATCH :], 0, done, RATES[done:], nothing)
    same(fused, plain)


@pytest.mark.parametrize("slice_", [0.0, plan_steps.SLICE])
@pytest.mark.parametrize("bad", [0, 1, 20, STEPS - 1])
def test_a_divergence_leaves_the_weights_as_they_should_lie(monkeypatch, slice_, bad) -> None:
    monkeypatch.setattr(plan_steps, "SLICE", slice_)
    fused, plain = pair(optimizers.Momentum)
    rates = RATES.copy()
    rates[bad] = np.inf
    for way in (fused, plain):
        with pytest.raises(mlpx.DivergenceError) as caught:
            way.take(ORDER, 0, 0, rates, nothing)
        assert caught.value.step in (bad, bad + 1)
    assert np.isfinite(fused.net.parameters).all()
    np.testing.assert_allclose(fused.net.parameters, plain.net.parameters, rtol=1e-9, atol=1e-12)


def test_which_weights_are_turned(monkeypatch) -> None:
    def turning(sizes, batch_size, steps, *, n_threads=1, deterministic=False, **options):
        net, optimizer = mlpx.MLP(sizes, **options), optimizers.Adam()
        optimizer.start(net)
        x = np.zeros((batch_size * steps, sizes[0]), np.float32)
        batch = net.batch(x, np.zeros(len(x), int))
        given = {"seed": 0, "n_steps": 1, "n_threads": n_threads, "deterministic": deterministic}
        return len(PlanSteps(net, batch, batch_size, optimizer, **given).job.turning)

    assert turning([64, 128, C], 32, 32) == 1
    assert turning([64, 128, C], 32, 31) == 0  # in so few steps that costs more than it saves
    assert turning([64, 100, C], 32, 32) == 0  # vectors that are not filled
    assert turning([64, 128, C], 32, 32, norm="batch") == 1
    assert turning([784, 256, C], 128, 32, n_threads=2) == 2
    assert turning([784, 256, C], 128, 32, n_threads=2, deterministic=True) == 0
    assert turning([64, 128, C], 1024, 32, n_threads=2) == 0  # blocks of rows, each of which wants all weights

    monkeypatch.setattr(plan.kernels("product"), "IN_TILES", False)
    assert turning([64, 128, C], 32, 32) == 0  # a BLAS turns them on its way
