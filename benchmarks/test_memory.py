"""Training on a file that is mapped, not read: how much memory it takes, and what that costs in time."""

import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure import quick
from benchmarks.processes import child

FEATURES = 1024
ROWS = 1 << (11 if quick() else 20)
KNOWN = 2048
"""Rows with numbers in them; the rest of the file is a hole, which reads as zeros and takes no disk."""


@pytest.mark.skipif(sys.platform != "linux", reason="anonymous memory is read from /proc/self/status, on Linux alone")
def test_mapped_file(compare, tmp_path: Path) -> None:
    """A 4 GB file of float32 rows (8 MB in quick mode), shuffled training; from memory beside it where that fits."""
    path = tmp_path / "rows.f32"
    size = ROWS * FEATURES * 4
    if shutil.disk_usage(tmp_path).free < 2 * KNOWN * FEATURES * 4:
        pytest.skip(f"needs some space in {tmp_path}")
    with path.open("wb") as file:
        file.write(np.random.default_rng(0).standard_normal((KNOWN, FEATURES), dtype=np.float32).tobytes())
        file.truncate(size)
    task = (str(path), str(ROWS), str(FEATURES))
    samples: dict[str, list[float]] = {"mlpx": [], "memory": []}
    peak = 0.0
    for _ in range(1 if quick() else 2):
        mapped = child("train", "mapped", *task)
        assert math.isfinite(mapped["loss"])
        assert not mapped["declined"], f"no plan: {mapped['declined']}"
        peak = max(peak, mapped["peak_mb"])
        samples["mlpx"].append(mapped["seconds"])
        if _free_memory() > 2 * size + 1e9:
            samples["memory"].append(child("train", "memory", *task)["seconds"])
    taken = {name: seconds for name, seconds in samples.items() if seconds}
    compare(f"mapped {ROWS} x {FEATURES}", {}, samples=taken, values={"peak MB": peak, "file MB": size / 1e6})


def _free_memory() -> float:
    """Return the bytes of memory that can be had without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return 1024.0 * int(line.split()[1])
    return 0.0
