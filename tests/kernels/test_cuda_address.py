"""AddressSanitizer finds nothing in the CUDA kernels, and something in a kernel with a fault."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from emulator import no_compiler

from mlpx import ops

pytestmark = pytest.mark.skipif(no_compiler() is not None, reason=no_compiler() or "")
FOLDER = Path(__file__).parents[1] / "support"
OVER = """
import numpy as np
from emulator import Module
source = '''__global__ void over(float* y, int n) {
    __shared__ float s[8], more[8];
    if (threadIdx.x < 8) { s[threadIdx.x] = 1; more[threadIdx.x] = 2; }
    __syncthreads();
    if (threadIdx.x < 8) y[threadIdx.x] = s[threadIdx.x + n] + more[threadIdx.x];
}'''
over = Module(source, ("over",), "over").function("over")
y = np.zeros(8, np.float32)
over((1,), (32,), (y, np.int32(0)))
assert (y == 3).all()
print("right", flush=True)
over((1,), (32,), (y, np.int32(1)))
"""


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with AddressSanitizer loaded and kernels compiled for it."""
    found = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    library = found.stdout.strip()
    if not os.path.isabs(library):
        pytest.skip("g++ has no AddressSanitizer here")
    environment = {
        **os.environ,
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "MLPX_EMULATION_BUILD": "address",
        "PYTHONPATH": os.pathsep.join(map(str, (FOLDER, FOLDER.parent))),
    }
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)


def test_one_shared_array_that_runs_into_the_next_is_seen() -> None:
    finished = run("-c", OVER)
    assert "right" in finished.stdout
    assert "global-buffer-overflow" in finished.stderr
    assert finished.returncode != 0


def test_nothing_is_seen_in_the_kernels() -> None:
    finished = run(str(FOLDER / "address_kernels.py"))
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.split() == [*(name for name, op in ops.ALL.items() if "cupy" in op.kernels), "odd", "all"]
