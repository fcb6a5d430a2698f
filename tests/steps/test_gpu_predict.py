"""Small networks predict in one launch on a GPU; the kernels run on the CPU, behind the stand-in for CuPy."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cuda_instances import build
from emulator import no_compiler, using
from emulator.module import SCHEDULES
from standin import Failures, installed
from standin.install import to_device

import mlpx
from mlpx import layers
from mlpx.ops import ACTIVATIONS
from mlpx.ops.dispatch import using_fused
from mlpx.plan.gpu_predictor import GpuPredictor
from mlpx_kernels import Unsupported

pytestmark = pytest.mark.skipif(no_compiler() is not None, reason=no_compiler() or "")


@pytest.fixture
def device(cupy_standin: Any) -> Iterator[Any]:
    build()
    with mlpx.using_backend("cupy"), using_fused("require"):
        yield cupy_standin


def twin(net: mlpx.Sequential) -> mlpx.Sequential:
    """Return a copy on the host."""
    return net.to("numpy")


def inputs(n: int, n_in: int, dtype: str) -> Any:
    return np.random.default_rng(n).standard_normal((n, n_in)).astype(dtype)


def check(device: Any, net: mlpx.Sequential, n: int) -> None:
    """Raise unless the prediction is one launch and equal to the host's."""
    x = inputs(n, net.n_in, net.dtype)
    net.predict(to_device(x[:1]))  # makes the predictor
    before = device.counters.copy()
    y = net.predict(to_device(x))
    used = device.counters - before
    assert used.kernels == 1
    assert used.to_device == used.to_host == used.synchronisations == 0
    with mlpx.using_backend("numpy"), using_fused("off"):
        expected = twin(net).astype("float64").predict(x.astype(np.float64))
    tolerance = 3e-6 if net.dtype == "float32" else 1e-13
    np.testing.assert_allclose(y.get(), expected, rtol=tolerance, atol=tolerance * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 63, 64, 65, 130])
@pytest.mark.parametrize("widths", [(3, 5, 2), (128, 128, 128), (33, 100, 17, 1), (1, 64), (16, 31, 32, 33, 10)])
def test_ragged_widths_and_rows(device: Any, widths: tuple[int, ...], n: int, dtype: str) -> None:
    check(device, mlpx.MLP(widths, activation="tanh", output="softmax", dtype=dtype, seed=n), n)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_every_activation(device: Any, kind: str) -> None:
    check(device, mlpx.Sequential(layers.Dense(7, 20, kind), layers.Dense(20, 5, kind)), 9)


def test_layers_without_a_bias_and_activations_by_themselves(device: Any) -> None:
    net = mlpx.Sequential(
        layers.Dense(6, 20, bias=False), layers.Activation("gelu"), layers.Dropout(0.5), layers.Dense(20, 3, "relu")
    )
    check(device, net, 70)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_no_race_and_nothing_outside_the_arrays(device: Any, precision: str, schedule: str) -> None:
    net = mlpx.MLP([20, 37, 5], output="softmax", seed=3)
    predictor = GpuPredictor(net.layers, 20, net.buffers, net.dtype, precision)
    x = to_device(inputs(67, 20, "float32"))
    first = predictor(x, None).get()
    with using(build="checked", schedule=schedule):
        np.testing.assert_array_equal(predictor(x, None).get(), first)


@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 2e-3), ("bf16", 2e-2)])
@pytest.mark.parametrize("widths", [(3, 5, 2), (128, 128, 128), (33, 100, 17, 1)])
def test_tensor_cores(device: Any, widths: tuple[int, ...], precision: str, tolerance: float) -> None:
    net = mlpx.MLP(widths, activation="silu", output="linear", seed=2)
    x = inputs(70, widths[0], "float32")
    rounded = GpuPredictor(net.layers, widths[0], net.buffers, net.dtype, precision)(to_device(x), None).get()
    with mlpx.using_backend("numpy"):
        expected = twin(net).predict(x)
    off = np.abs(rounded - expected).max() / np.abs(expected).max()
    assert off < tolerance
    assert off > 1e-6, "the numbers were not rounded"


def test_numbers_that_are_not_finite_stay_in_their_row(device: Any) -> None:
    net = mlpx.MLP([6, 40, 3], seed=0)
    x = inputs(70, 6, "float32")
    clean = net.predict(to_device(x)).get()
    x[5, 2], x[40, 0] = np.nan, np.inf
    y = net.predict(to_device(x)).get()
    assert np.isnan(y[5]).all()
    assert not np.isfinite(y[40]).all()
    others = np.delete(np.arange(70), [5, 40])
    np.testing.assert_array_equal(y[others], clean[others])


def test_other_shapes_of_input(device: Any) -> None:
    net = mlpx.MLP([4, 8, 2], seed=0)
    x = inputs(12, 4, "float32")
    whole = net.predict(to_device(x)).get()
    np.testing.assert_array_equal(net.predict(to_device(x[3])).get(), whole[3])
    np.testing.assert_array_equal(net.predict(to_device(x.reshape(3, 4, 4))).get(), whole.reshape(3, 4, 2))
    assert net.predict(to_device(x[:0])).shape == (0, 2)


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (lambda: mlpx.MLP([129, 4, 2]), "129 wide"),
        (lambda: mlpx.Sequential(layers.Dense(3, 4), layers.LayerNorm(4), layers.Dense(4, 2)), "layer_norm"),
        (lambda: mlpx.Sequential(layers.Activation("relu"), layers.Dense(3, 4)), "activation|width"),
    ],
)
def test_other_networks_go_layer_by_layer(device: Any, net: Any, reason: str) -> None:
    made = net()
    with pytest.raises(Unsupported, match=reason):
        GpuPredictor(made.layers, made.n_in, made.buffers, made.dtype)
    x = inputs(5, made.n_in, "float32")
    with mlpx.using_backend("numpy"):
        expected = twin(made).predict(x)
    np.testing.assert_allclose(made.predict(to_device(x)).get(), expected, rtol=1e-4, atol=1e-5)


def test_where_kernels_do_not_compile_it_goes_layer_by_layer_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with installed(Failures()), mlpx.using_backend("cupy"):
        import cupy

        def refuse(**_: Any) -> Any:
            raise cupy.cuda.compiler.CompileException("no mma.h here")

        monkeypatch.setattr(cupy, "RawModule", refuse)
        net = mlpx.MLP([4, 8, 2], seed=0)
        x = inputs(5, 4, "float32")
        with pytest.warns(RuntimeWarning, match="no mma.h here"):
            y = net.predict(to_device(x)).get()
        with mlpx.using_backend("numpy"):
            np.testing.assert_allclose(y, twin(net).predict(x), rtol=1e-5, atol=1e-6)


def test_a_kernel_is_not_asked_for_more_than_the_device_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with installed(Failures()), mlpx.using_backend("cupy"):
        import cupy

        net = mlpx.MLP([4, 8, 2], dtype="float64")
        attributes = {"MaxSharedMemoryPerBlockOptin": 65536}
        monkeypatch.setattr(cupy.cuda, "Device", lambda: type("Small", (), {"attributes": attributes})())
        with pytest.raises(Unsupported, match="shared memory"):
            GpuPredictor(net.layers, 4, net.buffers, "float64")


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_network_of_lower_precision_predicts_with_it(device: Any, precision: str) -> None:
    net = mlpx.MLP([20, 40, 7], output="softmax", seed=0)
    x = to_device(np.random.default_rng(0).standard_normal((30, 20)).astype(np.float32))
    exact = net.predict(x).get()
    net.precision = precision
    rounded = net.predict(x).get()
    assert not np.array_equal(rounded, exact)
    np.testing.assert_allclose(rounded, exact, atol=0.02)
    net.precision = "float32"
    assert np.array_equal(net.predict(x).get(), exact)


def test_precisions_that_cannot_be_set() -> None:
    net = mlpx.MLP([2, 3], dtype="float64")
    with pytest.raises(ValueError, match="precision: unknown name 'fp8'"):
        net.precision = "fp8"
    with pytest.raises(ValueError, match="dtype float32; this one is float64"):
        net.precision = "bf16"
    assert net.precision == "float32"
