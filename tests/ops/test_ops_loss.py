"""Losses of single outputs against plain loops and PyTorch; in all losses what has no weight counts for nothing."""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from cases_kit import normal
from loss_kit import CLASS_WEIGHT, ELEMENTWISE, MASK, C, N, R, T, Y, Z

from mlpx import check_gradients, ops
from mlpx.ops.dispatch import using_fused

pytestmark = pytest.mark.usefixtures("both_ways")


# --- sigmoid cross-entropy --------------------------------------------------------------------------------------------


def plain_sigmoid(r: Any, pw: Any, mask: Any, s: float) -> tuple[float, Any]:
    loss, dz, total = 0.0, np.zeros((N, C)), float(N if r is None else r.sum())
    for i, k in product(range(N), range(C)):
        if mask is None or mask[i, k]:
            y, t = 1.0 / (1.0 + math.exp(-Z[i, k])), (1 - s) * T[i, k] + s / 2
            w, share = 1.0 if pw is None else pw[k], (1.0 if r is None else r[i]) / total
            loss -= share * (w * t * math.log(y) + (1 - t) * math.log(1 - y))
            dz[i, k] = share * (y * (w * t + 1 - t) - w * t)
    return loss, dz


@pytest.mark.parametrize("use", list(product((False, True), repeat=3)), ids=str)
@pytest.mark.parametrize("s", [0.0, 0.1, 1.0])
def test_sigmoid_cross_entropy_equals_loops(use: tuple[bool, bool, bool], s: float) -> None:
    r, pw, mask = (value if wanted else None for value, wanted in zip((R, CLASS_WEIGHT, MASK), use, strict=True))
    loss, dz = ops.sigmoid_cross_entropy(Z, T, r, pw, mask, label_smoothing=s)
    expected, expected_dz = plain_sigmoid(r, pw, mask, s)
    np.testing.assert_allclose(loss, expected, rtol=1e-11)
    np.testing.assert_allclose(dz, expected_dz, rtol=1e-11, atol=1e-15)
    check_gradients(ops.sigmoid_cross_entropy, Z, T, r, pw, mask, label_smoothing=s, directions=3)


def test_torch_agrees_on_sigmoid_cross_entropy() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    z = torch.tensor(Z, requires_grad=True)
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        z, torch.tensor(T), pos_weight=torch.tensor(CLASS_WEIGHT), reduction="none"
    )
    expected = (each.sum(dim=1) * torch.tensor(R)).sum() / R.sum()
    expected.backward()
    expected = expected.detach()
    loss, dz = ops.sigmoid_cross_entropy(Z, T, R, CLASS_WEIGHT)
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-12)
    np.testing.assert_allclose(dz, z.grad.numpy(), rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigmoid_cross_entropy_is_finite_at_ten_thousand(dtype: str) -> None:
    z = np.array([[1e4, -1e4, 1e4, -1e4]], dtype=dtype)
    loss, dz = ops.sigmoid_cross_entropy(z, np.array([[1, 0, 0, 1]], dtype=dtype))
    np.testing.assert_allclose(loss, 2e4, rtol=1e-6)
    np.testing.assert_array_equal(dz, [[0, 0, 1, -1]])
    # An infinite logit on the right side is no loss at all; on the wrong side it is an infinite one.
    right = np.array([[np.inf, -np.inf]], dtype=dtype)
    assert ops.sigmoid_cross_entropy(right, np.array([[1, 0]], dtype=dtype))[0] == 0.0
    assert ops.sigmoid_cross_entropy(right, np.array([[0, 1]], dtype=dtype))[0] == np.inf


# --- losses of single outputs -----------------------------------------------------------------------------------------


def pinball(q: float) -> Callable[[float, float], float]:
    return lambda y, t: q * (t - y) if t >= y else (1 - q) * (y - t)


def huber(delta: float) -> Callable[[float, float], float]:
    return lambda y, t: (y - t) ** 2 / 2 if abs(y - t) <= delta else delta * (abs(y - t) - delta / 2)


def focal(focus: float) -> Callable[[float, float], float]:
    def each(z: float, t: float) -> float:
        p = 1.0 / (1.0 + math.exp(-z))
        return -t * (1 - p) ** focus * math.log(p) - (1 - t) * p**focus * math.log(1 - p)

    return each


FORMULAS: list[tuple[str, dict[str, Any], Callable[[float, float], float]]] = [
    ("squared_error", {}, lambda y, t: (y - t) ** 2 / 2),
    ("absolute_error", {}, lambda y, t: abs(y - t)),
    ("huber", {}, huber(1.0)),
    ("huber", {"delta": 0.4}, huber(0.4)),
    ("quantile", {}, pinball(0.5)),
    ("quantile", {"q": (0.9,)}, pinball(0.9)),
    ("poisson", {}, lambda y, t: math.exp(y) - t * y),
    ("gamma", {}, lambda y, t: y + t * math.exp(-y)),
    ("hinge", {}, lambda y, t: max(0.0, 1.0 - (2 * t - 1) * y)),
    ("sigmoid_focal", {}, focal(2.0)),
    ("sigmoid_focal", {"focus": 0.5}, focal(0.5)),
]


@pytest.mark.parametrize(("name", "params", "formula"), FORMULAS, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_loss_equals_its_formula(name: str, params: Any, formula: Any, weighted: bool, masked: bool) -> None:
    y, t = normal("y", N, C), np.abs(normal("t", N, C))
    r, mask = R if weighted else None, MASK if masked else None
    expected = sum(
        (1.0 if r is None else r[i]) * formula(y[i, k], t[i, k])
        for i, k in product(range(N), range(C))
        if mask is None or mask[i, k]
    ) / (N if r is None else r.sum())
    loss, dy = ops.ALL[name](y, t, r, mask, **params)
    assert loss.shape == ()
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    if mask is not None:
        assert (dy[~mask] == 0).all()
    check_gradients(ops.ALL[name], y, t, r, mask, directions=3, **params)


def test_a_level_for_every_output() -> None:
    y, t = normal("y", N, 3), normal("t", N, 3)
    loss, dy = ops.quantile(y, t, q=(0.1, 0.5, 0.9))
    each = [ops.quantile(y[:, k : k + 1], t[:, k : k + 1], q=(q,)) for k, q in enumerate((0.1, 0.5, 0.9))]
    np.testing.assert_allclose(loss, sum(part[0] for part in each), rtol=1e-13)
    np.testing.assert_allclose(dy, np.concatenate([part[1] for part in each], axis=1), rtol=1e-13)


def test_equal_is_no_loss_and_no_gradient() -> None:
    t = normal("t", N, C)
    for name in ("squared_error", "absolute_error", "huber", "quantile"):
        loss, dy = ops.ALL[name](t, t)
        assert loss == 0.0, name
        np.testing.assert_array_equal(dy, np.zeros((N, C)), err_msg=name)


# --- weights: the same for every loss ---------------------------------------------------------------------------------


def call(name: str, y: Any, r: Any) -> tuple[Any, Any]:
    return ops.ALL[name](y, Y if name.startswith("softmax") else T, r)


EVERY = [*ELEMENTWISE, "sigmoid_cross_entropy", "softmax_cross_entropy", "softmax_focal"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", EVERY)
def test_row_of_weight_zero_counts_for_nothing(name: str, bad: float) -> None:
    y, counts = Z.copy(), R > 0
    y[~counts] = bad
    loss, dy = call(name, y, R)
    expected, expected_dy = call(name, np.where(counts[:, None], Z, 0.0), R)
    assert np.isfinite(loss)
    np.testing.assert_array_equal(loss, expected)
    np.testing.assert_array_equal(dy, expected_dy)
    np.testing.assert_array_equal(dy[~counts], np.zeros((int((~counts).sum()), C)))


@pytest.mark.parametrize("name", EVERY)
def test_no_weight_at_all_is_no_loss(name: str) -> None:
    loss, dy = call(name, np.full((N, C), np.nan), np.zeros(N))
    assert loss == 0.0
    np.testing.assert_array_equal(dy, np.zeros((N, C)))


@pytest.mark.parametrize("name", EVERY)
def test_nan_in_a_row_that_counts_is_seen(name: str) -> None:
    y = Z.copy()
    y[4, 2] = np.nan
    loss, dy = call(name, y, None)
    assert np.isnan(loss)
    assert np.isnan(dy[4, 2])


@pytest.mark.parametrize("name", EVERY)
def test_weight_two_is_the_row_twice(name: str) -> None:
    twice = np.ones(N)
    twice[3] = 2.0
    loss, dy = call(name, Z, twice)
    rows = np.r_[np.arange(N), 3]
    target = (Y if name.startswith("softmax") else T)[rows]
    expected, expected_dy = ops.ALL[name](Z[rows], target)
    np.testing.assert_allclose(loss, expected, rtol=1e-13)
    np.testing.assert_allclose(dy[3], 2 * expected_dy[3], rtol=1e-12, atol=1e-16)
    scaled, _ = call(name, Z, 10.0 * twice)
    np.testing.assert_allclose(scaled, loss, rtol=1e-13)


@pytest.mark.parametrize("name", EVERY)
def test_leading_axes_are_rows(name: str) -> None:
    target = Y if name.startswith("softmax") else T
    loss, dy = ops.ALL[name](Z.reshape(2, 4, C), target.reshape(2, 4, *target.shape[1:]), R.reshape(2, 4))
    expected, expected_dy = ops.ALL[name](Z, target, R)
    np.testing.assert_allclose(loss, expected, rtol=1e-14)
    np.testing.assert_allclose(dy.reshape(N, C), expected_dy, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["softmax_cross_entropy", "softmax_focal", "squared_error", "hinge"])
def test_weights_whose_sum_overflows_are_shares_all_the_same(name, dtype) -> None:
    op, r = getattr(ops, name), np.random.default_rng(0)
    z, w = r.standard_normal((40, 3)).astype(dtype), r.random(40).astype(dtype)
    t = np.eye(3, dtype=dtype)[r.integers(0, 3, 40)]
    large = np.finfo(dtype).max / 2
    for given, column in ((w * large, None), (w, np.full(3, large / 4, dtype))):
        if column is not None and name != "softmax_cross_entropy":
            continue
        options = {} if column is None else {"class_weight": column}
        ones = {} if column is None else {"class_weight": np.ones(3, dtype)}
        with using_fused("off"):
            found, expected = op(z, t, given, **options), op(z, t, w, **ones)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "squared_error"])
def test_a_loss_beyond_float32_is_infinite_without_a_warning(both_ways, name) -> None:
    z, t = np.full((3, 2), 3e38, "f"), np.eye(2, dtype="f")[[0, 1, 0]]
    z[:, 1] = -3e38
    with np.errstate(all="raise"):
        assert getattr(ops, name)(z, t)[0] == np.inf
