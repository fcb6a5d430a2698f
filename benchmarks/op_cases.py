"""The calls of every op that are measured: the table's sizes by name, and one real size for each of the others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.measure import quick
from mlpx.cli import samples


@dataclass(frozen=True)
class OpCase:
    """One call.

    Parameters
    ----------
    name : str
        What tables call it.
    op : str
        Name in `mlpx.ops.ALL`.
    args, params
        Of the call.
    product : tuple of int, optional
        (n, i, o) where the bound is a product of that size; otherwise it is a copy of the same bytes.
    """

    name: str
    op: str
    args: tuple[Any, ...] = field(repr=False)
    params: dict[str, Any] = field(default_factory=dict, repr=False)
    product: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Lazy:
    """A case whose arrays are made when it runs."""

    name: str
    op: str
    make: Callable[[], OpCase] = field(repr=False)


def _size(n: int) -> int:
    """Return a length as this run takes it: short in quick mode."""
    return min(n, 24) if quick() else n


def _case(name: str, op: str, n: int, c: int) -> OpCase:
    """Return a case over n rows of c columns."""
    return OpCase(name, op, *samples.call(op, _size(n), _size(c)))


def _dense(name: str, op: str, n: int, i: int, o: int, activation: str, dtype: str = "float32") -> OpCase:
    n, i, o = _size(n), _size(i), _size(o)
    args, params = samples.dense(op, n, i, o, dtype)
    product = {"dense": (n, i, o), "dense_grad": (n, i, 2 * o)}.get(op)
    return OpCase(name, op, args, params | {"activation": activation}, product)


def _update(name: str, op: str, size: int) -> OpCase:
    return OpCase(name, op, *samples.call(op, 4096 if quick() else size, 1))


def _one(op: str) -> OpCase:
    """Return the ordinary case of an op."""
    if op.startswith("dense"):
        return _dense(op, op, 256, 256, 16 if op == "dense_grad_rows" else 256, "relu")
    if op.endswith("_inplace"):
        return _update(op, op, 2_000_000)
    by_row = "softmax" in op and "entropy" not in op and "focal" not in op
    wide = "norm" in op or op in ("dropout", "activation", "activation_grad")
    return _case(op, op, *((10_000, 100) if by_row else (4096, 256) if wide else (10_000, 10)))


def named() -> Iterator[Lazy]:
    """Yield the cases that have a target, and their neighbours."""
    for op, n, c in (
        *(("softmax", *shape) for shape in ((100_000, 10), (1000, 1000), (4096, 4096), (1000, 10))),
        *(("softmax_cross_entropy", *shape) for shape in ((1000, 10), (1024, 1000))),
    ):
        name = f"{op} {n}x{c}"
        yield Lazy(name, op, partial(_case, name, op, n, c))
    for n, i, o in ((1024, 784, 1024), (256, 256, 256)):
        name = f"dense relu {n}x{i}x{o}"
        yield Lazy(name, "dense", partial(_dense, name, "dense", n, i, o, "relu"))
    for dtype in ("float32", "float64"):
        name = f"skinny 1000x5000x10 {dtype}"
        yield Lazy(name, "dense", partial(_dense, name, "dense", 1000, 5000, 10, "identity", dtype))
    name = "adam 2M parameters"
    yield Lazy(name, "adam_inplace", partial(_update, name, "adam_inplace", 2_000_000))


def everything() -> list[Lazy]:
    """Return the named cases, and one for every op of `mlpx.ops.ALL` that has none."""
    from mlpx import ops

    cases = list(named())
    covered = {case.op for case in cases}
    return cases + [Lazy(op, op, partial(_one, op)) for op in ops.ALL if op not in covered]
