"""Cold start, in processes of their own: imports, the first fit with an empty kernel cache and with a full one."""

from pathlib import Path
from statistics import median

import pytest

from benchmarks import peers
from benchmarks.measure import quick
from benchmarks.peers import Absent
from benchmarks.processes import child, whole

IMPORTS = ("numpy", "numba", "sklearn.neural_network", "torch", "jax", "onnxruntime")
ROUNDS = 1 if quick() else 7


def test_import(compare) -> None:
    """A process that imports one library and ends; beside it what ``import mlpx`` adds to NumPy's import."""
    calls = peers.Calls()
    wanted = ["mlpx"]
    for module in IMPORTS:
        try:
            if module != "numpy":
                peers.load(module)
            wanted.append(module)
        except Absent as reason:
            calls.skipped[module] = str(reason)
    names = [name for name in wanted if not quick() or name in ("mlpx", "numpy")]
    whole("import mlpx")
    samples: dict[str, list[float]] = {name: [] for name in names}
    beyond = []
    for _ in range(ROUNDS):
        for name in names:
            samples[name].append(whole(f"import {name}"))
        beyond.append(child("import")["mlpx"])
    compare("import", calls, samples=samples, values={"beyond numpy ms": median(beyond) * 1e3})


def _fit(cache: Path) -> float:
    found = child("fit", MLPX_CACHE_DIR=str(cache))
    assert found["loss"] == pytest.approx(found["loss"]), f"the loss is {found['loss']}"
    assert not found["declined"], f"no plan: {found['declined']}"
    return found["fit"]


def test_first_fit(compare, tmp_path: Path) -> None:
    """The first fit of a new process with a full cache ("mlpx"), and the first ever, with an empty one."""
    empty = [_fit(tmp_path / str(number)) for number in range(1 if quick() else 3)]
    full = [_fit(tmp_path / "0") for _ in range(ROUNDS)]
    values = {"empty cache s": median(empty), "full cache s": median(full)}
    compare("first fit", {}, samples={"mlpx": full, "empty cache": empty}, values=values)
