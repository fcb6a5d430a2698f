"""What a result must carry to mean anything: machine, versions, threads, BLAS, commit."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.measure import quick
from mlpx.cli.doctor import blas_libraries, processor, version

PACKAGES = (
    "mlpx", "numpy", "scipy", "numba", "llvmlite", "scikit-learn", "torch", "jax", "jaxlib", "onnx", "onnxruntime",
    "mkl", "cupy-cuda12x", "cupy-cuda13x",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """Return the circumstances of this run as plain data."""
    return {
        "mode": "quick" if quick() else "full",
        "machine": processor(),
        "system": platform.platform(),
        "cores": _cores(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := version(name))},
        "threads": {name: os.environ[name] for name in sorted(os.environ) if name.endswith("_NUM_THREADS")},
        "settings": {name: os.environ[name] for name in sorted(os.environ) if name.startswith("MLPX_")},
        "blas": _blas(),
        "device": _device(),
        "commit": _git("rev-parse", "--short=12", "HEAD")
        + ("+changes" if _git("status", "--porcelain", "-uno") else ""),
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _blas() -> list[str]:
    """Return every BLAS that mlpx brings into a process, with its threads."""
    import scipy.linalg  # noqa: F401  (loads the BLAS behind the kernels)

    return blas_libraries()


def _device() -> str:
    from mlpx.backend import gpu_problem

    problem = gpu_problem()
    if problem:
        return f"CPU ({problem})"
    import cupy

    return cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
