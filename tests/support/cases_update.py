"""Cases of the parameter updates: every penalty alone and all together, on sizes about the blocks of a kernel."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from cases_kit import Case, both, normal, of

SIZES = (0, 1, 2, 7, 63, 64, 65, 131, 5000)
SHARED: dict[str, dict[str, float]] = {
    "plain": {},
    "scale": {"scale": 0.5},
    "clip": {"clip": 0.4},
    "l1": {"l1": 0.03},
    "l2": {"l2": 0.05},
    "decay": {"decay": 0.2},
    "all": {"scale": 0.5, "clip": 0.4, "l1": 0.03, "l2": 0.05, "decay": 0.2},
}
OWN: dict[str, tuple[int, list[dict[str, Any]]]] = {
    "sgd_inplace": (0, [{}]),
    "momentum_inplace": (1, [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.0}]),
    "adagrad_inplace": (1, [{"eps": 1e-8}]),
    "rmsprop_inplace": (1, [{"rho": 0.9, "eps": 1e-8}]),
    "adadelta_inplace": (2, [{"rho": 0.95, "eps": 1e-6}]),
    "adam_inplace": (
        2,
        [{"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "step": step} for step in (1, 7, 100_000)]
        + [{"beta1": 0.0, "beta2": 0.0, "eps": 1e-8, "step": 3}],
    ),
    "rprop_inplace": (2, [{"shrink": 0.5, "grow": 1.2, "smallest": 0.05, "largest": 0.5}]),
}
"""Op name to the number of its state arrays and its own parameters."""
K = 64
"""An update sums nothing; k stands for its roundings, one after another, a quotient and a root among them."""


def arrays(name: str, size: int, dtype: Any) -> tuple[Any, ...]:
    """Return weights, gradient and state, with some zeros among them."""
    w, g = normal("w", size, dtype=dtype), normal("g", size, dtype=dtype)
    w[::5], g[::7] = 0.0, 0.0
    state = [normal(f"state{i}", size, dtype=dtype) for i in range(OWN[name][0])]
    if name in ("adagrad_inplace", "rmsprop_inplace", "adadelta_inplace", "rprop_inplace"):
        state = [*state[:-1], np.abs(state[-1])] if name == "rprop_inplace" else [np.abs(s) for s in state]
    if name == "adam_inplace":
        state[1] = np.abs(state[1])
    return w, g, *state


@of(*OWN)
def _update(name: str) -> Iterator[Case]:
    _, options = OWN[name]
    for size in SIZES:
        for label, dtype in both(f"n{size}"):
            yield Case(label, arrays(name, size, dtype), {"lr": 0.1, **options[0], **SHARED["all"]}, K)
    for number, own in enumerate(options):
        for shared, params in SHARED.items():
            for label, dtype in both(f"{shared}-{number}"):
                yield Case(label, arrays(name, 67, dtype), {"lr": 0.1, **own, **params}, K)
    for label, dtype in both("fresh"):
        w, g, *state = arrays(name, 67, dtype)
        yield Case(label, (w, g, *(s * 0 for s in state)), {"lr": 0.1, **options[0]}, K)
        g = g.copy()
        g[3], g[5], g[8] = np.nan, np.inf, -np.inf
        yield Case(label.replace("fresh", "special"), (w, g, *state), {"lr": 0.1, **options[0], "clip": 0.5}, K)
