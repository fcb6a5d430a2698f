"""What runs on this machine, and what does not and why."""

import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpx import ops
from mlpx.backend import get_backend, gpu_problem
from mlpx.errors import BackendError
from mlpx.ops.dispatch import Op, fused_mode
from mlpx_kernels import Unsupported

if TYPE_CHECKING:
    from mlpx.cli.gpu_check import Finding

PACKAGES = ("mlpx", "numpy", "scipy", "numba", "llvmlite", "scikit-learn", "threadpoolctl", "rich")
OPTIONAL = ("matplotlib", "cupy-cuda12x", "cupy-cuda13x", "mkl")
ACTIVE, REFERENCE, BROKEN = "kernel", "reference only", "kernel missing"
PROBLEM = "PROBLEM"


def report() -> dict[str, Any]:
    """Return the findings as data.

    Returns
    -------
    dict
        ``versions``, ``machine``, ``threads``, ``backend``, ``settings``: name to text; ``kernels``: op to backend to
        (state, reason), state one of "kernel", "reference only", "kernel missing".
    """
    import mlpx.network  # noqa: F401  (every op is registered by now)

    return {
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) or "not installed" for name in (*PACKAGES, *OPTIONAL)},
        },
        "machine": {"system": platform.platform(), "processor": processor()},
        "threads": _threads(),
        "backend": {"in force": _told(_backend), "GPU": gpu_problem() or "works"},
        "settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith("MLPX_")},
        "kernels": {
            name: {backend: _kernel(op, backend) for backend in ("numpy", "cupy")} for name, op in ops.ALL.items()
        },
    }


def version(package: str) -> str:
    """Return the version of an installed package, or nothing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def processor() -> str:
    """Return the processor's name."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def blas_libraries() -> list[str]:
    """Return every BLAS that this process has loaded, with its threads."""
    from threadpoolctl import threadpool_info

    return [
        f"{pool['internal_api']} {pool['version']} ({pool.get('architecture', '?')}), {pool['num_threads']} threads"
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]


def _backend() -> str:
    return f"{get_backend()} (fused kernels: {fused_mode()})"


def _told(question: Callable[[], object]) -> str:
    """Return the answer, or what is wrong with the settings: a doctor must not fall ill of what it looks for."""
    try:
        return str(question())
    except (BackendError, ValueError) as problem:
        return f"{PROBLEM}: {problem}"


def _threads() -> dict[str, str]:
    """Return cores, threads and BLAS libraries, as far as they can be told here."""
    if find_spec("numba") is None:
        return {"kernels": "Numba is not installed: references only"}
    try:
        from mlpx_kernels.cpu.gemm import blas
        from mlpx_kernels.cpu.lowlevel import store
        from mlpx_kernels.cpu.threading import thread_count
    except Exception as error:  # a broken installation, or a setting such as MLPX_BLAS that cannot be had
        return {"kernels": f"{PROBLEM}: {type(error).__name__}: {error}"}
    found = {
        "cores": str(os.cpu_count() or "unknown"),
        "usable cores": str(thread_count.usable_cores()),
        "threads in force": _told(thread_count.n_threads),
        "products of the kernels": blas.LIBRARY,
        "compiled kernels in": str(store.folder().problem or store.folder().path),
    }
    return found | {f"BLAS {number}": library for number, library in enumerate(blas_libraries(), 1)}


def _kernel(op: Op[..., Any], backend: str) -> tuple[str, str]:
    if backend not in op.kernels:
        return REFERENCE, ""
    try:
        op.kernel(backend)
    except Unsupported as reason:
        return BROKEN, str(reason)
    except Exception as error:  # whatever a broken installation throws is what is asked for here
        return BROKEN, f"{type(error).__name__}: {error}"
    return ACTIVE, ""


def examine_gpu(console: Any) -> "list[Finding]":
    """Run the self-check of the GPU, printing each finding as it comes; return them all. Nothing without a GPU."""
    from rich.markup import escape

    if gpu_problem():
        return []
    from mlpx.cli import gpu_check

    console.print("GPU: kernels against their references on the device, at 4096 x 1000 and at odd sizes")
    found = []
    for finding in gpu_check.findings():
        found.append(finding)
        console.print(escape(finding.line()), highlight=False)
    return found


def main(json_file: Path | None = None) -> int:
    """Print the report; return 1 for a setting that cannot be had, or a kernel that does not load or is wrong, else 0.

    With a GPU its self-check is part of the report; with ``json_file`` everything is written there as well. A machine
    without a GPU is no problem; without Numba, neither are kernels that do not load.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    found = report()
    console = Console()
    for section in ("versions", "machine", "threads", "backend", "settings"):
        table = Table(title=section, title_justify="left", show_header=False, box=None)
        for name, value in found[section].items():
            table.add_row(name, escape(str(value)))
        if found[section]:
            console.print(table, "")
    table = Table(title="ops", title_justify="left")
    for column in ("op", "numpy", "cupy", "why not"):
        table.add_column(column)
    for name, states in found["kernels"].items():
        reasons = "; ".join(reason for _, reason in states.values() if reason)
        table.add_row(name, states["numpy"][0], states["cupy"][0], escape(reasons))
    console.print(table)
    told = [text for section in ("threads", "backend") for text in found[section].values()]
    problems = [text for text in told if text.startswith(PROBLEM)]
    broken = [name for name, states in found["kernels"].items() if states["numpy"][0] == BROKEN]
    if broken and find_spec("numba") is not None:
        problems.append(f"{PROBLEM}: these CPU kernels do not load: {', '.join(broken)}")
    examined = examine_gpu(console)
    if any(not finding.passed for finding in examined):
        problems.append(f"{PROBLEM}: the GPU fails {', '.join(f.name for f in examined if not f.passed)}")
    for problem in problems:
        console.print(escape(problem))
    if json_file is not None:
        data = found | {"gpu": [asdict(finding) for finding in examined], "problems": problems}
        json_file.write_text(json.dumps(data, indent=1), encoding="utf-8")
    return 1 if problems else 0
