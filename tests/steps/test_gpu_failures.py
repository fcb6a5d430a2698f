"""A GPU that is not there, or that fails: a clear error or a way round with a reason, and never a broken import."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulator import no_compiler
from standin import Failures, installed

import mlpx
from mlpx import ops
from mlpx.ops.dispatch import using_fused

RNG = np.random.default_rng(2)
X, LABELS = RNG.standard_normal((40, 5)).astype(np.float32), np.arange(40) % 3
needs_emulator = pytest.mark.skipif(no_compiler() is not None, reason=no_compiler() or "")


# --- without one


BROKEN = {
    "wheel": "raise ImportError('libcudart.so.12: cannot open shared object file: No such file or directory')",
    "numpy": "raise RuntimeError('module was compiled against NumPy C-API version 0x10')",
    "empty": "",
}


@pytest.mark.parametrize("name", list(BROKEN))
@pytest.mark.parametrize("wanted", ["auto", "cupy"])
def test_an_installation_that_does_not_fit(tmp_path: Path, name: str, wanted: str) -> None:
    (tmp_path / "cupy").mkdir()
    (tmp_path / "cupy" / "__init__.py").write_text(BROKEN[name])
    program = (
        "import sys, mlpx\n"
        "assert 'cupy' not in sys.modules\n"
        "try: print(mlpx.get_backend())\n"
        "except mlpx.BackendError as error: print('BackendError', error)\n"
        "import numpy as np\n"
        "print(mlpx.ops.softmax(np.zeros((1, 2))).tolist())\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "MLPX_BACKEND": wanted}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    said, result = run.stdout.splitlines()
    assert result == "[[0.5, 0.5]]"
    if wanted == "auto":
        assert said == "numpy"
    else:
        assert said.startswith("BackendError backend 'cupy': CuPy is installed but does not work (")
        assert "must match the driver" in said
        assert "The backend 'numpy' works without a GPU." in said
        assert ("libcudart.so.12" in said) == (name == "wheel")


@pytest.mark.parametrize(
    ("failures", "words"),
    [
        (Failures(driver=True), "CUDA driver version is insufficient"),
        (Failures(devices=0), "no CUDA-capable device"),
        (Failures(compiler=True), "libnvrtc"),
        (Failures(allocation=1), "Out of memory"),
    ],
    ids=["driver", "device", "nvrtc", "memory"],
)
def test_a_gpu_that_does_not_work_is_said_and_done_without(failures: Failures, words: str) -> None:
    with installed(failures):
        assert mlpx.backend.resolve("auto").name == "numpy"
        with pytest.raises(mlpx.BackendError, match=words) as raised:
            mlpx.set_backend("cupy")
        assert "nvidia-smi" in str(raised.value)
        assert mlpx.MLP([5, 4, 3], output="softmax", seed=0).predict(X).shape == (40, 3)


def test_the_doctor_tells_what_is_wrong() -> None:
    from mlpx.cli import doctor

    with installed(Failures(driver=True)):
        assert "CUDA driver version is insufficient" in doctor.report()["backend"]["GPU"]


# --- with one that fails on the way


@contextmanager
def failing(**failures: Any) -> Iterator[Any]:
    """Have a stand-in that begins to fail when the block begins, after CuPy was found to work."""
    with installed() as device, mlpx.using_backend("cupy"), using_fused("auto"):
        for name, value in failures.items():
            now = {"allocation": device.counters.allocations, "launch": device.counters.kernels}.get(name, 0)
            setattr(device.failures, name, value + now if name in ("allocation", "launch") else value)
        yield device


@needs_emulator
def test_a_kernel_that_does_not_compile_is_done_without_and_said_once() -> None:
    with failing(source="softmax"):
        x = mlpx.asarray(X)
        with pytest.warns(RuntimeWarning, match=r"CUDA kernels do not compile here.*CompileException") as warned:
            y = ops.softmax(x)
        assert len(warned) == 1
        np.testing.assert_allclose(y.get(), ops.softmax(X), rtol=1e-6)
        np.testing.assert_allclose(ops.softmax(x).get(), y.get())  # without another warning
        assert "does not compile here" in ops.ALL["softmax"].declined["cupy"]


@needs_emulator
@pytest.mark.parametrize("what", ["update", "gather", "softmax_cross_entropy", "bias_activate"])
def test_a_fit_goes_on_without_a_kernel(what: str) -> None:
    def fitted(backend: str) -> Any:
        with mlpx.using_backend(backend):
            net = mlpx.MLP([5, 6, 3], output="softmax", seed=1)
            net.fit(mlpx.asarray(X), mlpx.asarray(LABELS), epochs=2, batch_size=8, progress=False)
        return net

    with failing(source=what):
        with pytest.warns(RuntimeWarning, match="CUDA kernels do not compile here"):
            net = fitted("cupy")
        assert what in net.plan_declined
        np.testing.assert_allclose(net.parameters.get(), fitted("numpy").parameters, atol=1e-5)


@needs_emulator
def test_a_launch_that_fails_names_the_kernel_and_leaves_the_network_whole() -> None:
    with failing() as device:
        net = mlpx.MLP([5, 6, 3], output="softmax", seed=1)
        before = net.parameters.get()
        device.failures.launch = device.counters.kernels + 4
        with pytest.raises(RuntimeError, match=r"the launch of \w+<.*CUDA_ERROR_LAUNCH_FAILED.*MLPX_FUSED=off"):
            net.fit(mlpx.asarray(X), mlpx.asarray(LABELS), epochs=1, batch_size=8, progress=False)
        assert np.array_equal(net.parameters.get(), before)


@needs_emulator
def test_a_device_that_cannot_capture_launches_one_by_one_and_says_so() -> None:
    with failing(capture=True) as device:
        net = mlpx.MLP([5, 6, 3], output="softmax", seed=1)
        with pytest.warns(RuntimeWarning, match="cannot be captured as a CUDA graph.*cudaErrorNotSupported") as warned:
            net.fit(mlpx.asarray(X), mlpx.asarray(LABELS), epochs=2, batch_size=8, progress=False)
        assert len(warned) == 1
        assert device.counters.graphs == 0


@needs_emulator
def test_memory_that_runs_out_at_any_point_ends_a_fit_with_weights_of_a_complete_step() -> None:
    seen = 0
    with failing() as device:
        import cupy

        net = mlpx.MLP([5, 6, 3], output="softmax", seed=1)
        x, y = mlpx.asarray(X), mlpx.asarray(LABELS)
        start = net.parameters.get()
        complete = [start]  # the weights after each step of an epoch

        def keep(gradient: Any) -> None:
            complete.append(net.parameters.get())

        net.fit(x, y, epochs=1, batch_size=8, progress=False, gradient_hook=keep)
        complete.append(net.parameters.get())
        gc.collect()
        used = device.used
        for allocation in range(1, 400, 3):
            net.parameters[...] = cupy.asarray(start)
            device.failures.allocation = device.counters.allocations + allocation
            try:
                net.fit(x, y, epochs=1, batch_size=8, progress=False)
            except MemoryError as error:
                words = str(error)
            else:
                break
            seen += 1
            device.failures.allocation = None
            gc.collect()
            assert "Out of memory allocating" in words
            now = net.parameters.get()
            assert any(np.allclose(now, step, atol=1e-6) for step in complete), f"after allocation {allocation}"
            assert device.used == used, "memory of a fit that failed is kept"
        else:
            pytest.fail("the fit never came to its end")
    assert seen > 5
