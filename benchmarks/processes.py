"""Runs pieces of Python in processes of their own and times them whole."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def child(*task: str, **environment: str) -> dict[str, Any]:
    """Return what a task of `benchmarks.children` prints."""
    return json.loads(_run("-m", "benchmarks.children", *task, **environment).splitlines()[-1])


def whole(code: str, **environment: str) -> float:
    """Return the seconds of a process that runs some code, from its start to its end."""
    began = time.perf_counter()
    _run("-c", code, **environment)
    return time.perf_counter() - began


def _run(*arguments: str, **environment: str) -> str:
    done = subprocess.run(  # noqa: S603
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}"
    return done.stdout
