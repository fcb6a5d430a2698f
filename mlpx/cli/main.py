"""The command line: ``mlpx demo``, ``mlpx doctor``, ``mlpx warmup``, ``mlpx bench``. Each loads only what it needs."""

import argparse
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from mlpx import demos
from mlpx._version import __version__
from mlpx.cli import bench
from mlpx.errors import BackendError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code: 0 done, 1 it failed, 2 it was called wrongly, 130 Ctrl-C ended it."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help()
        return 2
    try:
        code = int(given.run(given))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as head, has seen enough; Python would complain again as it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as stopped:
        print(f"mlpx {given.command}: {stopped or 'interrupted'}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mlpx", description="Multi-layer perceptrons for NumPy and CuPy.")
    parser.add_argument("--version", action="version", version=f"mlpx {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    demo = commands.add_parser("demo", help="run one of the six demos", description="Run one of the six demos.")
    demo.add_argument("name", nargs="?", help=f"one of: {', '.join(demos.NAMES)}")
    demo.add_argument("--list", action="store_true", help="list the demos")
    digits = demo.add_argument_group("digits")
    digits.add_argument("--output", type=Path, help="folder for the model and the picture (default: here)")
    digits.add_argument("--epochs", type=int, help="passes over the images")
    digits.add_argument("--seed", type=int, help="chooses weights, split and shuffles")
    digits.add_argument("--layers", type=_widths, help="widths of the hidden layers, such as 128,64")
    demo.set_defaults(run=_demo)

    doctor = commands.add_parser("doctor", help="print versions, threads, BLAS, which kernels are active; check a GPU")
    doctor.add_argument("--json", metavar="FILE", type=bench.file_to_write, help="write the findings there too")
    doctor.set_defaults(run=_doctor)

    warmup = commands.add_parser("warmup", help="compile every CPU kernel ahead of its first use")
    warmup.add_argument("--dtype", choices=("float32", "float64", "both"), default="float32")
    warmup.set_defaults(run=_warmup)

    benchmarks = commands.add_parser("bench", help="time mlpx beside its peers (in a source tree)")
    bench.add_arguments(benchmarks)
    benchmarks.set_defaults(run=bench.run)
    return parser


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(width) for width in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected widths with commas between, such as 128,64, got {text!r}") from None


def _demo(given: argparse.Namespace) -> int:
    if given.list or given.name is None:
        for name in demos.NAMES:
            print(f"{name:9} {demos.summary(name)}")
        return 0 if given.list else 2
    if given.name not in demos.NAMES:
        near = get_close_matches(given.name, demos.NAMES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        print(f"mlpx demo: unknown name {given.name!r}.{hint} Known: {', '.join(demos.NAMES)}.", file=sys.stderr)
        return 2
    chosen = {name: getattr(given, name) for name in ("output", "epochs", "seed", "layers")}
    options = {name: value for name, value in chosen.items() if value is not None}
    if options and given.name != "digits":
        print(f"mlpx demo: {', '.join('--' + name for name in options)} is for digits alone.", file=sys.stderr)
        return 2
    try:
        return 0 if demos.run(given.name, **options) else 1
    except BrokenPipeError:
        raise
    except (ValueError, TypeError, OSError, MemoryError, BackendError) as error:
        print(f"mlpx demo {given.name}: {error}", file=sys.stderr)
        return 2


def _doctor(given: argparse.Namespace) -> int:
    from mlpx.cli import doctor

    return doctor.main(given.json)


def _warmup(given: argparse.Namespace) -> int:
    from mlpx.cli import warmup

    return warmup.main(("float32", "float64") if given.dtype == "both" else (given.dtype,))
