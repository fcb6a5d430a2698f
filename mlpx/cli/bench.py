"""``mlpx bench``: run the benchmark suites of a source tree and tell what they found."""

import argparse
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import mlpx
from mlpx.cli import bench_gpu

SUITES = ("forward", "ops", "training", "latency", "estimators", "threads", "cold", "memory", "scaling")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``mlpx bench``."""
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that everything works, in a minute")
    parser.add_argument("--suite", choices=SUITES, action="append", help="one suite alone; may be given again")
    parser.add_argument("--gpu", action="store_true", help="tests, self-check and benchmarks of a GPU, in 8 minutes")
    parser.add_argument(
        "--output", type=file_to_write, help="keep the results in this JSON file, with a chart .png beside it"
    )
    parser.add_argument("--markdown", action="store_true", help="print markdown instead of tables for a terminal")


def file_to_write(text: str) -> Path:
    """Return the path of an option, or refuse one that cannot be written to before minutes of work, not after."""
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file in a folder that is there, got {text!r}")
    return path


def run(given: argparse.Namespace) -> int:
    """Run the suites and print the report; return pytest's exit code, or 2 where they cannot run."""
    folder = find()
    if folder is None:
        print(
            "mlpx bench: the benchmarks are part of the source tree, not of the installed package. Get the tree, then "
            "in it: pip install -e '.[bench]' && mlpx bench",
            file=sys.stderr,
        )
        return 2
    missing = [package for package in ("pytest", "pytest_benchmark") if find_spec(package) is None]
    if missing:
        print(f"mlpx bench: {' and '.join(missing)} missing. Run: pip install 'mlpx[bench]'", file=sys.stderr)
        return 2
    if given.gpu:
        return bench_gpu.run(folder, given.output, markdown=given.markdown)
    with tempfile.TemporaryDirectory() as scratch:
        file = (given.output or Path(scratch) / "result.json").absolute()
        code = measure(folder, file, given.suite or SUITES, quick=given.quick)
        if not file.exists() or not file.stat().st_size:
            return code or 1
        report = [sys.executable, "-m", "benchmarks.report", str(file)]
        report += ["--markdown"] if given.markdown else []
        report += ["--png", str(file.with_suffix(".png"))] if given.output else []
        told = subprocess.run(report, cwd=folder.parent, check=False).returncode  # noqa: S603
    return code or told


def find() -> Path | None:
    """Return the folder of the benchmarks: beside the package in a source tree, or in the current folder."""
    for root in (Path(mlpx.__file__).parents[1], Path.cwd()):
        if (root / "benchmarks" / "report.py").is_file() and (root / "mlpx").is_dir():
            return root / "benchmarks"
    return None


def measure(folder: Path, file: Path, suites: tuple[str, ...] | list[str], *, quick: bool) -> int:
    """Run suites with pytest, results into ``file``; return its exit code."""
    tests = [str(folder / f"test_{suite}.py") for suite in suites]
    command = [sys.executable, "-m", "pytest", *tests, "-q", f"--benchmark-json={file}", "--benchmark-columns=median"]
    settings = os.environ | {"MLPX_BENCH": "quick" if quick else "full"}
    # The tables of pytest-benchmark time mlpx alone; the report that follows has everybody's samples.
    return subprocess.run(command, cwd=folder.parent, env=settings, check=False).returncode  # noqa: S603
