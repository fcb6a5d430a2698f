"""Draws a run: how many times as fast mlpx is as each peer, and how its time grows with rows, width and depth."""

from pathlib import Path
from typing import Any

COLOURS = {
    "mlpx": "#0b6e4f", "layers": "#7fb685", "reference": "#9d9d9d", "numpy": "#4c6ef5", "scipy": "#91a7ff",
    "sklearn": "#f59f00", "torch": "#e8590c", "torch, 1 thread": "#a61e4d",
    "torch.compile": "#ffa94d", "torchscript": "#c2255c", "jax": "#7048e8",
    "onnxruntime": "#1098ad", "one thread": "#495057", "loop": "#ced4da", "copy": "#000000", "gemm": "#000000",
    "sklearn float32": "#ffd43b", "mlpx float32": "#63e6be", "net.fit": "#9d9d9d", "net.predict": "#9d9d9d",
    "memory": "#868e96", "empty cache": "#868e96",
}  # fmt: skip
AXES = {"rows": "rows predicted, 64-128-10", "width": "width of two hidden layers", "depth": "hidden layers of 128"}

SIDES = (("ops", "cold"), ("forward", "training", "estimators", "latency", "threads", "memory"))
"""The suites of each column of panels; the scaling suite goes below both."""


def draw(suites: dict[str, list[dict[str, Any]]], environment: dict[str, Any], path: Path) -> None:
    """Write the chart: a panel of ratios for each suite, lines for the scaling suite."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    sides = [[suite for suite in suites if suite in side] for side in SIDES]
    sides = [side for side in sides if side]
    tall = max((sum(_height(suites[suite]) for suite in side) for side in sides), default=0.0)
    low = 3.4 if "scaling" in suites else 0.0
    figure = plt.figure(figsize=(9.5 * max(len(sides), 1), tall + low + 1.0), layout="constrained")
    rows = figure.add_gridspec(2 if sides and low else 1, 1, height_ratios=[h for h in (tall, low) if h] or None)
    if sides:
        columns = rows[0].subgridspec(1, len(sides))
        for column, side in enumerate(sides):
            heights = [_height(suites[suite]) for suite in side]
            inner = columns[column].subgridspec(len(side), 1, height_ratios=heights)
            for row, suite in enumerate(side):
                _ratios(figure.add_subplot(inner[row]), suite, suites[suite])
    if low:
        inner = rows[-1].subgridspec(1, len(AXES))
        for column, kind in enumerate(AXES):
            _scaling(figure.add_subplot(inner[column]), kind, suites["scaling"])
    note = "" if environment["mode"] == "full" else " (a quick run: its times mean nothing)"
    figure.suptitle(
        f"mlpx {environment['versions'].get('mlpx', '')} beside its peers{note}\n"
        f"{environment['machine']}, {environment['cores']} cores, commit {environment['commit'] or 'unknown'}",
        fontsize=11,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _height(cases: list[dict[str, Any]]) -> float:
    """Return the inches that a panel of ratios needs."""
    return 1.1 + 0.27 * len(cases)


def _ratios(ax: Any, suite: str, cases: list[dict[str, Any]]) -> None:
    """Draw a row for each case: every implementation's time over mlpx's; right of 1, mlpx is faster."""
    names = [name for name in COLOURS if any(name in case["ratios"] for case in cases)]
    for name in names:
        points = [(case["ratios"][name], y) for y, case in enumerate(cases) if name in case["ratios"]]
        marker = "|" if name in ("copy", "gemm") else "o"
        xs, ys = zip(*points, strict=True)
        ax.scatter(xs, ys, s=70 if marker == "|" else 34, marker=marker, color=COLOURS[name], label=name, zorder=3)
    ax.axvline(1.0, color=COLOURS["mlpx"], linewidth=1.6, zorder=2)
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, 0.7), max(high, 1.5))
    _plain(ax.xaxis)
    ax.set_yticks(range(len(cases)), [case["case"] for case in cases], fontsize=8)
    ax.set_ylim(len(cases) - 0.4, -0.6)
    ax.grid(axis="both", color="#e9ecef", linewidth=0.7, zorder=0)
    ax.set_xlabel("time / mlpx's time: right of the line mlpx is faster", fontsize=8)
    ax.set_title(suite, loc="left", fontsize=10, fontweight="bold")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)


def _scaling(ax: Any, kind: str, cases: list[dict[str, Any]]) -> None:
    """Draw microseconds against one size, both on log axes."""
    some = [case for case in cases if case["case"].startswith(f"{kind} ")]
    for name in [name for name in COLOURS if any(name in case["times"] for case in some)]:
        points = sorted((case["x"], case["times"][name]["median"]) for case in some if name in case["times"])
        xs, ys = zip(*points, strict=True)
        ax.plot(xs, ys, marker="o", markersize=4, color=COLOURS[name], label=name)
    ax.set_xscale("log")
    ax.set_yscale("log")
    _plain(ax.xaxis)
    _plain(ax.yaxis)
    ax.set_xlabel(AXES[kind], fontsize=8)
    ax.set_ylabel("microseconds", fontsize=8)
    ax.grid(color="#e9ecef", linewidth=0.7)
    ax.legend(fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)


def _plain(axis: Any) -> None:
    """Write ticks as 0.5, 10, 1,000 instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    subs = range(1, 10) if high < 5 * low else (1, 2, 5) if high < 300 * low else (1,)
    axis.set_major_locator(LogLocator(10.0, subs=subs, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(labelsize=8)
