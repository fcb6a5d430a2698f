"""Rows wider than the cases of the ops: every way to hold a row in registers, rows too long to be held, and what is
read and written of them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from compare import check_close, exact_result
from cuda_instances import build, groups
from emulator import Module, no_compiler, using
from standin.install import to_device

import mlpx
from mlpx import ops
from mlpx.ops.dispatch import using_fused
from mlpx_kernels.cuda.runtime.arrays import group_rows, held_rows
from mlpx_kernels.cuda.runtime.compile import source

pytestmark = pytest.mark.skipif(no_compiler() is not None, reason=no_compiler() or "")
WIDTHS = (32, 33, 256, 257, 2048, 2050, 4097, 8192, 8195)
ROWS = 3


@pytest.fixture
def cupy(cupy_standin: Any) -> Iterator[Any]:
    import cupy

    build()
    with mlpx.using_backend("cupy"), using_fused("require"):
        yield cupy


def check(name: str, *args: Any, **params: Any) -> None:
    """Raise unless the kernel equals the reference."""
    op = ops.ALL[name]
    result = op(*map(to_device, args), **params)
    result = tuple(part.get() for part in result) if isinstance(result, tuple) else result.get()
    with np.errstate(all="ignore"):
        reference, true = op.reference(np, *args, **params), exact_result(op.reference, args, params)
    check_close(f"{name} {args[0].shape}", result, reference, true, args[0].size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", WIDTHS)
def test_softmax(cupy: Any, width: int, dtype: str) -> None:
    rng = np.random.default_rng(width)
    x, dy = (3 * rng.standard_normal((ROWS, width)).astype(dtype) for _ in range(2))
    mask = rng.random((ROWS, width)) < 0.5
    mask[1] = False
    check("softmax", x)
    check("log_softmax", x)
    check("masked_softmax", np.where(mask, x, np.nan), mask)
    for name, y in (("softmax_grad", np.exp(x - 30)), ("log_softmax_grad", x - 30)):
        check(name, dy, y)
    check("masked_softmax_grad", np.where(mask, dy, np.nan), np.exp(x - 30) * mask, mask)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", WIDTHS)
def test_cross_entropy(cupy: Any, width: int, dtype: str) -> None:
    rng = np.random.default_rng(width)
    z = (3 * rng.standard_normal((ROWS, width))).astype(dtype)
    labels, mask = rng.integers(0, width, ROWS), rng.random((ROWS, width)) < 0.5
    mask[np.arange(ROWS), labels] = True
    dense = np.where(mask, rng.random((ROWS, width)), 0).astype(dtype)
    r, w = rng.random(ROWS).astype(dtype), rng.random(width).astype(dtype)
    check("softmax_cross_entropy", z, labels)
    check("softmax_cross_entropy", z, labels, r, w, mask, label_smoothing=0.1)
    check("softmax_cross_entropy", z, dense, r, None, mask)
    check("softmax_focal", z, labels, r, focus=1.5)
    check("softmax_focal", z, dense, None, mask)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", WIDTHS)
def test_layer_norm(cupy: Any, width: int, dtype: str) -> None:
    rng = np.random.default_rng(width)
    x, dy = (rng.standard_normal((ROWS, width)).astype(dtype) for _ in range(2))
    gamma, beta = (rng.standard_normal(width).astype(dtype) for _ in range(2))
    check("layer_norm", x, gamma, beta, eps=1e-5)
    mean, var = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
    check("layer_norm_grad", dy, x, gamma, mean, var, eps=1e-5)


@pytest.mark.parametrize("kind", ["relu", "gelu", "identity"])
def test_sums_over_columns_of_arrays_that_start_anywhere(cupy: Any, kind: str) -> None:
    rng = np.random.default_rng(1)
    n, i, o = 300, 5, 264  # columns that would go by vectors, were the array aligned
    dy, saved = (rng.standard_normal(n * o + 1).astype(np.float32) for _ in range(2))
    x, w = rng.standard_normal((n, i)).astype(np.float32), rng.standard_normal((o, i)).astype(np.float32)
    args = (dy[1:].reshape(n, o), x, w, saved[1:].reshape(n, o))
    device = (to_device(dy)[1:].reshape(n, o), *map(to_device, (x, w)), to_device(saved)[1:].reshape(n, o))
    result = ops.dense_grad(*device, activation=kind)
    reference = ops.dense_grad.reference(np, *args, activation=kind)
    true = exact_result(ops.dense_grad.reference, args, {"activation": kind})
    check_close("dense_grad", tuple(part.get() for part in result), reference, true, n)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("width", [40, 8193])
def test_special_numbers_in_wide_rows(cupy: Any, width: int, special: float) -> None:
    x = np.random.default_rng(0).standard_normal((4, width)).astype(np.float32)
    x[0, 7], x[1, :], x[2, [3, 20]] = special, special, (special, 1e4)
    check("softmax", x)
    check("log_softmax", x)
    check("softmax_cross_entropy", x, np.array([7, 0, 3, 1]))


@pytest.mark.parametrize("width", [10, 64, 1000, 8192, 8196])
def test_each_element_is_read_once_and_written_once_in_rows_that_are_held(width: int) -> None:
    held = held_rows(width)
    group = 1024 if held is None else held[0]
    size = np.dtype(np.float32).itemsize * ROWS * width
    x, y = np.zeros((ROWS, width), np.float32), np.empty((ROWS, width), np.float32)
    counts = (np.int64(ROWS), np.int64(width))
    form = "" if held is None else f", {held[1]}"
    suffix = "_long" if held is None else ""
    with using(build="checked"):
        module = Module(source("softmax"), groups("softmax")[1], "kernels")
        threads, at_once = group_rows(group)
        name = f"softmax{suffix}<float, 0, {group}{form}>"
        report = module.function(name)((-(-ROWS // at_once),), (threads,), (x, None, y, *counts))
        assert report is not None
        assert report.written[2] == size
        assert report.read[0] == (size if held else 2 * size)

        module = Module(source("loss"), groups("loss")[1], "kernels")
        labels, loss = np.zeros(ROWS, np.int64), np.empty((), np.float32)
        none, sums = (None,) * 4, (np.empty(8), np.zeros(1, np.uint32))
        smoothing, ceiling = np.float64(0), np.float64(np.inf)
        args = (x, None, labels, *none, smoothing, ceiling, None, y, loss, None, None, *sums, *counts)
        plain = ", true" if held else ""
        name = f"softmax_cross_entropy{suffix}<float, {group}{form}{plain}>"
        report = module.function(name)((-(-ROWS // at_once),), (threads,), args)
        assert report is not None
        assert report.written[10] == size
        assert report.read[0] == (size if held else 2 * size)
