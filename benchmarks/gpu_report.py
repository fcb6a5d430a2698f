"""The table of a GPU run: ``python -m benchmarks.gpu_report FILE [--markdown]``; without a GPU its bounds alone."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import roofline
from benchmarks.gpu_cases import cases
from benchmarks.report import markdown_table, number

PEERS = ("cupy", "torch", "torch.compile")


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Return a row for every case: the bounds of an H100, then the microseconds measured, empty where none were."""
    suite = (result.get("benchmarks") or {}).get("benchmarks", [])
    measured = {info["extra_info"]["case"]: info["extra_info"]["times"] for info in suite}
    table = []
    for case in cases():
        times = {name: time["median"] for name, time in measured.get(case.name, {}).items()}
        bounds = [roofline.microseconds(case.stages, roofline.H100, p) for p in ("float32", "tf32")]
        peers = [times[name] for name in PEERS[1:] if name in times]
        ours = times.get("mlpx")
        table.append(
            [
                case.name,
                *(f"{bound:.2f}" for bound in bounds),
                number(ours),
                *(number(times.get(name)) for name in PEERS),
                f"{min(peers) / ours:.2f}" if ours and peers else "",
            ]
        )
    return table


HEADER = ["case", "H100 bound, us", "in TF32", "mlpx, us", *PEERS, "best PyTorch / mlpx"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and, above it, the device and what its tests and its self-check found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_report")
    parser.add_argument("file", type=Path)
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args(arguments)
    result = json.loads(given.file.read_text(encoding="utf-8"))
    if result["problem"]:
        print(f"Nothing was measured: {result['problem']}")
    else:
        found = (result.get("doctor") or {}).get("gpu", [])
        failed = [finding["name"] for finding in found if not finding["passed"]]
        machine = (result.get("benchmarks") or {}).get("machine_info", {}).get("mlpx", {})
        print(f"Device: {machine.get('device', 'unknown')}; commit {machine.get('commit', 'unknown')}")
        print(f"Tests marked gpu: {result['tests']}")
        print(
            f"Self-check: {len(found) - len(failed)} of {len(found)} passed{': FAILED ' * bool(failed)}{failed or ''}"
        )
    if given.markdown:
        print(markdown_table(HEADER, rows(result)))
    else:
        drawn = Table(title="us a call, a prediction or a step", title_justify="left")
        for place, name in enumerate(HEADER):
            drawn.add_column(name, justify="right" if place else "left")
        for row in rows(result):
            drawn.add_row(*map(escape, row))
        (Console() if sys.stdout.isatty() else Console(width=160)).print(drawn)
    return 0


if __name__ == "__main__":
    sys.exit(main())
