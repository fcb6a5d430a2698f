"""The layouts of the cuBLASLt products against NumPy, by an emulation of cuBLASLt's column-major matrices."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from standin import StandInError, installed
from standin.cublaslt_arithmetic import rounded_to_tf32
from standin.install import to_device

from mlpx import ops
from mlpx_kernels import Unsupported
from mlpx_kernels.cuda.gemm.cublaslt import LtProducts, aux_layout

SHAPES = [(1, 1, 1), (7, 2, 5), (37, 11, 20), (20, 130, 129), (64, 64, 64)]
"""Rows, inputs, outputs."""
KINDS = ["relu", "gelu_tanh"]


@pytest.fixture
def device() -> Iterator[Any]:
    with installed(nvmath=True) as device:
        yield device


def normal(label: int, *shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng([label, *shape]).standard_normal(shape).astype(dtype)


def empty(*shape: int, dtype: Any = np.float32) -> Any:
    import cupy

    return cupy.empty(shape, dtype)


def check(result: Any, expected: Any) -> None:
    np.testing.assert_allclose(result.get(), expected, rtol=2e-5, atol=2e-5 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize(("rows", "n_in", "n_out"), SHAPES)
def test_plain_products(device: Any, rows: int, n_in: int, n_out: int) -> None:
    x, w, d = normal(1, rows, n_in), normal(2, n_out, n_in), normal(3, rows, n_out)
    there = [to_device(a) for a in (x, w, d)]
    y, dx, dw = empty(rows, n_out), empty(rows, n_in), empty(n_out, n_in)
    products = LtProducts()
    products.forward(there[0], there[1], y)()
    products.input_grad(there[2], there[1], dx)()
    products.weight_grad(there[2], there[0], dw)()
    check(y, x @ w.T)
    check(dx, d @ w)
    check(dw, d.T @ x)
    assert device.counters.products == 3
    assert device.counters.others == 0


@pytest.mark.parametrize("kind", ["identity", *KINDS])
@pytest.mark.parametrize(("rows", "n_in", "n_out"), SHAPES)
def test_forward_takes_bias_and_activation_along(device: Any, rows: int, n_in: int, n_out: int, kind: str) -> None:
    x, w, b = normal(1, rows, n_in), normal(2, n_out, n_in), normal(3, n_out)
    y = empty(rows, n_out)
    LtProducts().forward(to_device(x), to_device(w), y, bias=to_device(b), kind=kind)()
    check(y, ops.activation(x @ w.T + b, kind=kind)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "n_in", "n_out"), SHAPES)
def test_backward_undoes_the_activation_below_and_sums_its_bias_gradient(
    device: Any, rows: int, n_in: int, n_out: int, kind: str
) -> None:
    """Of two layers: what the first keeps is what the second's input gradient needs."""
    n_below = 9
    x, below, b = normal(1, rows, n_below), normal(2, n_in, n_below), normal(3, n_in)
    w, d = normal(4, n_out, n_in), normal(5, rows, n_out)
    y, dx, db = empty(rows, n_in), empty(rows, n_in), empty(n_in)
    aux = empty(aux_layout(kind, rows, n_in)[1], dtype=np.uint8)
    products = LtProducts()
    products.forward(to_device(x), to_device(below), y, bias=to_device(b), kind=kind, aux=aux)()
    products.input_grad(to_device(d), to_device(w), dx, kind=kind, aux=aux, bias_grad=db)()
    z = x @ below.T + b
    activated, saved = ops.activation(z, kind=kind)
    expected = ops.activation_grad(d @ w, saved, kind=kind)
    check(y, activated)
    check(dx, expected)
    check(db, expected.sum(axis=0))


@pytest.mark.parametrize(("rows", "n_in", "n_out"), SHAPES)
def test_weight_gradient_takes_the_bias_gradient_along(device: Any, rows: int, n_in: int, n_out: int) -> None:
    x, d = normal(1, rows, n_in), normal(3, rows, n_out)
    dw, db = empty(n_out, n_in), empty(n_out)
    LtProducts().weight_grad(to_device(d), to_device(x), dw, bias_grad=db)()
    check(dw, d.T @ x)
    check(db, d.sum(axis=0))


def test_three_layers_forward_and_backward_are_eight_launches(device: Any) -> None:
    widths, rows = (11, 20, 130, 5), 37
    x, d = normal(0, rows, 11), normal(9, rows, 5)
    weights = [normal(i + 1, o, i_) for i, (i_, o) in enumerate(pairwise(widths))]
    biases = [normal(i + 5, o) for i, o in enumerate(widths[1:])]
    ws, bs = [to_device(w) for w in weights], [to_device(b) for b in biases]
    ys = [to_device(x), *(empty(rows, o) for o in widths[1:])]
    auxes = [empty(aux_layout("relu", rows, o)[1], dtype=np.uint8) for o in widths[1:3]]
    ds = [*(empty(rows, o) for o in widths[1:3]), to_device(d)]
    dws, dbs = [empty(*w.shape) for w in weights], [empty(o) for o in widths[1:]]
    products = LtProducts()
    launches = [
        products.forward(ys[0], ws[0], ys[1], bias=bs[0], kind="relu", aux=auxes[0]),
        products.forward(ys[1], ws[1], ys[2], bias=bs[1], kind="relu", aux=auxes[1]),
        products.forward(ys[2], ws[2], ys[3], bias=bs[2]),
        products.weight_grad(ds[2], ys[2], dws[2], bias_grad=dbs[2]),
        products.input_grad(ds[2], ws[2], ds[1], kind="relu", aux=auxes[1], bias_grad=dbs[1]),
        products.weight_grad(ds[1], ys[1], dws[1]),
        products.input_grad(ds[1], ws[1], ds[0], kind="relu", aux=auxes[0], bias_grad=dbs[0]),
        products.weight_grad(ds[0], ys[0], dws[0]),
    ]
    before = device.counters.copy()
    for launch in launches:
        launch()
    used = device.counters - before
    assert (used.launches, used.products) == (8, 8)
    gradient, outputs = d, [x]
    for w, b in zip(weights, biases, strict=True):
        z = outputs[-1] @ w.T + b
        outputs.append(np.maximum(z, 0) if w is not weights[-1] else z)
    check(ys[3], outputs[3])
    for i in (2, 1, 0):
        check(dws[i], gradient.T @ outputs[i])
        check(dbs[i], gradient.sum(axis=0))
        if i:
            gradient = gradient @ weights[i] * (outputs[i] > 0)


def test_captured_products_are_replayed(device: Any) -> None:
    import cupy

    x, w = normal(1, 4, 3), normal(2, 5, 3)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        there, y, weights = to_device(x), empty(4, 5), to_device(w)
        products = LtProducts()
        launch = products.forward(there, weights, y)
        launch()
        stream.begin_capture()
        launch()
        graph = stream.end_capture()
        there *= 2.0
        graph.launch()
        check(y, 2 * x @ w.T)


def test_tf32_rounds_operands_to_ten_bits(device: Any) -> None:
    x, w, y = normal(1, 20, 64), normal(2, 5, 64), empty(20, 5)
    LtProducts(tf32=True).forward(to_device(x), to_device(w), y)()
    error = np.abs(y.get() - x.astype(np.float64) @ w.T.astype(np.float64)).max()
    assert 1e-5 < error < 64**0.5 * 2**-10 * 4
    assert rounded_to_tf32(np.array([1 + 2**-11, 1 + 2**-12], np.float32)).tolist() == [1 + 2**-10, 1.0]


def test_float64_has_products_but_no_epilogues(device: Any) -> None:
    x, w, b = normal(1, 4, 3, dtype=float), normal(2, 5, 3, dtype=float), normal(3, 5, dtype=float)
    y = empty(4, 5, dtype=float)
    LtProducts().forward(to_device(x), to_device(w), y)()
    np.testing.assert_allclose(y.get(), x @ w.T)
    with pytest.raises(Unsupported, match="NOT_SUPPORTED"):
        LtProducts().forward(to_device(x), to_device(w), y, bias=to_device(b))


def test_without_nvmath_the_reason_is_given() -> None:
    with installed(), pytest.raises(Unsupported, match="nvmath"):
        LtProducts()


def test_the_emulation_sees_wrong_layouts(device: Any) -> None:
    """What a wrong leading dimension or a small array would do on a GPU without a word."""
    x, w, y = to_device(normal(1, 4, 3)), to_device(normal(2, 5, 3)), empty(4, 5)
    with pytest.raises(Exception, match="INVALID_VALUE"):
        LtProducts().forward(x, w, empty(4, 6))
    launch = LtProducts().weight_grad(empty(4, 5), x, empty(5, 3), bias_grad=empty(4))
    with pytest.raises(StandInError, match="the bias reaches outside"):
        launch()
    small = empty(1, dtype=np.uint8)
    launch = LtProducts().forward(x, w, y, bias=empty(5), kind="relu", aux=small)
    with pytest.raises(StandInError, match="auxiliary"):
        launch()
