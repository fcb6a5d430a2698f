"""Training with two threads and with one, over sizes: two must never be slower."""

import os
from dataclasses import replace

import pytest

from benchmarks import trainers
from benchmarks.measure import quick
from benchmarks.nets import DEEP, Net, sized

GRID = (
    Net((4, 16, 3), 32, 512, 4),
    Net((16, 32, 4), 64, 256, 4),
    Net((64, 128, 10), 32, 128, 4),
    Net((64, 128, 10), 256, 64, 2),
    Net((128, 128, 10), 128, 64, 2),
    Net((32, 256, 256, 2), 256, 32, 1),
    Net((256, 256, 256, 10), 16, 64, 1),
    Net((784, 256, 128, 10), 128, 32, 1),
    Net((784, 1024, 10), 256, 12, 1),
    Net((784, 1024, 1024, 10), 512, 6, 1),
    Net((64, *(48,) * 16, 10), 32, 64, 1),
    Net((64, *(64,) * 7, 10), 64, 64, 1),
    DEEP,
)


@pytest.mark.parametrize("net", [pytest.param(net, id=f"{net.name} batch {net.batch}") for net in GRID])
def test_threads(net: Net, compare) -> None:
    """A training step with all cores, against one thread."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    many = 2 if quick() else min(cores, 8)
    if many < 2:
        pytest.skip("needs two cores; this process may use one")
    name, net = f"{net.name} batch {net.batch}", sized(net)
    calls = {
        "mlpx": trainers.mlpx(net, shuffle=False, n_threads=many),
        "one thread": trainers.mlpx(net, shuffle=False, n_threads=1),
    }
    brief = replace(net, epochs=1)  # what rounds otherwise soon goes another way
    one, other = (trainers.mlpx(brief, shuffle=False, n_threads=n)() for n in (1, many))
    assert other == pytest.approx(one, rel=1e-3)
    compare(name, calls, per=net.taken, values={"n_threads": many})
