"""Forks while another thread imports or compiles kernels: the child neither hangs nor meets a half-done compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="Numba is not installed: there is nothing compiled")
if not hasattr(os, "fork"):
    pytest.skip("there is no fork here", allow_module_level=True)

COMMON = """
import os, sys, threading, time, warnings
import numpy as np
from mlpx import ops
from mlpx_kernels import forks
def ended(work, seconds=20):
    'Return the exit code of a child that does some work; None if it hangs.'
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
"""


def run_python(code: str, cache: Path) -> None:
    environment = os.environ | {"MLPX_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", COMMON + code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_a_child_of_a_process_that_compiles_can_compile(tmp_path) -> None:
    """Forked at moments of which most lie within a compilation; the fork waits for that, and not for all others."""
    code = """
from mlpx_kernels.cpu.lowlevel.compile import kernel
def fresh(n):
    scope = {"__name__": "no_such_module"}
    exec(f"def add(x):\\n    for i in range(x.size):\\n        x[i] += {n}", scope)  # a function of its own
    made, x = kernel(scope["add"]), np.zeros(3)
    made(x)
    assert x[0] == n
warnings.simplefilter("ignore", RuntimeWarning)  # code without source is not kept
fresh(0)
stop = threading.Event()
def compile_on_and_on():
    n = 1
    while not stop.is_set():
        fresh(n)
        n += 1
thread = threading.Thread(target=compile_on_and_on)
thread.start()
try:
    for moment in range(6):
        time.sleep(0.03 + 0.02 * moment)
        assert ended(lambda: fresh(10**6)) == 0, moment
finally:
    stop.set()
    thread.join()
"""
    run_python(code, tmp_path)


def test_a_child_of_a_process_that_imports_kernels_can_import_them(tmp_path) -> None:
    (tmp_path / "slow_kernels.py").write_text("import time; time.sleep(1); value = 1")
    code = f"""
from mlpx.ops.dispatch import kernel_module
sys.path.insert(0, {str(tmp_path)!r})
thread = threading.Thread(target=kernel_module, args=["slow_kernels"])
thread.start()
time.sleep(0.3)
assert ended(lambda: kernel_module("slow_kernels").value) == 0
thread.join()
"""
    run_python(code, tmp_path)


def test_a_child_that_could_not_wait_runs_references(tmp_path) -> None:
    """What is compiled still runs there; and its own children do not wait again."""
    code = """
from numba.core.compiler_lock import global_compiler_lock
x = np.zeros((2, 3))
ops.softmax(x)
forks.PATIENCE, stop = 0.1, threading.Event()
def hold():
    with global_compiler_lock:
        stop.wait()
thread = threading.Thread(target=hold)
thread.start()
time.sleep(0.1)
def work():
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        np.testing.assert_array_equal(ops.softmax(x), 1 / 3)
        assert not warned
        np.testing.assert_allclose(ops.log_softmax(x), -np.log(3))
        np.testing.assert_allclose(ops.masked_softmax(x, x == 0), 1 / 3)
        assert len(warned) == 1 and "forked while another thread" in str(warned[0].message)
    forks.PATIENCE = 60
    assert ended(lambda: ops.log_softmax(x)) == 0
assert ended(work) == 0
stop.set()
thread.join()
forks.PATIENCE = 10
assert ended(lambda: ops.log_softmax(x)) == 0  # the parent is as it was
"""
    run_python(code, tmp_path)
