"""The faster of several ways to do the same, measured once on the user's device and remembered on disk."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from mlpx_kernels.cache import folder, write_whole
from mlpx_kernels.cuda.gemm.products import Launch

WARM, TIMED = 3, 20
"""Runs before the clock, and under it."""


def microseconds(launches: Sequence[Launch]) -> float:
    """Return the device's time for some launches, by events on CuPy's current stream."""
    import cupy

    def run(times: int) -> None:
        for _ in range(times):
            for launch in launches:
                launch()

    run(WARM)
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    begin.record()
    run(TIMED)
    end.record()
    end.synchronize()
    return 1e3 * float(cupy.cuda.get_elapsed_time(begin, end)) / TIMED


def faster(
    key: str, ways: Mapping[str, Sequence[Launch]], clock: Callable[[Sequence[Launch]], float] = microseconds
) -> str:
    """Return the name of the fastest of some ways; each is run some twenty times when the key is new.

    Parameters
    ----------
    key : str
        What is done: op, shapes, dtype. The device and its driver are added here.
    ways : mapping from name to launches
        They must leave the same result, however often they run. The first is what a tie within 3 % goes to.
    """
    device = _device()
    known = _remembered()
    best = known.setdefault(device, {}).get(key)
    if best not in ways:
        times = {name: clock(launches) for name, launches in ways.items()}
        first = next(iter(ways))
        best = min(times, key=times.__getitem__)
        best = first if times[first] <= 1.03 * times[best] else best
        known[device][key] = best
        _remember(known)
    return str(best)


@cache
def _device() -> str:
    """Return the device's name with the versions that decide its speed."""
    import cupy

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(cupy.cuda.Device().id)
    name = properties["name"]
    name = name.decode() if isinstance(name, bytes) else name
    return f"{name}, driver {runtime.driverGetVersion()}, runtime {runtime.runtimeGetVersion()}"


def _file() -> Path | None:
    place = folder("autotune").path
    return None if place is None else place / "choices.json"


_known: dict[str, dict[str, str]] | None = None


def _remembered() -> dict[str, dict[str, str]]:
    """Return what is known, by device and key; a file that is not ours to read counts for nothing."""
    global _known
    if _known is None:
        file = _file()
        try:
            read: Any = json.loads(file.read_text(encoding="utf-8")) if file else {}
        except (OSError, ValueError):
            read = {}
        _known = {
            str(device): {str(key): str(way) for key, way in choices.items()}
            for device, choices in (read.items() if isinstance(read, dict) else ())
            if isinstance(choices, dict)
        }
    return _known


def _remember(known: dict[str, dict[str, str]]) -> None:
    """Write the choices at once or not at all; a disk that cannot be written to costs only the next measurement."""
    file = _file()
    if file is None:
        return
    with suppress(OSError):
        write_whole(file, json.dumps(known, indent=1, sort_keys=True).encode())
