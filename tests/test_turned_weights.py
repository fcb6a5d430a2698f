"""The first layer's weights turned while a plan's steps are taken: nobody outside sees them, however the steps end."""

import numpy as np
import pytest

import mlpx
from mlpx import optimizers, plan, plan_job, plan_steps
from mlpx.choice import Choice
from mlpx.plan_steps import PlanSteps
from mlpx.steps import LayerSteps

N_IN, C, BATCH, STEPS = 13, 4, 5, 64
N = BATCH * STEPS - 2
RNG = np.random.default_rng(7)
X, Y = RNG.standard_normal((N, N_IN)), RNG.integers(0, C, N)
ORDER = RNG.permutation(N)
RATES = np.full(STEPS, 0.01)


class Enough(Exception):
    """Ends steps early."""


def nothing(taken) -> None:
    """Be called after steps."""


@pytest.fixture(autouse=True)
def tiles(monkeypatch) -> None:
    """Let weights be turned where all products are left to a BLAS, too."""
    monkeypatch.setattr(plan.kernels("product"), "IN_TILES", True)


@pytest.fixture
def many_calls(monkeypatch) -> None:
    """Let a call take three steps."""
    monkeypatch.setattr(
        plan_steps.PlanSteps, "seconds_per_step", property(lambda _: 0.3, lambda *_: None), raising=False
    )
    monkeypatch.setattr(plan_steps, "SLICE", 1.0)
    monkeypatch.setattr(Choice, "next", lambda self, first: (self.candidates[0], 1.0))


@pytest.fixture(autouse=True)
def few_steps_will_do(monkeypatch) -> None:
    """Turn weights for so few steps as there are here, though they are half of the network's."""
    monkeypatch.setattr(plan_job, "TURNED_STEPS", 10)


def pair(optimizer, *, outputs=16, dtype="float64", factors=(1.0, 1.0)):
    """Return a network with its turned steps, and a twin with steps layer by layer."""
    layers = mlpx.layers
    first = layers.Dense(N_IN, outputs, "tanh", lr_factor=factors[0], bias_lr_factor=factors[1])
    others = layers.Dense(outputs, 9, "tanh"), layers.Dense(9, C), layers.Softmax()
    net = mlpx.Sequential(first, *others, dtype=dtype, seed=1)
    twin = net.copy()
    ways = []
    for each, kind, options in (
        (net, PlanSteps, {"n_threads": 1, "deterministic": False}),
        (twin, LayerSteps, {}),
    ):
        chosen = optimizer()
        chosen.start(each)
        ways.append(kind(each, each.batch(X, Y), BATCH, chosen, seed=0, n_steps=STEPS, **options))
    assert ways[0].job.turning
    return ways


def same(fused, plain) -> None:
    """Compare everything that is kept for each weight."""
    tolerance = {"rtol": 1e-2, "atol": 2e-3} if fused.net.dtype == "float32" else {"rtol": 1e-6, "atol": 1e-9}
    np.testing.assert_allclose(fused.net.parameters, plain.net.parameters, **tolerance)
    for one, other in zip(fused.optimizer.state, plain.optimizer.state, strict=True):
        np.testing.assert_allclose(one, other, **tolerance)
    np.testing.assert_allclose(fused.net.gradient, plain.net.gradient, **tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("outputs", [16, 48])
def test_steps_with_turned_weights_are_those_layer_by_layer(many_calls, name, clip_norm, dtype, outputs) -> None:
    chosen = optimizers.OPTIMIZERS[name]
    fused, plain = pair(lambda: chosen(clip_norm=clip_norm, l2=0.01), outputs=outputs, dtype=dtype)
    calls = []
    for epoch in range(2):
        for way in (fused, plain):
            way.take(ORDER, epoch, epoch * STEPS, RATES, calls.append if way is fused else nothing)
        same(fused, plain)
    assert calls == 2 * [*(21 * [3]), 1]


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


@pytest.mark.parametrize("bad", [0, 1, 2, 20, STEPS - 1])
@pytest.mark.parametrize("factors", [(1.0, 1.0), (0.0, 1.0), (1.0, 0.0)])
def test_a_divergence_leaves_the_weights_as_they_should_lie(many_calls, factors, bad) -> None:
    """In the second epoch, so that what the first has left behind counts."""
    fused, plain = pair(optimizers.Momentum, factors=factors)
    rates, steps = RATES.copy(), []
    rates[bad] = np.inf
    for way in (fused, plain):
        way.take(ORDER, 0, 0, RATES, nothing)
        with pytest.raises(mlpx.DivergenceError) as caught:
            way.take(ORDER, 1, STEPS, rates, nothing)
        steps.append(caught.value.step)
    assert steps[0] == steps[1]
    assert np.isfinite(fused.net.parameters).all()
    np.testing.assert_allclose(fused.net.parameters, plain.net.parameters, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("at", [0, 5, 21])
def test_ctrl_c_right_after_a_call_leaves_the_weights_as_they_should_lie(monkeypatch, many_calls, at) -> None:
    """The second Ctrl-C raises at once, before anybody can take note of what the call has done."""
    fused, plain = pair(optimizers.Adam)
    call, calls = PlanSteps._call, []

    def pressed(*given):
        result = call(*given)
        calls.append(result)
        if len(calls) == at + 1:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(PlanSteps, "_call", pressed)
    with pytest.raises(KeyboardInterrupt):
        fused.take(ORDER, 0, 0, RATES, nothing)
    done = min(3 * (at + 1), STEPS)
    plain.take(ORDER[: done * BATCH], 0, 0, RATES[:done], nothing)
    same(fused, plain)


def test_which_weights_are_turned(monkeypatch) -> None:
    monkeypatch.undo()

    def turning(sizes, batch_size, steps, *, n_threads=1, **options):
        net, optimizer = mlpx.MLP(sizes, **options), optimizers.Adam()
        optimizer.start(net)
        x = np.zeros((batch_size * steps, sizes[0]), np.float32)
        batch = net.batch(x, np.zeros(len(x), int))
        given = {"seed": 0, "n_steps": 1, "n_threads": n_threads, "deterministic": False}
        return PlanSteps(net, batch, batch_size, optimizer, **given).job.turning

    assert turning([64, 128, C], 32, 64)
    assert turning([64, 128, C], 32, 64, norm="batch")
    assert turning([64, 128, C], 32, 64, n_threads=2)  # so little work that one thread does it
    assert not turning([64, 128, C], 32, 40)  # in so few steps that costs more than it saves
    assert not turning([64, 128, 128, C], 32, 64)  # most of what would be copied needs no turning
    assert not turning([64, 16400, C], 1, 100)  # more than the caches hold
    assert not turning([64, 100, C], 32, 64)  # vectors that are not filled
    assert not turning([64, 128, C], 1024, 64, n_threads=2)
    monkeypatch.setattr(plan.kernels("product"), "IN_TILES", False)
    assert not turning([64, 128, C], 32, 64)  # a BLAS turns them on its way
