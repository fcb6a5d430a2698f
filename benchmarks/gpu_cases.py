"""What is measured on a GPU: each case's call on mlpx and on its peers, and the bound beside it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks import roofline
from benchmarks.nets import DEEP, FIVE, Net
from benchmarks.roofline import Stage
from mlpx.cli import samples


@dataclass(frozen=True)
class GpuCase:
    """One row of the table.

    Parameters
    ----------
    name : str
    kind : str
        "op", "forward" or "step".
    stages : list of Stage
        The kernels that a perfect implementation launches, with their bytes and operations.
    make : callable
        Returns (op name, arguments, parameters), or the net.
    """

    name: str
    kind: str
    stages: list[Stage]
    make: Callable[[], Any] = field(repr=False)


def _op(name: str, op: str, n: int, c: int, *stages: Stage) -> GpuCase:
    return GpuCase(name, "op", list(stages), lambda: (op, *samples.call(op, n, c)))


def _dense(n: int, i: int, o: int) -> GpuCase:
    return GpuCase(
        f"dense relu {n}x{i}x{o}", "op", roofline.dense(n, i, o), lambda: ("dense", *samples.dense("dense", n, i, o))
    )


def cases() -> Iterator[GpuCase]:
    """Yield the rows of the table."""
    for n, c in ((4096, 1000), (100_000, 10), (4096, 4096)):
        yield _op(f"softmax {n}x{c}", "softmax", n, c, roofline.elements(n * c, n * c))
    for n, c in ((1000, 10), (1024, 1000), (16_384, 1000)):
        stage = roofline.elements(n * c + 2 * n, n * c)
        yield _op(f"softmax_cross_entropy {n}x{c}", "softmax_cross_entropy", n, c, stage)
    n, c = 4096, 1000
    for op, reads, writes in (
        ("masked_softmax", 1.25, 1),
        ("log_softmax", 1, 1),
        ("softmax_grad", 2, 1),
        ("dropout", 1, 1),
        ("layer_norm", 1, 1),
        ("layer_norm_grad", 2, 1),
        ("batch_norm", 2, 1),
    ):
        yield _op(f"{op} {n}x{c}", op, n, c, Stage(roofline.FLOAT * n * c * (reads + writes)))
    for n, i, o in ((1024, 784, 512), (1024, 784, 1024), (256, 256, 256), (16_384, 1024, 1024)):
        yield _dense(n, i, o)
    for size in (1 << 20, 2_000_000):
        yield _op(f"adam {size:,} parameters", "adam_inplace", size, 1, roofline.adam(size))
    small = FIVE[1]
    for rows in (1, 16_384, 100_000):
        yield GpuCase(
            f"forward {small.name}, {rows:,} rows",
            "forward",
            [roofline.fused_forward(small, rows)],
            lambda r=rows: (small, r),
        )
    for net in (*FIVE, DEEP):
        yield _step(net)


def _step(net: Net) -> GpuCase:
    return GpuCase(f"training step {net.name}, batch {net.batch}", "step", roofline.step(net), lambda: net)
