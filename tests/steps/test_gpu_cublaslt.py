"""Training on a GPU with cuBLASLt, on the stand-in: epilogues where they are faster, the same numbers either way."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from emulator import no_compiler
from standin import installed

import mlpx
from mlpx import optimizers
from mlpx.steps import gpu
from mlpx_kernels.cuda.gemm import autotune

pytestmark = pytest.mark.skipif(no_compiler() is not None, reason=no_compiler() or "")
RNG = np.random.default_rng(0)
X = RNG.standard_normal((70, 6)).astype(np.float32)
LABELS = X[:, :3].argmax(axis=1)


@pytest.fixture(autouse=True)
def device(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(autotune, "_file", lambda: tmp_path / "choices.json")  # and the emulator keeps its own cache
    monkeypatch.setattr(autotune, "_known", None)
    with installed(nvmath=True) as device, mlpx.using_backend("cupy"):
        yield device


@pytest.fixture(params=["plain", "epilogue"])
def faster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Decide what the device is said to be faster at."""
    chosen = str(request.param)
    monkeypatch.setattr(autotune, "faster", lambda key, ways: chosen if chosen in ways else next(iter(ways)))
    return chosen


def build(backend: str, **options: Any) -> mlpx.Sequential:
    with mlpx.using_backend(backend):
        return mlpx.MLP([6, 9, 5, 3], **({"activation": "relu", "output": "softmax", "seed": 3} | options))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "gelu_tanh"},
        {"activation": ["relu", "tanh"]},
        {"activation": "gelu"},
        {"output": "linear", "loss": "squared_error"},
        {"dropout": 0.2},
        {"norm": "layer"},
        {"dtype": "float64"},
    ],
    ids=str,
)
def test_fits_lead_where_the_cpus_do(options: dict[str, Any], faster: str) -> None:
    y = X[:, :3] if "loss" in options else LABELS
    data = {"epochs": 3, "batch_size": 16, "progress": False}
    gpu, cpu = build("cupy", **options), build("numpy", **options)
    one, other = gpu.fit(X, y, **data), cpu.fit(X, y, **data)
    assert not gpu.plan_declined
    np.testing.assert_allclose(one.loss, other.loss, rtol=1e-4)
    np.testing.assert_allclose(mlpx.to_numpy(gpu.parameters), cpu.parameters, atol=1e-4)


def launches(net: mlpx.Sequential, precision: str = "float32") -> int:
    adam = optimizers.Adam()
    adam.start(net)
    batch = net.batch(mlpx.asarray(X), mlpx.asarray(LABELS))
    fit = gpu.GraphSteps(net, batch, 16, adam, seed=0, n_steps=9, precision=precision)
    return len(fit.runs[16][0][0].launches)


def test_a_step_of_three_relu_layers_is_at_most_twelve_launches(faster: str) -> None:
    assert launches(build("cupy")) == (11 if faster == "epilogue" else 16)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_rounded_factors_keep_to_the_curve(precision: str, faster: str) -> None:
    data = {"epochs": 4, "batch_size": 16, "progress": False}
    exact, rounded = build("cupy"), build("cupy")
    one, other = exact.fit(X, LABELS, **data), rounded.fit(X, LABELS, precision=precision, **data)
    assert not rounded.plan_declined
    np.testing.assert_allclose(other.loss, one.loss, rtol=0.02)
    assert other.loss != one.loss


def test_what_is_faster_is_measured_by_the_devices_clock_and_kept(tmp_path: Any) -> None:
    launches(build("cupy"))
    said = (tmp_path / "choices.json").read_text()
    assert "dense both ways 16x6x9 float32 relu" in said
    assert "dense weight gradient 16x5x3 float32 identity" in said


def test_a_cublaslt_that_does_not_start_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    from nvmath.bindings import cublasLt

    def broken() -> int:
        raise RuntimeError("libcublasLt.so.12: cannot open shared object file")

    monkeypatch.setattr(cublasLt, "create", broken)
    net = build("cupy")
    history = net.fit(X, LABELS, epochs=1, batch_size=16, progress=False)
    assert not net.plan_declined
    assert np.isfinite(history.loss).all()
