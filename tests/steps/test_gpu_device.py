"""On a real GPU, with ``pytest -m gpu``: every kernel on every case, training in every precision, the self-check.

Elsewhere these tests are skipped; that they ask the right thing is seen on the stand-in, for one op.
"""

from typing import Any

import numpy as np
import pytest
from cases import cases
from compare import check_close, exact_result

import mlpx
from mlpx import ops
from mlpx.backend import resolve, to_numpy
from mlpx.cli import gpu_check
from mlpx.ops.dispatch import using_fused

DECLARED = [name for name, op in ops.ALL.items() if "cupy" in op.kernels]


def check_on_the_device(name: str) -> None:
    """Raise unless an op's kernel agrees with its reference on every case."""
    op, backend = ops.ALL[name], resolve("cupy")

    def there(value: Any) -> Any:
        return backend.asarray(value.copy()) if isinstance(value, np.ndarray) else value

    for case in cases(name):
        device = [there(a) for a in case.args]
        host, exact = [[a.copy() if isinstance(a, np.ndarray) else a for a in case.args] for _ in range(2)]
        with using_fused("require"):
            result = op(*device, **{k: there(v) for k, v in case.params.items()})
        with np.errstate(all="ignore"):
            reference = op.reference(np, *host, **case.params)
            if reference is None:
                exact = [a.astype(np.float64 if a.dtype == np.float32 else np.longdouble) for a in exact]
                op.reference(np, *exact, **case.params)
                result, reference, true = tuple(device), tuple(host), tuple(exact)
            else:
                true = exact_result(op.reference, case.args, case.params)
        found = tuple(None if r is None else to_numpy(r) for r in (result if isinstance(result, tuple) else (result,)))
        check_close(f"{name}[{case.id}]", found, reference, true, case.k)


@pytest.mark.gpu
@pytest.mark.parametrize("name", DECLARED)
def test_every_kernel(name: str) -> None:
    check_on_the_device(name)


@pytest.mark.parametrize("name", ["softmax", "adam_inplace"])
def test_the_check_itself(cupy_standin: Any, name: str) -> None:
    check_on_the_device(name)
    assert cupy_standin.counters.kernels > 0


@pytest.mark.gpu
def test_the_self_check() -> None:
    failed = [finding.line() for finding in gpu_check.findings() if not finding.passed]
    assert not failed


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("tf32", 0.02), ("bf16", 0.05)])
@pytest.mark.parametrize("sizes", [(4, 16, 3), (64, 128, 10), (200, 512, 300, 7)], ids=str)
def test_training(sizes: tuple[int, ...], precision: str, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, sizes[0])).astype(np.float32)
    y = (x @ rng.standard_normal((sizes[0], sizes[-1]))).argmax(axis=1)
    curves = []
    for backend in ("numpy", "cupy"):
        with mlpx.using_backend(backend):
            net = mlpx.MLP(sizes, activation="relu", output="softmax", seed=0)
            curves.append(net.fit(x, y, epochs=3, batch_size=64, precision=precision, progress=False).loss)
    np.testing.assert_allclose(curves[1], curves[0], rtol=tolerance)


@pytest.mark.gpu
def test_a_model_travels(tmp_path: Any) -> None:
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    with mlpx.using_backend("cupy"):
        net = mlpx.MLP([4, 8, 3], output="softmax", seed=0)
        net.fit(x, np.arange(50) % 3, epochs=1, progress=False)
        net.save(tmp_path / "model.safetensors")
        there = to_numpy(net.predict(mlpx.asarray(x)))
    np.testing.assert_allclose(mlpx.load(tmp_path / "model.safetensors").predict(x), there, atol=1e-5)
