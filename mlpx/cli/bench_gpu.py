"""``mlpx bench --gpu``: everything a GPU machine is asked, in one command: tests, self-check, benchmarks."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mlpx.backend import gpu_problem

SECONDS = 470
"""Tests, self-check and suite are stopped after so many seconds in all."""
REPORT = 10
"""Seconds for the table."""
TIMED_OUT = 124


def run(folder: Path, output: Path | None, *, markdown: bool) -> int:
    """Run the tests marked gpu, the self-check and the GPU suite; print one table, and keep one JSON in ``output``.

    Without a GPU the table of what should be reached is printed, with nothing measured; the exit code is then 0.

    Parameters
    ----------
    folder : Path
        The benchmarks of the source tree.
    """
    root, deadline = folder.parent, time.monotonic() + SECONDS
    with tempfile.TemporaryDirectory() as scratch:
        result: dict[str, Any] = {"problem": gpu_problem(), "tests": "not run"}
        codes = []
        if result["problem"] is None:
            suite, examined = Path(scratch) / "suite.json", Path(scratch) / "doctor.json"
            tests = _call(root, deadline, "pytest", "tests", "-m", "gpu", "-q", "-p", "no:cacheprovider", told=True)
            result["tests"] = tests.stdout.strip().rpartition("\n")[2]
            codes = [tests.returncode, _call(root, deadline, "mlpx", "doctor", "--json", str(examined)).returncode]
            bench = _call(root, deadline, "pytest", str(folder / "test_gpu.py"), "-q", f"--benchmark-json={suite}")
            codes.append(bench.returncode)
            for name, file in (("doctor", examined), ("benchmarks", suite)):
                result[name] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        file = (output or Path(scratch) / "gpu.json").absolute()
        file.write_text(json.dumps(result, indent=1), encoding="utf-8")
        options = ["--markdown"] if markdown else []
        codes.append(_call(root, time.monotonic() + REPORT, "benchmarks.gpu_report", str(file), *options).returncode)
    return next((code for code in codes if code), 0)


def _call(
    root: Path, deadline: float, module: str, *arguments: str, told: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a module of this Python in the source tree; ``told`` keeps what it prints, after printing it.

    What has not ended by the deadline is stopped, with the exit code that `timeout` has; the rest goes on.
    """
    command = [sys.executable, "-m", module, *arguments]
    out = subprocess.PIPE if told else None
    left = max(deadline - time.monotonic(), 1.0)
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=root, env=os.environ | {"MLPX_BENCH": "full"}, check=False, text=True, stdout=out, timeout=left
        )
    except subprocess.TimeoutExpired as late:
        print(f"mlpx bench --gpu: {module} was stopped after {left:.0f} s", file=sys.stderr)
        said = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else late.stdout
        done = subprocess.CompletedProcess(command, TIMED_OUT, said or "")
    if told:
        print(done.stdout, end="")
    return done
