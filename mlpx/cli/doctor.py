"""What runs on this machine, and what does not and why."""

import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpx import ops
from mlpx.backend import get_backend, gpu_problem
from mlpx.errors import BackendError
from mlpx.ops.dispatch import Op, fused_mode, kernel_module
from mlpx_kernels import BadSetting, CannotCompile, Unsupported
from mlpx_kernels.cache import VARIABLE

if TYPE_CHECKING:
    from mlpx.cli.gpu_check import Finding

PACKAGES = ("mlpx", "numpy", "scipy", "numba", "llvmlite", "scikit-learn", "threadpoolctl", "rich")
OPTIONAL = ("matplotlib", "cupy-cuda12x", "cupy-cuda13x", "mkl")
ACTIVE, REFERENCE, MISSING, BROKEN = "kernel", "reference only", "kernel missing", "kernel broken"
PROBLEM = "PROBLEM"


def report() -> dict[str, Any]:
    """Return the findings as data.

    Returns
    -------
    dict
        ``versions``, ``machine``, ``compiler``, ``threads``, ``backend``, ``settings``: name to text; ``kernels``: op
        to backend to (state, reason), state one of "kernel", "reference only", "kernel missing" (something is not
        installed, or switched off), "kernel broken".
    """
    import mlpx.network  # noqa: F401  (every op is registered by now)

    return {
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) or "not installed" for name in (*PACKAGES, *OPTIONAL)},
        },
        "machine": {"system": platform.platform(), "processor": processor()},
        "compiler": _compiler(),
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
    try:
        thread_count = kernel_module("mlpx_kernels.cpu.threading.thread_count")
        blas = kernel_module("mlpx_kernels.cpu.gemm.blas")
    except (Unsupported, BadSetting):  # told of under "compiler"
        return {}
    found = {
        "cores": str(os.cpu_count() or "unknown"),
        "usable cores": str(thread_count.usable_cores()),
        "threads in force": _told(thread_count.n_threads),
        "products of the kernels": blas.LIBRARY,
    }
    return found | {f"BLAS {number}": library for number, library in enumerate(blas_libraries(), 1)}


def _compiler() -> dict[str, str]:
    """Return where compiled kernels are kept and in what state, and how one of them does; or why there are none."""
    if find_spec("numba") is None:
        return {"kernels": "Numba is not installed: references only"}
    try:
        store = kernel_module("mlpx_kernels.cpu.lowlevel.store")
        kernel_module("mlpx_kernels.cpu.softmax")
    except (CannotCompile, BadSetting) as problem:
        return {"kernels": f"{PROBLEM}: {problem}"}
    except Unsupported as reason:
        return {"kernels": f"{reason}: references only"}
    place = store.folder()
    found = {"kept in": str(place.path or f"memory alone: {place.problem}")}
    if place.path is None and os.environ.get(VARIABLE):
        found["kept in"] = f"{PROBLEM}: {VARIABLE}: {place.problem}"
    if place.path is not None:
        files = [whole for _, whole in store.examine(place.path)]
        found["on disk"] = f"{len(files)} kernels"
        if damaged := files.count(False):
            found["on disk"] += f", {damaged} damaged, which are compiled anew when they are needed"
        if place.problem:
            found["read-only"] = place.problem
    return found | {"tried": _tried()}


def _tried() -> str:
    """Run a kernel; return how it did."""
    from mlpx_kernels.cpu.softmax import run_softmax, softmax

    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            right = bool((softmax(np.zeros((1, 4))) == 0.25).all())
        except Exception as error:  # whatever a broken installation throws is what is asked for here
            return f"{PROBLEM}: softmax fails: {type(error).__name__}: {error}"
    if not right:
        return f"{PROBLEM}: softmax gives wrong numbers"
    way = "found on disk" if sum(run_softmax.stats.cache_hits.values()) else "compiled"
    told = [str(warning.message) for warning in warned]
    return ". ".join([f"softmax, {way}, {time.perf_counter() - began:.2f} s", *told])


def _kernel(op: Op[..., Any], backend: str) -> tuple[str, str]:
    if backend not in op.kernels:
        return REFERENCE, ""
    try:
        op.kernel(backend)
    except Unsupported as reason:
        return BROKEN if isinstance(reason, CannotCompile) else MISSING, str(reason)
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
    without a GPU is no problem, nor is one without Numba, or with its compiler switched off.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    found = report()
    console = Console()
    for section in ("versions", "machine", "compiler", "threads", "backend", "settings"):
        table = Table(title=section, title_justify="left", show_header=False, box=None)
        table.add_column()
        table.add_column(overflow="fold")
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
    told = [text for section in ("compiler", "threads", "backend") for text in found[section].values()]
    problems = [text for text in told if text.startswith(PROBLEM)]
    broken = [name for name, states in found["kernels"].items() if states["numpy"][0] == BROKEN]
    if broken:
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
