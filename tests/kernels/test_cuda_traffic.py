"""What the kernels of a step read and write, byte by byte, as the emulator counts it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cuda_instances import INSTANCES
from emulator import Module, no_compiler, using

from mlpx_kernels.cuda.runtime.arrays import THREADS
from mlpx_kernels.cuda.runtime.compile import source
from mlpx_kernels.cuda.update import CHUNK
from mlpx_kernels.updates import OWN, encode

pytestmark = pytest.mark.skipif(no_compiler() is not None, reason=no_compiler() or "")
NAMES = tuple(name for name in INSTANCES["update"] if name.startswith("update<float,"))
kernels = Module(source("update"), NAMES, "update")
SIZE = 3 * CHUNK + 100
STATES = {0: 0, 1: 1, 2: 1, 3: 1, 4: 1, 5: 2, 6: 2, 7: 2}
"""Kind to number of states."""


@pytest.fixture(autouse=True)
def _counted() -> Iterator[None]:
    with using(build="checked"):
        yield


def table() -> Any:
    bits = int(np.float64(1.0).view(np.int64))
    rows = [(at, min(at + CHUNK, SIZE), bits, 1) for at in range(0, SIZE, CHUNK)]
    return np.array(rows, np.int64)


@pytest.mark.parametrize("op", OWN)
def test_an_update_reads_and_writes_every_number_once(op: str) -> None:
    options = {name: 0.5 for name in OWN[op][1] if name} | {"lr": 0.1}
    kind, numbers = encode(op, **options)
    w, g, s1, s2 = (np.random.default_rng(k).random(SIZE).astype(np.float32) for k in range(4))
    states = [a if k < STATES[kind] else None for k, a in enumerate((s1, s2))]
    args = (w, g, *states, numbers, table(), np.int64(4), None, None, None, np.float64(np.inf))
    report = kernels.function(f"update<float, {kind}>")((2,), (THREADS,), args)
    assert report is not None
    touched = 4 * SIZE
    assert report.read[:4] == (touched, touched, *(touched if a is not None else None for a in states))
    assert report.written[:4] == (touched, 0, *(touched if a is not None else None for a in states))
    # Adam: w, g, m, v read; w, m, v written
    traffic = sum(filter(None, (*report.read[:4], *report.written[:4])))
    assert traffic == (12 + 8 * STATES[kind]) * SIZE
