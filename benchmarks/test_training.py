"""A training step (rows in order) and an epoch (rows shuffled): the plan, layer by layer, and the peers."""

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks import trainers
from benchmarks.measure import quick
from benchmarks.nets import DEEP, FIVE, Net, sized
from benchmarks.peers import Absent, Calls

NETS = [pytest.param(net, id=net.name) for net in (*FIVE, DEEP)]


def _compiled(net: Net) -> Callable[[], trainers.Trainer]:
    def make() -> trainers.Trainer:
        if quick():
            raise Absent("takes long to compile; not in quick mode")
        return trainers.pytorch(net, shuffle=False, compiled=True)

    return make


def _calls(net: Net, shuffle: bool) -> Calls:
    once = net.once()
    calls = Calls(
        mlpx=trainers.mlpx(net, shuffle=shuffle),
        layers=trainers.layer_by_layer(once, shuffle=shuffle),
    )
    calls.add("torch", lambda: trainers.pytorch(once, shuffle=shuffle))
    if not shuffle:
        calls.add("torch.compile", _compiled(once))
    calls.add("jax", lambda: trainers.jax_scan(net, shuffle=shuffle))
    calls.add("sklearn", lambda: trainers.scikit_learn(once, shuffle=shuffle))
    return calls


def epochs(name: str, net: Net) -> float:
    """Return the epochs of one call of an implementation."""
    return float(net.epochs if name in ("mlpx", "jax") else 1)


def plan_equals_layers(net: Net) -> None:
    """Raise unless an epoch by the plan and one by the reference ops reach the same loss."""
    once = Net(net.sizes, net.batch, min(net.steps, 8))
    plan = trainers.mlpx(once, shuffle=False)()
    reference = trainers.layer_by_layer(once, shuffle=False, fused="off")()
    np.testing.assert_allclose(plan, reference, rtol=1e-3)


@pytest.mark.parametrize("net", NETS)
def test_step(net: Net, compare) -> None:
    """A step with rows in order, so that nobody's shuffling counts."""
    name, net = net.name, sized(net)
    calls = _calls(net, shuffle=False)
    calls["numpy"] = trainers.numpy_loop(net.once())
    plan_equals_layers(net)
    trainers.learns(calls)
    per = {key: net.steps * epochs(key, net) for key in calls}
    square = np.random.default_rng(0).standard_normal((64 if quick() else 1536,) * 2, dtype=np.float32)
    product = np.empty_like(square)
    # The bound: the step's products at the rate of a large one, as if nothing else had to be done.
    calls["gemm"] = lambda: np.matmul(square, square, out=product)
    per["gemm"] = 2.0 * len(square) ** 3 / net.flops
    compare(f"step {name}", calls, per=per)


@pytest.mark.parametrize("net", NETS)
def test_epoch(net: Net, compare) -> None:
    """An epoch as users run it: shuffled anew."""
    name, net = net.name, sized(net)
    calls = _calls(net, shuffle=True)
    trainers.learns(calls)
    compare(f"epoch {name}", calls, per={key: epochs(key, net) for key in calls})
