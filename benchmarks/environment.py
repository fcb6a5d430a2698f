"""What a result must carry to mean anything: machine, versions, threads, BLAS, commit."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.measure import quick

PACKAGES = (
    "mlpx", "numpy", "scipy", "numba", "llvmlite", "scikit-learn", "torch", "jax", "jaxlib", "onnx", "onnxruntime",
    "mkl", "cupy-cuda12x", "cupy-cuda13x",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """Return the circumstances of this run as plain data."""
    return {
        "mode": "quick" if quick() else "full",
        "machine": _processor(),
        "system": platform.platform(),
        "cores": _cores(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "threads": {name: os.environ[name] for name in sorted(os.environ) if name.endswith("_NUM_THREADS")},
        "settings": {name: os.environ[name] for name in sorted(os.environ) if name.startswith("MLPX_")},
        "blas": _blas(),
        "device": _device(),
        "commit": _git("rev-parse", "--short=12", "HEAD")
        + ("+changes" if _git("status", "--porcelain", "-uno") else ""),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _blas() -> list[str]:
    """Return every BLAS that mlpx brings into a process, with its threads."""
    import scipy.linalg  # noqa: F401  (loads the BLAS behind the kernels)
    from threadpoolctl import threadpool_info

    return [
        f"{pool['internal_api']} {pool['version']} ({pool.get('architecture', '?')}), {pool['num_threads']} threads"
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]


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
