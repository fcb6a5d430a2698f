"""What mlpx wants to reach, as data: a benchmark's case, what it is held against, and the ratio or limit."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any


@dataclass(frozen=True)
class Target:
    """One wish.

    Parameters
    ----------
    suite, case : str
        Which benchmark; ``*`` in the case stands for anything.
    against : tuple of str
        Implementations of which the fastest is divided by mlpx's time. Empty: ``value`` is held against a limit.
    at_least : float
        The least ratio.
    value : str
        "median", mlpx's microseconds, or the name of one of the benchmark's further values.
    at_most : float
        The limit of that value.
    """

    suite: str
    case: str
    against: tuple[str, ...] = ()
    at_least: float = 0.0
    value: str = ""
    at_most: float = 0.0

    def covers(self, info: Mapping[str, Any]) -> bool:
        """Return whether a benchmark's extra_info is what this target is about."""
        return info["suite"] == self.suite and fnmatchcase(info["case"], self.case)

    def reached(self, info: Mapping[str, Any]) -> tuple[float | None, str, bool]:
        """Return (measured, what was wanted, whether it was reached); measured is None where nobody was there."""
        if self.against:
            rivals = [time["median"] for name, time in info["times"].items() if _family(name) in self.against]
            ratio = min(rivals) / info["times"]["mlpx"]["median"] if rivals else None
            names = "best of " + ", ".join(self.against) if len(self.against) > 1 else self.against[0]
            return ratio, f"{names} / mlpx >= {self.at_least:.3g}", ratio is not None and ratio >= self.at_least
        found = info["times"]["mlpx"]["median"] if self.value == "median" else info["values"].get(self.value)
        unit = "us" if self.value == "median" else self.value
        return found, f"{unit} <= {self.at_most:g}", found is not None and found <= self.at_most


def _family(name: str) -> str:
    """Return "torch" for "torch, 1 thread"."""
    return name.partition(",")[0]


RIVALS = ("torch", "torch.compile", "jax")


def _training() -> Iterable[Target]:
    wanted = {
        "4-16-3": (3.0, 40.0),
        "64-128-10": (2.0, 10.0),
        "32-256-256-2": (1.5, 4.0),
        "784-256-128-10": (1.4, 4.0),
        "784-1024-1024-10": (1.0, 2.4),
    }
    for net, (rivals, sklearn) in wanted.items():
        yield Target("training", f"step {net}", RIVALS, rivals)
        yield Target("training", f"step {net}", ("sklearn",), sklearn)
    yield Target("training", "step 784-1024-1024-10", ("gemm",), 0.8)


TARGETS: tuple[Target, ...] = (
    *_training(),
    Target("ops", "softmax 100000x10", ("torch",), 10.0),
    Target("ops", "softmax 1000x1000", ("torch",), 1.1),
    Target("ops", "softmax 4096x4096", ("torch",), 2.5),
    Target("ops", "softmax 4096x4096", ("copy",), 1 / 1.4),
    Target("ops", "softmax_cross_entropy 1000x10", ("torch",), 5.0),
    Target("ops", "softmax_cross_entropy 1024x1000", ("torch",), 1.2),
    Target("ops", "dense relu 1024x784x1024", ("torch",), 1.0),
    Target("ops", "dense relu 256x256x256", ("torch",), 1.0),
    *(
        target
        for dtype in ("float32", "float64")
        for target in (
            Target("forward", f"X (1000, 5000) W (10, 5000) {dtype}", ("numpy",), 2.0),
            Target("forward", f"X (1000, 5000) W (10, 5000) {dtype}", ("torch",), 1.2),
        )
    ),
    Target("ops", "adam 2M parameters", ("torch",), 1.0),
    Target("latency", "one row 64-128-10", value="median", at_most=3.0),
    Target("latency", "one row 64-128-10", ("onnxruntime",), 2.5),
    Target("latency", "100000 rows 64-128-10", ("onnxruntime",), 1.2),
    Target("estimators", "fit digits", ("sklearn",), 6.0),
    Target("estimators", "fit 20000x16 in 26", ("sklearn",), 4.0),
    Target("estimators", "fit 100000x50 regression", ("sklearn",), 4.0),
    Target("estimators", "1000 steps *", ("net.fit",), 1 / 1.05),
    Target("estimators", "one row 64-128-10", value="beyond net.predict us", at_most=20.0),
    Target("threads", "*", ("one thread",), 0.97),
    Target("cold", "import", value="beyond numpy ms", at_most=60.0),
    Target("cold", "first fit", value="empty cache s", at_most=10.0),
    Target("cold", "first fit", value="full cache s", at_most=1.0),
    Target("memory", "mapped *", value="peak MB", at_most=600.0),
    Target("memory", "mapped *", ("memory",), 1 / 1.1),
)


def of(info: Mapping[str, Any]) -> list[Target]:
    """Return the targets of a benchmark."""
    return [target for target in TARGETS if target.covers(info)]
