"""The small product's CUDA kernel, on the CPU: every layout, every ragged edge, every schedule."""

import itertools

import numpy as np
import pytest
from compare import check_close
from emulator import Module, no_compiler, using
from emulator.module import SCHEDULES

from mlpx_kernels.cuda.gemm.products import SIDE, TILE
from mlpx_kernels.cuda.runtime.compile import source

pytestmark = pytest.mark.skipif(no_compiler() is not None, reason=no_compiler() or "")
LAYOUTS = ((False, True), (False, False), (True, False))
"""Whether a and b come transposed: forward, gradient for the input, gradient of the weights."""
NAMES = {
    (dtype, *layout): f"product<{ctype}, {ctype}, {str(layout[0]).lower()}, {str(layout[1]).lower()}>"
    for (dtype, ctype), layout in itertools.product((("float32", "float"), ("float64", "double")), LAYOUTS)
}
kernels = Module(source("product"), tuple(NAMES.values()), "product")
SHAPES = ((1, 1, 1), (3, 33, 7), (32, 32, 32), (31, 64, 65), (70, 5, 40), (16, 10, 0))


def run(a_t: bool, b_t: bool, m: int, n: int, k: int, dtype: str) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng([m, n, k])
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    given = (np.ascontiguousarray(a.T) if a_t else a, np.ascontiguousarray(b.T) if b_t else b)
    out = np.full((m, n), np.nan, dtype)
    grid = (-(-n // TILE), -(-m // TILE))
    kernel = kernels.function(NAMES[dtype, a_t, b_t])
    kernel(grid, (SIDE * SIDE,), (*given, out, np.int64(m), np.int64(n), np.int64(k)))
    return a, b, out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("a_t", "b_t"), LAYOUTS)
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_product(a_t: bool, b_t: bool, m: int, n: int, k: int, dtype: str) -> None:
    a, b, out = run(a_t, b_t, m, n, k, dtype)
    wide = np.float64 if dtype == "float32" else np.longdouble
    check_close("product", out, a @ b, a.astype(wide) @ b.astype(wide), max(k, 1))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_race_and_nothing_outside_the_arrays(schedule: str) -> None:
    for a_t, b_t in LAYOUTS:
        with using(build="checked", schedule=schedule):
            a, b, out = run(a_t, b_t, 35, 34, 40, "float32")
        np.testing.assert_allclose(out, a @ b, rtol=1e-4, atol=1e-5)
