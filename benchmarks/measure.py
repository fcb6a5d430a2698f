"""How time is taken: implementations of one case interleaved in one process, medians with the spread beside them."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

Call = Callable[[], Any]
WARMED = 10
"""Samples' lengths up to which a call is warmed up: of longer ones, what a pause costs, a millisecond, is little."""
LONG = 1e-3
"""Seconds of a call from which on it may need more memory than a process keeps for itself."""


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Parameters
    ----------
    rounds : int
        Rounds in which each implementation is timed once.
    seconds : float
        After so many seconds a case ends early, but not before a third of its rounds.
    sample : float
        Seconds of one sample: quick calls are repeated until they fill it, and the sample is their mean.
    pause : float
        Seconds before each sample. Thread pools go on spinning after their work (OpenBLAS's for some 80 milliseconds);
        the next implementation should not have to share the cores with them.
    touched : int
        Bytes of new memory that are written to before each sample of long calls, and freed. A virtual machine may give
        free memory back to its host after seconds, and it comes again page by page: 2 MB take 5 ms, twenty times as
        long as a softmax of as much. So what is free is there for whoever is timed next.
    """

    rounds: int
    seconds: float
    sample: float
    pause: float
    touched: int


def quick() -> bool:
    """Return whether small sizes are asked for: by ``MLPX_BENCH``, or where that is not set by ``CI``."""
    asked = os.environ.get("MLPX_BENCH") or ("quick" if os.environ.get("CI") else "full")
    if asked not in ("quick", "full"):
        raise ValueError(f"MLPX_BENCH: expected quick or full, got {asked!r}.")
    return asked == "quick"


def effort() -> Effort:
    """Return how long to measure in this run."""
    return Effort(2, 0.0, 0.0, 0.0, 0) if quick() else Effort(11, 12.0, 0.004, 0.12, 1 << 28)


def once(call: Call) -> float:
    """Return the seconds of a call, after a first one that may compile and is not counted."""
    call()
    return timed(call, 1)


def timed(call: Call, times: int) -> float:
    """Return the mean seconds of a call over some calls in a row."""
    began = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - began) / times


def interleave(calls: Mapping[str, Call], rounds: int | None = None) -> dict[str, list[float]]:
    """Time implementations in turn; return the seconds of one call, a sample per round, for each name.

    Without ``rounds`` this run's `effort` says how many, and how long at most. A round times every implementation
    once, each round in another order, so that a machine that slows down or warms up does so for all of them. An
    untimed call goes before each sample of calls that are not long: caches and thread pools belong to whoever is being
    timed.
    """
    how = effort()
    lengths = {name: once(call) for name, call in calls.items()}
    times = {name: max(1, min(10_000, round(how.sample / max(taken, 1e-7)))) for name, taken in lengths.items()}
    touched = how.touched if max(lengths.values()) > LONG else 0
    samples: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    wanted = rounds or how.rounds
    began = time.perf_counter()
    for number in range(wanted):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            time.sleep(how.pause)
            np.empty(touched, np.uint8)[::4096] = 1
            if lengths[name] < WARMED * how.sample:
                calls[name]()
            samples[name].append(timed(calls[name], times[name]))
        if rounds is None and number + 1 >= max(2, wanted // 3) and time.perf_counter() - began > how.seconds:
            break
    return samples


def summary(samples: list[float], per: float = 1.0) -> dict[str, float]:
    """Return median, p20 and p80 in microseconds per unit, of samples in seconds."""
    low, high = np.quantile(samples, (0.2, 0.8))
    scale = 1e6 / per
    return {"median": median(samples) * scale, "p20": float(low) * scale, "p80": float(high) * scale}


def same(name: str, got: Any, wanted: Any, tolerance: float = 1e-4) -> None:
    """Raise AssertionError unless two results, or tuples of results, agree within a share of their largest value."""
    if isinstance(wanted, tuple | list):
        assert len(got) == len(wanted), f"{name}: has {len(got)} results, expected {len(wanted)}"
        for number, (one, other) in enumerate(zip(got, wanted, strict=True)):
            same(f"{name}[{number}]", one, other, tolerance)
        return
    if wanted is None:
        return
    a, b = np.asarray(got, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    assert a.shape == b.shape, f"{name}: has shape {a.shape}, expected {b.shape}"
    if a.size:
        error, scale = float(np.max(np.abs(a - b))), float(np.max(np.abs(b)))
        assert error <= tolerance * max(scale, 1e-3), f"{name}: is off by {error:.3g}, of values up to {scale:.3g}"
