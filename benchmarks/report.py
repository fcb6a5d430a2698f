"""Tells what a run found: ``python -m benchmarks.report FILE [--png FILE.png] [--markdown]``.

A table for each suite, with the microseconds of every implementation and the fastest peer over mlpx, and a table of
targets.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import targets

SUITES = {
    "forward": "A layer, and a training step, from the loop to the kernel",
    "ops": "Every op",
    "training": "Training: us of a step, of an epoch",
    "latency": "Prediction",
    "estimators": "The estimators: us of a fit",
    "threads": "Training with all cores and with one",
    "cold": "Cold start, whole processes",
    "memory": "Training on a mapped file, us of an epoch",
    "scaling": "Time against rows, width and depth",
    "gpu": "On a GPU",
}
TARGETS = ["suite", "case", "wanted", "measured", ""]
BOUNDS = ("gemm", "copy")
OURS = ("mlpx", "mlpx float32", "net.fit", "net.predict", "reference", "layers", "one thread", "loop",
        "empty cache", "memory", "gpu")  # fmt: skip
"""Names that are no peers: other ways of mlpx itself, and naive code."""
ORDER = ("mlpx", "mlpx float32", "net.fit", "net.predict", "layers", "one thread", "reference", "loop",
         "numpy", "scipy", "sklearn", "sklearn float32", "torch",
         "torch, 1 thread", "torch.compile", "torchscript", "jax", "onnxruntime", "gpu", "copy", "gemm")  # fmt: skip


def read(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the cases of a result file in the order they ran, and the circumstances.

    Raises
    ------
    ValueError
        If it is no result of these suites.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        cases = [b["extra_info"] for b in data["benchmarks"] if "suite" in b["extra_info"]]
        return cases, data["machine_info"]["mlpx"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path}: is no result of these benchmarks ({error!r}). Make one: pytest benchmarks --benchmark-json={path}"
        ) from error


def by_suite(cases: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the cases of each suite, in the order of `SUITES`."""
    found: dict[str, list[dict[str, Any]]] = {suite: [] for suite in SUITES}
    for case in cases:
        found.setdefault(case["suite"], []).append(case)
    return {suite: rows for suite, rows in found.items() if rows}


def best_peer(info: dict[str, Any]) -> tuple[str, float] | None:
    """Return the fastest peer's name and its time over mlpx's."""
    peers = {n: r for n, r in info["ratios"].items() if n not in OURS and n not in BOUNDS}
    return min(peers.items(), key=lambda item: item[1]) if peers else None


def number(value: float | None) -> str:
    """Return three digits."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def columns(cases: Iterable[dict[str, Any]]) -> list[str]:
    """Return the implementations of some cases, ours first, bounds last."""
    names = {name for case in cases for name in case["times"]}
    return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else 9, name))


def judged(cases: Iterable[dict[str, Any]], full: bool) -> list[list[str]]:
    """Return a row for each target: suite, case, what was wanted, what was measured, and the verdict.

    A quick run's small sizes measure nothing and are not judged.
    """
    rows = []
    for info in cases:
        for target in targets.of(info):
            measured, wanted, met = target.reached(info)
            verdict = (
                "not measured" if measured is None else "quick run" if not full else "reached" if met else "MISSED"
            )
            rows.append([info["suite"], info["case"], wanted, number(measured) or "-", verdict])
    return rows


def table(cases: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return a suite's header and rows."""
    names = columns(cases)
    rows = []
    for info in cases:
        best = best_peer(info)
        rows.append(
            [
                info["case"],
                *(number(info["times"].get(name, {}).get("median")) for name in names),
                f"{best[1]:.2f} ({best[0]})" if best else "",
                ", ".join(f"{name} {number(value)}" for name, value in info["values"].items()),
            ]
        )
    return ["case", *names, "best peer / mlpx", "also"], rows


def score(cases: list[dict[str, Any]]) -> tuple[int, int]:
    """Return how many targets were reached, of how many that were measured."""
    results = [target.reached(info) for info in cases for target in targets.of(info)]
    measured = [met for value, _, met in results if value is not None]
    return sum(measured), len(measured)


def circumstances(environment: dict[str, Any]) -> str:
    """Return one paragraph on where the numbers come from."""
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    return (
        f"{environment['mode']} run on {environment['machine']}, {environment['cores']} cores, "
        f"{environment['system']}, Python {environment['python']}; {versions}; BLAS {'; '.join(environment['blas'])}; "
        f"device {environment['device'].partition(' (')[0]}; commit {environment['commit'] or 'unknown'}. "
        "Medians in microseconds, implementations interleaved in one process."
    )


def left_out(cases: Iterable[dict[str, Any]]) -> list[str]:
    """Return every implementation that was left out, with its reason, once."""
    return sorted({f"{name}: {reason}" for case in cases for name, reason in case["skipped"].items()})


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in markdown."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def markdown(cases: list[dict[str, Any]], environment: dict[str, Any]) -> str:
    """Return the report in markdown."""
    parts = [circumstances(environment)]
    tables = [(SUITES.get(suite, suite), *table(some)) for suite, some in by_suite(cases).items()]
    tables.append(("Targets", TARGETS, judged(cases, environment["mode"] == "full")))
    for title, header, rows in tables:
        parts.append(f"### {title}\n\n{markdown_table(header, rows)}")
    return "\n\n".join(parts) + "\n"


def show(cases: list[dict[str, Any]], environment: dict[str, Any]) -> None:
    """Print the report for a terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=200)
    full = environment["mode"] == "full"
    tables = [(SUITES.get(suite, suite), *table(some)) for suite, some in by_suite(cases).items()]
    for title, header, rows in [*tables, ("Targets", TARGETS, judged(cases, full))]:
        drawn = Table(title=title, title_justify="left")
        for name in header:
            words = name in ("suite", "case", "wanted", "also", "")
            drawn.add_column(name, justify="left" if words else "right", overflow="fold")
        for row in rows:
            style = "red" if row[-1] == "MISSED" else None
            drawn.add_row(*(escape(cell) for cell in row), style=style)
        console.print(drawn)
    console.print(escape(circumstances(environment)))
    for line in left_out(cases):
        console.print(escape(f"left out: {line}"))
    if full:
        reached, of = score(cases)
        console.print(f"[bold]targets reached: {reached} of {of} measured[/bold]")
    else:
        console.print("A quick run shows that everything works; its times mean nothing.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report of a file; return 0, or 2 where the file is of no use."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description="Tell what a benchmark run found.")
    parser.add_argument("file", type=Path, help="what pytest wrote with --benchmark-json")
    parser.add_argument("--png", type=Path, help="draw a chart into this file")
    parser.add_argument("--markdown", action="store_true", help="print markdown instead of tables for a terminal")
    given = parser.parse_args(arguments)
    try:
        cases, environment = read(given.file)
    except (OSError, ValueError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    if given.markdown:
        print(markdown(cases, environment))
    else:
        show(cases, environment)
    if given.png:
        from benchmarks import chart

        chart.draw(by_suite(cases), environment, given.png)
        print(f"chart: {given.png}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
