"""Products in tiles against NumPy's in float64, and what the plan relies on: strides, cuts, who is asked."""

import itertools
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed: there is nothing compiled")

from mlpx import ops
from mlpx_kernels.cpu import dense
from mlpx_kernels.cpu.gemm import blas, register_tiles, select
from mlpx_kernels.cpu.threading import parallel_rows
from mlpx_kernels.cpu.threading.thread_count import using_threads

LANES = {np.float32: select.VECTOR_BYTES // 4, np.float64: select.VECTOR_BYTES // 8}
SHAPES = [
    (m, n, k)
    for m in (1, 2, 7, 8, 9, 16, 17, 33)
    for n in (1, 3, 8, 15, 16, 17, 31, 32, 33, 48, 65, 130)
    for k in (0, 1, 5, 16, 17, 70)
] + [(17, 33, 600), (9, 3, 1030), (16, 5, 1024), (33, 6, 1025), (70, 11, 2100), (67, 16, 1600)]
# Operands too large for the stack; sums along the rows: in one part, and in several with more rows than a block has.
GAP = 3
"""Elements beside each row of a matrix that belong to somebody else."""


def matrix(rows: int, columns: int, dtype: type, rng: np.random.Generator) -> np.ndarray:
    """Return a matrix inside a wider one that is NaN around it."""
    whole = np.full((rows + 1, columns + GAP), np.nan, dtype)
    whole[:rows, :columns] = rng.standard_normal((rows, columns))
    return whole


def run(form, a, b, c, m: int, n: int, k: int, compiled=select.products, bias: np.ndarray | None = None) -> None:
    strides = (array.strides[0] // array.itemsize for array in (a, b, c))
    start = 0 if bias is None else bias.ctypes.data
    compiled(c.dtype).ctypes(form, a.ctypes.data, b.ctypes.data, start, c.ctypes.data, m, n, k, *strides)


def transposed(form: int, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the operands of ``a @ b`` as a form wants them."""
    return (a.T if form == blas.TN else a), (b.T if form == blas.NT else b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", [blas.NT, blas.NN, blas.TN])
@pytest.mark.parametrize("compiled", [select.products, select.blas_products])
def test_products_of_all_sizes(compiled, form: int, dtype: type) -> None:
    rng = np.random.default_rng(0)
    for m, n, k in SHAPES:
        a = matrix(*((k, m) if form == blas.TN else (m, k)), dtype, rng)
        b = matrix(*((n, k) if form == blas.NT else (k, n)), dtype, rng)
        x, y = transposed(form, a[:-1, :-GAP].astype(np.float64), b[:-1, :-GAP].astype(np.float64))
        for bias in (None, rng.standard_normal(n).astype(dtype)):
            c = np.full((m + 1, n + GAP), 7, dtype)
            run(form, a, b, c, m, n, k, compiled, bias)
            start = np.zeros(n) if bias is None else bias.astype(np.float64)
            allowed = 4 * np.finfo(dtype).eps * (np.abs(x) @ np.abs(y) + np.abs(start))
            assert np.all(np.abs(c[:m, :n] - (x @ y + start)) <= allowed), (m, n, k)
            assert np.all(c[m:] == 7), (m, n, k)
            assert np.all(c[:, n:] == 7), (m, n, k)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", ["tiles", "sums along the rows"])
def test_rows_are_the_same_wherever_they_are_cut(shape: str, dtype: type) -> None:
    rng = np.random.default_rng(0)
    n, k = (4 * LANES[dtype], 40) if shape == "tiles" else (11, 1100)
    a, b = rng.standard_normal((67, k)).astype(dtype), rng.standard_normal((n, k)).astype(dtype)
    whole = np.zeros((67, n), dtype)
    run(blas.NT, a, b, whole, 67, n, k)
    for cut in (16, 24, 35, 48):
        parts = np.zeros((67, n), dtype)
        run(blas.NT, a[:cut], b, parts[:cut], cut, n, k)
        run(blas.NT, a[cut:], b, parts[cut:], 67 - cut, n, k)
        assert np.array_equal(parts, whole), cut


def test_nan_and_infinity_go_where_they_belong() -> None:
    a, b = np.ones((24, 40), np.float32), np.ones((64, 40), np.float32)
    a[3, 5], a[20, 0], b[50, 1] = np.nan, np.inf, -np.inf
    c = np.zeros((24, 64), np.float32)
    run(blas.NT, a, b, c, 24, 64, 40)
    with np.errstate(invalid="ignore"):
        assert np.array_equal(c, a @ b.T, equal_nan=True)


def test_tiles_are_asked_where_vectors_are_filled() -> None:
    fits = select.fits_tiles.py_func
    rows, lanes = register_tiles.ROWS, 16
    assert fits(blas.NT, 32, 128, 64, lanes, True)
    assert fits(blas.TN, 128, 64, 32, lanes, True)
    assert not fits(blas.NT, 1, 128, 64, lanes, True)  # packing would not pay
    assert not fits(blas.NT, rows, 128, 64, lanes, True)
    assert fits(blas.NT, rows, 256, 64, lanes, True)  # but the BLAS is slow there
    assert fits(blas.NT, rows, 128, 2048, lanes, True)
    assert not fits(blas.NN, rows - 1, 128, 64, lanes, True)
    assert not fits(blas.NT, 32, 10, 128, lanes, True)
    assert not fits(blas.NT, 100, 10, 256, lanes, True)
    assert fits(blas.NT, 512, 3, 128, lanes, True)  # the BLAS is slow there
    assert not fits(blas.TN, rows + 2, 256, 256, lanes, True)
    assert fits(blas.TN, rows + 2, 256, 600, lanes, True)
    assert fits(blas.NT, 100, 10, 256, lanes, False)  # and without a quicker way of its own everywhere
    assert fits(blas.TN, rows + 2, 256, 256, lanes, False)


@pytest.fixture
def nothing_remembered():
    """Forget before and after a test from how many rows on they are computed alike."""
    select.batch_invariant_from.cache_clear()
    yield
    select.batch_invariant_from.cache_clear()


@pytest.mark.usefixtures("nothing_remembered")
@pytest.mark.parametrize("quick_way", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_from_some_number_of_rows_on_all_are_computed_alike(monkeypatch, dtype, quick_way) -> None:
    monkeypatch.setattr(select, "has_quick_way", lambda: quick_way)
    monkeypatch.setattr(select, "IN_TILES", True)
    fits, lanes, most = select.fits_tiles.py_func, select.VECTOR_BYTES // np.dtype(dtype).itemsize, 150
    for form, n, k in itertools.product((blas.NT, blas.NN), *[(1, 3, 8, 10, 16, 31, 64, 100, 256, 1023, 1024)] * 2):
        along = form == blas.NT and n <= select.SKINNY and k >= select.LONG
        tiles_take = [(along and m > 1) or fits(form, m, n, k, lanes, quick_way) for m in range(1, most + 1)]
        least = select.batch_invariant_from(form, most, n, k, dtype)
        assert tiles_take == [m >= least for m in range(1, most + 1)]
    select.batch_invariant_from.cache_clear()
    monkeypatch.setattr(select, "IN_TILES", False)
    assert select.batch_invariant_from(blas.NT, most, 256, 256, dtype) == most + 1


def with_blas(asked: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run a program that finds this in ``MLPX_BLAS``."""
    environment = os.environ | {"MLPX_BLAS": asked}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="OpenBLAS has no Haswell kernels elsewhere")
def test_openblas_has_its_quick_way_with_avx_512_alone(monkeypatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    done = with_blas("auto", "from mlpx_kernels.cpu.gemm import select; print(select.has_quick_way())")
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize(("asked", "in_tiles"), [("auto", select.IN_TILES), ("", select.IN_TILES), ("openblas", False)])
def test_a_blas_that_is_asked_for_is_taken(asked: str, in_tiles: bool) -> None:
    done = with_blas(asked, "from mlpx_kernels.cpu.gemm import select; print(select.IN_TILES)")
    assert done.stdout.strip() == str(in_tiles), done.stderr


def test_an_empty_variable_asks_for_no_blas() -> None:
    done = with_blas("", "from mlpx_kernels.cpu.gemm import blas; print(blas.ASKED, blas.LIBRARY)")
    assert done.stdout.split() == ["auto", blas.LIBRARY], done.stderr


@pytest.mark.skipif(blas._mkl() is not None, reason="MKL is installed")
@pytest.mark.parametrize("call", ["mlpx.MLP([3, 4, 2]).predict(x)", "mlpx.ops.dense(x, x, None)"])
def test_a_blas_that_cannot_be_had_is_an_error(call: str) -> None:
    """Not a reason to run the references without a word."""
    done = with_blas("mkl", f"import mlpx, numpy\nx = numpy.ones((2, 3))\n{call}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "mlpx_kernels.BadSetting: MLPX_BLAS is mkl, but MKL is not installed"
    )


@pytest.mark.skipif(not select.IN_TILES, reason="products go to a BLAS here")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("m", "n", "k"), [(67, 130, 40), (16, 32, 16), (200, 48, 33)])
def test_products_shared_among_threads(m: int, n: int, k: int, dtype: type, monkeypatch) -> None:
    monkeypatch.setattr(dense, "WORTH_SHARING", 1)
    monkeypatch.setattr(parallel_rows, "WORTH_A_THREAD", 64)
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    exact, size = a.astype(np.float64) @ b, np.abs(a).astype(np.float64) @ np.abs(b)
    done = 0
    for form, x, y in ((blas.NN, a, b), (blas.TN, a.T.copy(), b)):
        results = []
        for n_threads in (1, 2, 3):
            with using_threads(n_threads):
                results.append(dense.shared_product(form, x, y))
        if results[0] is not None:
            done += 1
            assert np.all(np.abs(results[0] - exact) <= 4 * np.finfo(dtype).eps * size)
            assert all(np.array_equal(results[0], other) for other in results[1:])
    assert done


@pytest.mark.skipif(not select.IN_TILES, reason="products go to a BLAS here")
def test_products_that_two_threads_are_worth_are_shared(monkeypatch) -> None:
    works = []

    def recorded(function, rows: int, work: int) -> None:
        works.append(work)
        function(0, rows)

    monkeypatch.setattr(dense, "share_rows", recorded)
    half, whole = np.ones((256, 256), np.float32), np.ones((512, 256), np.float32)
    square = np.ones((256, 256), np.float32)
    assert dense.shared_product(blas.NN, half, square) is None
    assert not works
    assert dense.shared_product(blas.NN, whole, square)[0, 0] == 256
    assert works == [4 * parallel_rows.WORTH_A_THREAD]


@pytest.mark.skipif(not select.IN_TILES, reason="products go to a BLAS here")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["identity", "relu", "gelu"])
@pytest.mark.parametrize(
    ("m", "n", "k"), [(63, 10, 1100), (2, 3, 1024), (331, 96, 300), (1000, 64, 256), (64, 16, 2000)]
)
def test_layers_by_the_plans_piece(m: int, n: int, k: int, activation: str, dtype: str, monkeypatch) -> None:
    """Its rows are shared in compiled code, and cut where it changes no bit."""
    monkeypatch.setattr(parallel_rows, "WORTH_A_HELPER", 64)
    runs, share = [], parallel_rows.share_piece

    def recorded(*args: object) -> None:
        runs.append(args)
        share(*args)

    monkeypatch.setattr(dense, "share_piece", recorded)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((n, k)).astype(dtype)
    for b in (None, rng.standard_normal(n).astype(dtype)):
        results = []
        for n_threads in (1, 2, 3, 8):
            with using_threads(n_threads):
                results.append(dense.dense(x, w, b, activation=activation))
        assert len(runs) == (4 if b is None else 8)
        wanted = ops.dense.reference(np, x, w, b, activation=activation)
        for mine, its in zip(results[0], wanted, strict=True):
            np.testing.assert_allclose(mine, its, rtol=1e-4 if dtype == "float32" else 1e-10, atol=1e-3)
        for other in results[1:]:
            assert all(np.array_equal(mine, its) for mine, its in zip(results[0], other, strict=True))


@pytest.mark.usefixtures("nothing_remembered")
def test_which_layers_the_plans_piece_takes(monkeypatch) -> None:
    def taken(m: int, n: int, k: int, dtype: type = np.float32) -> bool:
        x, w = np.empty((m, k), dtype), np.empty((n, k), dtype)
        return dense.in_tiles(x, w, np.empty(0, dtype))

    monkeypatch.setattr(select, "IN_TILES", True)
    assert taken(1000, 10, 5000)
    assert taken(2, 3, 1024)
    assert taken(256, 256, 256)
    assert not taken(64, 256, 256)
    assert not taken(0, 10, 5000)
    assert not taken(1, 10, 5000)  # a row by itself is summed in another way
    assert not taken(3, 2000, 2000)
    raw = np.zeros(1000 * 5000 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(1000, 5000)
    assert not dense.in_tiles(raw, np.empty((10, 5000), np.float32), np.empty(0, np.float32))
    monkeypatch.setattr(select, "IN_TILES", False)
    select.batch_invariant_from.cache_clear()
    assert not taken(256, 256, 256)
