"""What cases are made of: arrays that a label determines, layouts, and the register of generators.

Sizes stand on both sides of the blocks that kernels work in (63, 64, 65), at primes and at nothing; arrays come in
every layout. Weights are scaled by 1/sqrt(fan_in), so that results are of the order of one.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

F32, F64 = np.dtype("float32"), np.dtype("float64")
CHAIN = 16
"""Roundings of the element-wise part of an op; a case's k is this and the length of its longest sum."""


@dataclass(frozen=True)
class Case:
    """One call of an op: its id, arrays, parameters, k, and the numbers of the results that may alias an input."""

    id: str
    args: tuple[Any, ...] = field(repr=False)
    params: dict[str, Any] = field(repr=False)
    k: int = CHAIN
    may_alias: tuple[int, ...] = ()


GENERATORS: dict[str, Callable[[], Iterator[Case]]] = {}
"""Op name to the generator of its cases."""


def of(*names: str) -> Callable[[Callable[..., Iterator[Case]]], Callable[..., Iterator[Case]]]:
    """Register the generator of the cases of some ops; of several, it is called with the name."""

    def register(generator: Callable[..., Iterator[Case]]) -> Callable[..., Iterator[Case]]:
        for name in names:
            GENERATORS[name] = generator if len(names) == 1 else (lambda name=name: generator(name))
        return generator

    return register


def normal(label: str, *shape: int, dtype: np.dtype[Any] = F64) -> Any:
    """Return standard normal numbers that depend on the label and the shape alone."""
    seed = zlib.crc32(f"{label}{shape}".encode())
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def flags(label: str, *shape: int, share: float = 0.6) -> Any:
    """Return bools of which about ``share`` are True."""
    return np.random.default_rng(zlib.crc32(f"flags{label}{shape}".encode())).random(shape) < share


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "readonly": lambda a: _locked(a),
}


def _locked(a: Any) -> Any:
    a = a.copy()
    a.flags.writeable = False
    return a


def lay(layout: str, *arrays: Any) -> tuple[Any, ...]:
    """Return equal arrays of another layout; what is no array stays."""
    return tuple(LAYOUTS[layout](a) if isinstance(a, np.ndarray) and a.ndim else a for a in arrays)


def layout_of(label: str) -> str:
    """Return the layout that a label names."""
    return next((part for part in label.split("-") if part in LAYOUTS), "C")


def both(label: str) -> Iterator[tuple[str, np.dtype]]:
    """Yield the label and dtype of both float types."""
    yield f"f32-{label}", F32
    yield f"f64-{label}", F64
