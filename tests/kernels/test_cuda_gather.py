"""The gather's CUDA kernel, on the CPU: every part of a batch, aligned rows and others, any step."""

import numpy as np
import pytest
from emulator import Module, no_compiler, using
from emulator.module import SCHEDULES

from mlpx_kernels.cuda.plan.gather import ROWS_AT_ONCE
from mlpx_kernels.cuda.runtime.compile import source

pytestmark = pytest.mark.skipif(no_compiler() is not None, reason=no_compiler() or "")
kernels = Module(source("gather"), ("gather<float>", "gather<double>"), "gather")


def run(dtype: str, width: int, cols: int, *, labelled: bool, weighted: bool, masked: bool, step: int = 1) -> None:
    rng = np.random.default_rng([width, cols, step])
    n, batch, rows = 50, 9, 7
    x, targets = rng.standard_normal((n, width)).astype(dtype), rng.standard_normal((n, cols)).astype(dtype)
    labels, weights, mask = rng.integers(0, cols, n), rng.random(n).astype(dtype), rng.random((n, cols)) > 0.5
    order, clock = rng.permutation(n), np.array([step, -1, 0, 0, 0])
    data = [x, labels if labelled else None, None if labelled else targets]
    data += [weights if weighted else None, mask if masked else None]
    made = [None if a is None else np.zeros((batch, *a.shape[1:]), a.dtype) for a in data]
    pairs = [a for pair in zip(data, made, strict=True) for a in pair]
    sizes = (np.int64(batch), np.int64(rows), np.int64(width), np.int64(cols))
    name = "gather<float>" if dtype == "float32" else "gather<double>"
    kernels.function(name)((1,), (32 * ROWS_AT_ONCE,), (*pairs, order, clock, *sizes))
    chosen = order[step * batch :][:rows]
    for a, got in zip(data, made, strict=True):
        if a is not None:
            assert np.array_equal(got[:rows], a[chosen])
            assert not got[rows:].any()
    assert list(clock) == [step, step, 0, 0, 0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [1, 4, 7, 64, 130])
@pytest.mark.parametrize(
    ("labelled", "weighted", "masked"), [(True, False, False), (False, True, False), (True, True, True)]
)
def test_every_part_of_a_batch(dtype: str, width: int, labelled: bool, weighted: bool, masked: bool) -> None:
    for cols in (3, 16):
        run(dtype, width, cols, labelled=labelled, weighted=weighted, masked=masked)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_race_and_nothing_outside_the_arrays(schedule: str) -> None:
    with using(build="checked", schedule=schedule):
        run("float32", 33, 5, labelled=False, weighted=True, masked=True, step=4)
        run("float32", 8, 16, labelled=True, weighted=True, masked=True, step=0)
