"""Choosing a backend, moving arrays in and out, and what importing the library does: nothing."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from strict import STRICT, to_strict

import mlpx
from mlpx import BackendError
from mlpx.backend import NUMPY, Backend, backend_name, backend_of, selection

HAS_GPU = selection.gpu_problem() is None
no_gpu = pytest.mark.skipif(HAS_GPU, reason="a GPU works here")


def run(code: str, *, path: Path | None = None, **environment: str) -> str:
    """Run Python code in a process of its own, warnings as errors, and return what it prints."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLPX_")}
    if path is not None:
        kept["PYTHONPATH"] = os.pathsep.join([str(path), *filter(None, [kept.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


# --- choosing


def test_set_and_get() -> None:
    mlpx.set_backend("numpy")
    assert mlpx.get_backend() == "numpy"


@no_gpu
def test_auto_without_a_gpu_is_numpy_in_silence() -> None:
    assert run("import mlpx; print(mlpx.get_backend()); mlpx.set_backend('auto'); print(mlpx.get_backend())") == (
        "numpy\nnumpy"
    )


@no_gpu
def test_cupy_without_a_gpu_says_what_to_do() -> None:
    before = mlpx.get_backend()
    with pytest.raises(BackendError, match=r"(?s)backend 'cupy'.*mlpx\[cuda1[23]\].*'numpy' works without"):
        mlpx.set_backend("cupy")
    assert mlpx.get_backend() == before


@pytest.mark.parametrize(("name", "near"), [("numppy", "numpy"), ("cuppy", "cupy"), ("Auto", "auto")])
def test_unknown_name_lists_the_known_and_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"Did you mean '{near}'. Known: auto, cupy, numpy"):
        mlpx.set_backend(name)


def test_using_backend_is_restored() -> None:
    mlpx.set_backend("numpy")
    with mlpx.using_backend(STRICT):
        assert mlpx.get_backend() == "array_api_strict"
        with mlpx.using_backend("numpy"):
            assert mlpx.get_backend() == "numpy"
        assert mlpx.get_backend() == "array_api_strict"
    with pytest.raises(RuntimeError, match="inside"), mlpx.using_backend(STRICT):
        raise RuntimeError("inside")
    assert mlpx.get_backend() == "numpy"


def test_using_backend_is_for_one_thread() -> None:
    import threading

    mlpx.set_backend("numpy")
    seen: list[str] = []
    with mlpx.using_backend(STRICT):
        thread = threading.Thread(target=lambda: seen.append(mlpx.get_backend()))
        thread.start()
        thread.join()
    assert seen == ["numpy"]


def test_environment_variable() -> None:
    assert run("import mlpx; print(mlpx.get_backend())", MLPX_BACKEND="numpy") == "numpy"
    code = """
        import mlpx
        try:
            mlpx.get_backend()
        except ValueError as error:
            print(error)
    """
    assert "MLPX_BACKEND: unknown name 'nump'. Did you mean 'numpy'" in run(code, MLPX_BACKEND="nump")
    assert run(code, MLPX_BACKEND="") == ""


@no_gpu
def test_environment_variable_cupy_without_a_gpu() -> None:
    code = """
        import mlpx
        try:
            mlpx.get_backend()
        except mlpx.BackendError as error:
            print(error)
    """
    assert "mlpx[cuda12]" in run(code, MLPX_BACKEND="cupy")


# --- a CuPy that does not work ---------------------------------------------------------------------------------------

TRY_BOTH = """
    import mlpx
    print(mlpx.get_backend())
    mlpx.set_backend("auto")
    print(mlpx.get_backend(), mlpx.MLP([2, 3, 2]).predict([[1.0, 2.0]]).shape)
    try:
        mlpx.set_backend("cupy")
    except mlpx.BackendError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "def getDeviceCount(): raise RuntimeError('cudaErrorInsufficientDriver: driver too old')",
            "does not work (RuntimeError: cudaErrorInsufficientDriver: driver too old)",
        ),
        ("def getDeviceCount(): return 0", "finds no GPU"),
    ],
)
def test_broken_cupy_is_passed_over_in_silence(tmp_path: Path, body: str, said: str) -> None:
    package = tmp_path / "cupy"
    package.mkdir()
    (package / "__init__.py").write_text("from cupy import cuda\n")
    (package / "cuda.py").write_text("from cupy import runtime\n")
    (package / "runtime.py").write_text(body + "\n")
    first, second, error = run(TRY_BOTH, path=tmp_path).splitlines()
    assert first == "numpy"
    assert second == "numpy (1, 2)"
    assert error.startswith("backend 'cupy':")
    assert said in error
    assert "nvidia-smi" in error


def test_cupy_that_cannot_be_imported_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "cupy.py").write_text("raise ImportError('libcuda.so.1: cannot open shared object file')\n")
    _, second, error = run(TRY_BOTH, path=tmp_path).splitlines()
    assert second == "numpy (1, 2)"
    assert "libcuda.so.1" in error


# --- what importing does


def test_import_is_light() -> None:
    heavy = ("numba", "scipy", "sklearn", "matplotlib", "cupy", "torch", "rich", "safetensors", "threadpoolctl")
    code = f"import sys, mlpx; print([name for name in {heavy!r} if name in sys.modules])"
    assert run(code) == "[]"


def test_import_writes_nothing(tmp_path: Path) -> None:
    code = """
        import os, pathlib
        import mlpx
        print([str(p) for p in pathlib.Path.cwd().iterdir()])
        print([str(p) for p in pathlib.Path(os.environ["HOME"]).iterdir()])
    """
    home = tmp_path / "home"
    home.mkdir()
    here = tmp_path / "here"
    here.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLPX_")}
    kept |= {"HOME": str(home), "XDG_CACHE_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env=kept,
        cwd=here,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["[]", "[]"]
    assert done.stderr == ""


# --- which backend arrays are on


def test_backend_of() -> None:
    x = np.ones(2)
    assert backend_of(None, x, 3) is NUMPY
    assert backend_of(to_strict(x)) == Backend("array_api_strict", STRICT.xp, STRICT.device)
    assert backend_name(np.float64(1)) is None
    assert backend_name([1.0]) is None

    class Matrix(np.ndarray):
        pass

    assert backend_name(x.view(Matrix)) == "numpy"
    with pytest.raises(TypeError, match="expected arrays, got list, int"):
        backend_of([1.0], 3)


def test_buffers_start_on_a_cache_line() -> None:
    for size in (1, 5, 1000):
        buffer = NUMPY.zeros(size, "float32")
        assert buffer.ctypes.data % 64 == 0
        assert buffer.shape == (size,)
        assert not buffer.any()
    net = mlpx.MLP([3, 5, 2])
    assert net.parameters.ctypes.data % 64 == 0
    assert net.gradient.ctypes.data % 64 == 0
