"""A fit's calls into compiled code: wherever they are cut or end, they are steps layer by layer."""

import numpy as np
import pytest
from training_kit import cut_calls

import mlpx
from mlpx import optimizers
from mlpx.steps import LayerSteps
from mlpx.steps.cpu import PlanSteps

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


def pair(optimizer, *, dtype="float64", factors=(1.0, 1.0), norm=None):
    """Return a network with its steps by the plan, and a twin with steps layer by layer."""
    layers = mlpx.layers
    first = layers.Dense(N_IN, 16, "tanh", lr_factor=factors[0], bias_lr_factor=factors[1])
    norms = [layers.BatchNorm(16)] if norm else []
    net = mlpx.Sequential(first, *norms, layers.Dense(16, C), layers.Softmax(), dtype=dtype, seed=1)
    ways = []
    for each, kind, options in (
        (net, PlanSteps, {"n_threads": 1, "deterministic": False}),
        (net.copy(), LayerSteps, {}),
    ):
        chosen = optimizer()
        chosen.start(each)
        ways.append(kind(each, each.batch(X, Y), BATCH, chosen, seed=0, n_steps=STEPS, **options))
    return ways


def same(fused, plain) -> None:
    """Compare everything that is kept for each weight, and the count of steps."""
    assert fused.optimizer.steps == plain.optimizer.steps
    np.testing.assert_allclose(fused.net.parameters, plain.net.parameters, rtol=1e-6, atol=1e-9)
    for one, other in zip(fused.optimizer.state, plain.optimizer.state, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fused.net.gradient, plain.net.gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_calls_of_three_steps_are_steps_layer_by_layer(monkeypatch, name, clip_norm) -> None:
    cut_calls(monkeypatch, lambda: 3)
    fused, plain = pair(lambda: optimizers.OPTIMIZERS[name](clip_norm=clip_norm, l2=0.01))
    calls = []
    for epoch in range(2):
        for way in (fused, plain):
            way.take(ORDER, epoch, epoch * STEPS, RATES, calls.append if way is fused else nothing)
        same(fused, plain)
    assert calls == 2 * [*(21 * [3]), 1]


def test_steps_that_end_between_two_calls_can_go_on(monkeypatch) -> None:
    cut_calls(monkeypatch, lambda: 3)
    fused, plain = pair(optimizers.Adam)
    taken = []

    def enough(steps) -> None:
        taken.append(steps)
        if sum(taken) >= 7:
            raise Enough

    with pytest.raises(Enough):
        fused.take(ORDER, 0, 0, RATES, enough)
    done = sum(taken)
    assert done < STEPS
    plain.take(ORDER[: done * BATCH], 0, 0, RATES[:done], nothing)
    same(fused, plain)
    for way in (fused, plain):
        way.take(ORDER[done * BATCH :], 0, done, RATES[done:], nothing)
    same(fused, plain)


@pytest.mark.parametrize("bad", [0, 1, 2, 20, STEPS - 1])
@pytest.mark.parametrize("factors", [(1.0, 1.0), (0.0, 1.0), (1.0, 0.0)])
def test_a_divergence_in_any_step_of_a_second_epoch(monkeypatch, factors, bad) -> None:
    cut_calls(monkeypatch, lambda: 3)
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
