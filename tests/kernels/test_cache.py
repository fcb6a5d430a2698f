"""Where compiled kernels are kept: where they are told, and nowhere that is not ours."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("numba", reason="Numba is not installed: there is nothing compiled")

from mlpx_kernels.cpu.lowlevel import compile


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MLPX", "XDG", "HOME"))}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=env | environment
    )


PLACE = "from mlpx_kernels.cpu.lowlevel.compile import cache_directory; print(cache_directory())"


def test_cache_goes_where_it_is_told(tmp_path) -> None:
    assert run_python(PLACE, MLPX_CACHE_DIR=str(tmp_path)).stdout.startswith(str(tmp_path))
    assert run_python(PLACE, XDG_CACHE_HOME=str(tmp_path)).stdout.startswith(str(tmp_path / "mlpx"))
    assert run_python(PLACE, HOME=str(tmp_path)).stdout.startswith(str(tmp_path / ".cache" / "mlpx"))


def test_without_a_home_kernels_still_run(tmp_path) -> None:
    done = run_python(
        "import numpy as np\nfrom mlpx import ops\nprint(ops.softmax(np.zeros((1, 2), 'f'))[0, 0])",
        HOME="/nonexistent/nobody",
        TMPDIR=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "0.5"


def test_where_nothing_can_be_written_kernels_compile_in_memory() -> None:
    done = run_python(
        "import numpy as np\nfrom mlpx import ops\nfrom mlpx_kernels.cpu.lowlevel.compile import cache_directory\n"
        "print(cache_directory(), ops.softmax(np.zeros((1, 2), 'f'))[0, 0])",
        MLPX_CACHE_DIR="/proc/no/such/place",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["None", "0.5"]


def test_a_folder_of_somebody_else_is_not_trusted(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLPX_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    assert compile.cache_directory.__wrapped__() is None
