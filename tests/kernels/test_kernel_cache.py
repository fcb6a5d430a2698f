"""Compiled code on disk: several processes may write it at once."""

import os
import subprocess
import sys
from threading import Thread

import pytest

pytest.importorskip("numba", reason="Numba is not installed: there is nothing compiled")

from mlpx_kernels.cpu.gemm.select import products
from mlpx_kernels.cpu.lowlevel import compile as compiling
from mlpx_kernels.cpu.plan.interpreter import train


def test_kernels_and_pieces_are_written_by_one_process_at_a_time() -> None:
    if compiling.cache_directory() is None:
        pytest.skip("there is no folder that can be written to")
    assert isinstance(train._cache._cache_file, compiling._SharedFile)
    assert isinstance(products("float32")._cache._cache_file, compiling._SharedFile)


def test_who_writes_waits_for_who_is_writing(tmp_path) -> None:
    pytest.importorskip("fcntl", reason="this system has no such lock")
    written = []

    def write() -> None:
        with compiling._alone(str(tmp_path)):
            written.append(1)

    with compiling._alone(str(tmp_path)):
        thread = Thread(target=write)
        thread.start()
        thread.join(0.1)
        assert not written
    thread.join()
    assert written


def test_two_dtypes_compiled_at_once_are_both_found(tmp_path) -> None:
    """Each by its own process, from an empty folder; a third finds both."""
    code = "import sys; from mlpx_kernels.cpu.plan.step_pieces import gather; [gather(dtype) for dtype in sys.argv[1:]]"
    environment = os.environ | {"MLPX_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen([*command, dtype], env=environment) for dtype in ("float32", "float64")]
    assert [process.wait(120) for process in both] == [0, 0]
    files = sorted(tmp_path.rglob("*gather*.nbc"))
    assert len(files) == 2
    subprocess.run([*command, "float32", "float64"], env=environment, check=True, timeout=120)
    assert sorted(tmp_path.rglob("*gather*.nbc")) == files
