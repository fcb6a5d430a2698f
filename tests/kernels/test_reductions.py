"""Maxima and sums of rows, and numbers spread over them: every width, odd numbers of rows, nothing beyond an end."""

import time

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed: there is nothing compiled")

from mlpx_kernels.cpu import softmax
from mlpx_kernels.cpu.loops import reductions, softmax_forward
from mlpx_kernels.cpu.lowlevel.compile import kernel

WIDTHS = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 100, 255]
COUNTS = [1, 2, 5, 8, 15, 16, 17, 40]
LANES = 16


@kernel
def tops(x, number, n, c):
    reductions.row_tops(x, number, n, c)


@kernel
def sums(x, number, n, c):
    reductions.row_sums(x, number, n, c)


@kernel
def spread(number, out, n, c):
    reductions.spread(number, out, n, c)


def block(n: int, c: int, dtype: type) -> np.ndarray:
    """Return n rows in a flat array that goes on with what must not be looked at."""
    x = np.full(n * c + 64, np.nan, dtype)
    x[: n * c] = np.random.default_rng(n * c).standard_normal(n * c)
    return x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("c", WIDTHS)
def test_a_number_for_each_row(c: int, dtype: type) -> None:
    for n in COUNTS:
        x, number = block(n, c, dtype), np.empty(n + LANES, dtype)
        each = x[: n * c].reshape(n, c)
        tops(x, number, n, c)
        np.testing.assert_array_equal(number[:n], each.max(axis=1))
        sums(x, number, n, c)
        bound = c * np.finfo(dtype).eps * np.abs(each).sum(axis=1)
        assert np.all(np.abs(number[:n] - each.astype(np.float64).sum(axis=1)) <= bound)


def test_infinities_and_nan_of_a_row_stay_in_it() -> None:
    x = block(20, 9, np.float32)
    each, number = x[:180].reshape(20, 9), np.empty(20 + LANES, np.float32)
    each[3, 4], each[5], each[7, 8], each[9, 1] = np.inf, -np.inf, np.nan, -np.inf
    tops(x, number, 20, 9)
    assert number[3] == np.inf
    assert number[5] == -np.inf
    assert np.isfinite(np.delete(number[:20], [3, 5, 7])).all()
    sums(x, number, 20, 9)
    np.testing.assert_array_equal(np.flatnonzero(~np.isfinite(number[:20])), [3, 5, 7, 9])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("c", WIDTHS)
def test_numbers_are_spread_over_rows(c: int, dtype: type) -> None:
    for n in COUNTS:
        number, out = np.arange(n, dtype=dtype), np.full(n * c + 2 * reductions.SPARE, -1, dtype)
        spread(number, out, n, c)
        np.testing.assert_array_equal(out[: n * c], np.repeat(number, c))
        assert (out[n * c + reductions.SPARE :] == -1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_masked_rows_take_about_as_long_as_others(dtype: type) -> None:
    """A tenth longer; six times as long where LLVM takes two arrays for one that might overlap."""
    x, mask = block(500, 10, dtype)[:5000], np.ones(5000, np.bool_)
    y, best = np.empty_like(x), [np.inf, np.inf]
    softmax.run_softmax(x, y, 500, 10)
    softmax.run_masked_softmax(x, mask, y, 500, 10)
    for _ in range(200):
        times = [time.perf_counter()]
        softmax.run_softmax(x, y, 500, 10)
        times.append(time.perf_counter())
        softmax.run_masked_softmax(x, mask, y, 500, 10)
        times.append(time.perf_counter())
        best = np.minimum(best, np.diff(times))
    assert best[1] < 3 * best[0]


def test_blocks_are_whole_vectors_of_rows() -> None:
    for c in range(1, softmax_forward.WIDE):
        assert softmax_forward.rows_per_block(c) % LANES == 0
        assert softmax_forward.rows_per_block(c) > 0
