"""A layer, and a training step, from a loop over instances to the fused kernel and the GPU."""

import numpy as np
import pytest

import mlpx
from benchmarks import trainers
from benchmarks.measure import quick, same
from benchmarks.nets import FIVE, Net, sized
from benchmarks.peers import Absent, Calls, torch
from mlpx import ops
from mlpx.backend import gpu_problem, using_backend

LAYERS = ((1000, 5000, 10, "float64"), (1000, 5000, 10, "float32"), (1024, 784, 1024, "float32"))


def _per_instance(x, w):
    """Return the loop that people write first: one product for each row."""
    y = np.empty((len(x), len(w)), x.dtype)

    def call() -> np.ndarray:
        for n in range(len(x)):
            y[n] = w @ x[n]
        return y

    return call


def _on_gpu():
    problem = gpu_problem()
    if problem:
        raise Absent(problem)
    return mlpx.backend.resolve("cupy")


def _gpu_layer(x, w):
    device = _on_gpu()
    dx, dw = device.asarray(x), device.asarray(w)

    def call() -> object:
        y, _ = ops.dense(dx, dw, None)
        device.synchronize()
        return y

    return call


def _torch_layer(x, w):
    t = torch()
    tx, tw = t.from_numpy(x), t.from_numpy(w)
    return lambda: t.nn.functional.linear(tx, tw)


@pytest.mark.parametrize(("n", "i", "o", "dtype"), LAYERS)
def test_layer(n: int, i: int, o: int, dtype: str, compare) -> None:
    """The product of X (n, i) and W (o, i)."""
    name = f"X ({n}, {i}) W ({o}, {i}) {dtype}"
    if quick():
        n, i, o = min(n, 20), min(i, 40), min(o, 10)
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in ((n, i), (o, i)))
    out = np.empty((n, o), dtype)
    calls = Calls(
        loop=_per_instance(x, w),
        numpy=lambda: np.matmul(x, w.T, out=out),
        mlpx=lambda: ops.dense(x, w, None)[0],
    )
    calls.add("torch", lambda: _torch_layer(x, w))
    calls.add("gpu", lambda: _gpu_layer(x, w))
    for name_of, call in calls.items():
        same(name_of, mlpx.to_numpy(call()) if name_of == "gpu" else call(), x @ w.T)
    compare(name, calls)


def _one_by_one(net: Net) -> trainers.Trainer:
    """Return the step that is written first: gradients of one instance after the other, summed in a loop."""
    single = Net(net.sizes, 1, net.batch)
    return trainers.numpy_loop(single)


def _gpu_steps(net: Net) -> trainers.Trainer:
    device = _on_gpu()
    with using_backend("cupy"):
        train = trainers.steps(net, net.build(), shuffle=False)

    def call() -> float:
        loss = train()
        device.synchronize()
        return loss

    return call


@pytest.mark.parametrize("net", [pytest.param(net, id=net.name) for net in FIVE[:4]])
def test_training_step(net: Net, compare) -> None:
    """A training step of a whole batch: the loop takes its rows one at a time, with an update after each."""
    name, net = net.name, sized(net)
    calls = Calls(loop=_one_by_one(net), numpy=trainers.numpy_loop(net.once()), mlpx=trainers.mlpx(net, shuffle=False))
    calls.add("gpu", lambda: _gpu_steps(net.once()))
    trainers.learns(calls)
    compare(f"step {name}", calls, per={"numpy": net.steps, "gpu": net.steps, "mlpx": net.taken})
