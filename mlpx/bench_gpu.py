"""``mlpx bench --gpu``: everything a GPU machine is asked, in one command: tests, self-check, benchmarks."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mlpx.backend import gpu_problem

SECONDS = 480
"""All of it must be done in so many seconds."""


def run(folder: Path, output: Path | None, *, markdown: bool) -> int:
    """Run the tests marked gpu, the self-check and the GPU suite; print one table, and keep one JSON in ``output``.

    Without a GPU the table of what should be reached is printed, with nothing measured; the exit code is then 0.

    Parameters
    ----------
    folder : Path
        The benchmarks of the source tree.
    """
    root = folder.parent
    with tempfile.TemporaryDirectory() as scratch:
        result: dict[str, Any] = {"problem": gpu_problem(), "tests": "not run"}
        codes = []
        if result["problem"] is None:
            suite, examined = Path(scratch) / "suite.json", Path(scratch) / "doctor.json"
            tests = _call(root, "pytest", "tests", "-m", "gpu", "-q", "-p", "no:cacheprovider", told=True)
            result["tests"] = tests.stdout.strip().rpartition("\n")[2]
            codes = [tests.returncode, _call(root, "mlpx", "doctor", "--json", str(examined)).returncode]
            bench = _call(root, "pytest", str(folder / "test_gpu.py"), "-q", f"--benchmark-json={suite}")
            codes.append(bench.returncode)
            for name, file in (("doctor", examined), ("benchmarks", suite)):
                result[name] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        file = (output or Path(scratch) / "gpu.json").absolute()
        file.write_text(json.dumps(result, indent=1), encoding="utf-8")
        codes.append(_call(root, "benchmarks.gpu_report", str(file), *(["--markdown"] if markdown else [])).returncode)
    return next((code for code in codes if code), 0)


def _call(root: Path, module: str, *arguments: str, told: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a module of this Python in the source tree; ``told`` keeps what it prints, after printing it."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", module, *arguments],
        cwd=root,
        env=os.environ | {"MLPX_BENCH": "full"},
        check=False,
        text=True,
        stdout=subprocess.PIPE if told else None,
        timeout=SECONDS,
    )
    if told:
        print(done.stdout, end="")
    return done
