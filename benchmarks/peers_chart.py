"""``python -m benchmarks.peers_chart``: the README's picture, drawn from the table of docs/performance.md."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE, PICTURE = ROOT / "docs" / "performance.md", ROOT / "docs" / "images" / "peers.png"
ROW = re.compile(r"^\| (?P<case>[^|]+?) \| (?P<ours>[\d.,]+) \| (?P<peer>[\d.,]+) \((?P<name>[^)]+)\)", re.MULTILINE)


def ratios(page: str) -> list[tuple[str, float, str]]:
    """Return (case, best peer's time over mlpx's, the peer) for each row of the page's first table."""

    def number(text: str) -> float:
        return float(text.replace(",", ""))

    return [(m["case"], number(m["peer"]) / number(m["ours"]), m["name"]) for m in ROW.finditer(page)]


def draw(rows: list[tuple[str, float, str]], path: Path) -> None:
    """Write the picture: a bar for each case; at 1 both take the same time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(8.0, 0.3 * len(rows) + 1.0), layout="constrained")
    places = range(len(rows))
    ax.barh(places, [ratio for _, ratio, _ in rows], color="#0b6e4f", height=0.65)
    ax.axvline(1.0, color="#868e96", linewidth=1.0)
    for place, (_, ratio, peer) in zip(places, rows, strict=True):
        ax.text(ratio + 0.04, place, f"{ratio:.1f} x {peer}", va="center", fontsize=8)
    ax.set_yticks(places, [case for case, _, _ in rows], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(0.0, 1.25 * max(ratio for _, ratio, _ in rows))
    ax.set_xlabel("time of the best peer over mlpx's (right of 1: mlpx is faster)", fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw(ratios(PAGE.read_text(encoding="utf-8")), PICTURE)
