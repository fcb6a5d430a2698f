"""The one fixture of all suites, `compare`, and what is written beside the results."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from benchmarks import environment
from benchmarks.measure import Call, interleave, summary
from benchmarks.peers import Calls
from mlpx import set_backend

_skipped: dict[tuple[str, str], int] = defaultdict(int)


def pytest_configure(config: pytest.Config) -> None:
    """Let peers warn as they like: their warnings are not ours to fix. Networks live on the CPU unless a suite asks."""
    set_backend("numpy")
    config.addinivalue_line("filterwarnings", "ignore")


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Add the circumstances of the run to its file."""
    machine_info["mlpx"] = environment.describe()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print which implementations were left out, and why."""
    for (name, reason), count in sorted(_skipped.items()):
        terminalreporter.write_line(f"left out of {count} cases: {name}: {reason}")


Compare = Callable[..., dict[str, dict[str, float]]]


@pytest.fixture
def compare(benchmark: Any, request: pytest.FixtureRequest) -> Compare:
    """Return ``compare(case, calls, ...)``: time the implementations in turn and keep what came of it.

    ``calls`` maps names to functions without arguments; "mlpx" is the one that the others are held against. ``per``
    divides the times, one number for all or one for each name: training steps of a call, say. ``values`` are further
    numbers of the case. ``samples`` are seconds that were taken elsewhere, for what cannot be called here.
    """

    def run(
        case: str,
        calls: Mapping[str, Call],
        *,
        per: float | Mapping[str, float] = 1.0,
        values: Mapping[str, float] | None = None,
        samples: Mapping[str, list[float]] | None = None,
        x: float | None = None,
    ) -> dict[str, dict[str, float]]:
        taken = dict(samples or {})
        if calls:
            taken |= interleave(calls)
        units = {name: per if isinstance(per, int | float) else per.get(name, 1.0) for name in taken}
        times = {name: summary(seconds, units[name]) for name, seconds in taken.items()}
        skipped = calls.skipped if isinstance(calls, Calls) else {}
        for item in skipped.items():
            _skipped[item] += 1
        ours = times["mlpx"]["median"]
        benchmark.extra_info.update(
            suite=request.module.__name__.rpartition("test_")[2],
            case=case,
            times=times,
            ratios={name: time["median"] / ours for name, time in times.items() if name != "mlpx"},
            values=dict(values or {}),
            skipped=skipped,
            samples={name: len(seconds) for name, seconds in taken.items()},
        )
        if x is not None:
            benchmark.extra_info["x"] = x
        if "mlpx" in calls:
            # pytest-benchmark's own columns; the report reads the interleaved samples above.
            benchmark.pedantic(calls["mlpx"], rounds=3, iterations=1)
        else:
            benchmark.pedantic(lambda: None)
        return times

    return run
