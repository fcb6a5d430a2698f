"""On a GPU: ops, predictions and training steps beside plain CuPy and PyTorch, and the bound of the device."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mlpx
from benchmarks import gpu_peers, roofline
from benchmarks.gpu_cases import GpuCase, cases
from benchmarks.measure import same
from benchmarks.nets import LR, Net, sized
from benchmarks.peers import Calls
from mlpx import ops
from mlpx.backend import Backend, gpu_problem, resolve, to_numpy
from mlpx.ops.dispatch import using_fused

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(gpu_problem() is not None, reason=f"no GPU works here: {gpu_problem()}"),
]


def _copies(args: tuple[Any, ...], backend: Backend) -> list[Any]:
    return [backend.asarray(a.copy()) for a in args]


def _op(case: GpuCase, backend: Backend) -> Calls:
    name, args, params = case.make()
    op = ops.ALL[name]

    def in_mode(mode: str) -> Callable[[], Any]:
        device = _copies(args, backend)

        def call() -> Any:
            with using_fused(mode):
                result = op(*device, **params)
            return tuple(device) if result is None else result

        return call

    host = [a.copy() for a in args]
    with using_fused("off"):
        wanted = op(*host, **params)
    same("mlpx", _host(in_mode("require")()), tuple(host) if wanted is None else wanted)
    calls = Calls()
    calls["mlpx"] = gpu_peers.many(in_mode("require"), backend.synchronize)
    calls["cupy"] = gpu_peers.many(in_mode("off"), backend.synchronize)
    calls.add("torch", lambda: gpu_peers.pytorch_op(name, args, params, compiled=False))
    if name in gpu_peers.COMPILED:
        calls.add("torch.compile", lambda: gpu_peers.pytorch_op(name, args, params, compiled=True))
    return calls


def _host(result: Any) -> Any:
    return tuple(None if r is None else to_numpy(r) for r in result) if isinstance(result, tuple) else to_numpy(result)


def _forward(case: GpuCase, backend: Backend) -> Calls:
    net, rows = case.make()
    x = np.random.default_rng(0).standard_normal((rows, net.sizes[0]), dtype=np.float32)
    model = net.build().copy(backend=backend)
    device = backend.asarray(x)
    same("mlpx", to_numpy(model.predict(device)), model.copy(backend="numpy").predict(x))

    def plain() -> Any:
        with using_fused("off"):
            return model.predict(device)

    calls = Calls(mlpx=gpu_peers.many(lambda: model.predict(device), backend.synchronize))
    calls["cupy"] = gpu_peers.many(plain, backend.synchronize)
    calls.add("torch", lambda: gpu_peers.pytorch_forward(net, x, compiled=False))
    calls.add("torch.compile", lambda: gpu_peers.pytorch_forward(net, x, compiled=True))
    return calls


def _step(case: GpuCase, backend: Backend) -> tuple[Calls, dict[str, float]]:
    net: Net = sized(case.make())
    x, y = (backend.asarray(np.ascontiguousarray(part)) for part in net.data)

    def fit(mode: str) -> Callable[[], Any]:
        model = net.build().copy(backend=backend)
        adam = mlpx.optimizers.Adam(lr=LR)

        def call() -> None:
            with using_fused(mode):
                model.fit(x, y, epochs=1, batch_size=net.batch, optimizer=adam, progress=False)

        return call

    calls = Calls(mlpx=fit("auto"), cupy=fit("off"))
    calls.add("torch", lambda: gpu_peers.pytorch_step(net, compiled=False))
    calls.add("torch.compile", lambda: gpu_peers.pytorch_step(net, compiled=True))
    return calls, {name: net.steps if name in ("mlpx", "cupy") else gpu_peers.CALLS for name in calls}


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases()])
def test_gpu(case: GpuCase, compare: Any) -> None:
    """One case on the device in force; the H100's bound stands beside it whatever the device is."""
    backend = resolve("cupy")
    per: float | dict[str, float] = gpu_peers.CALLS
    if case.kind == "step":
        calls, per = _step(case, backend)
    else:
        calls = (_op if case.kind == "op" else _forward)(case, backend)
    bounds = {f"{roofline.H100.name} bound": roofline.microseconds(case.stages, roofline.H100)}
    compare(case.name, calls, per=per, values=bounds)
