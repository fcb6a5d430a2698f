"""Losses against plain loops and PyTorch; what has no weight counts for nothing, whatever it holds."""

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from cases_kit import flags, normal

from mlpx import check_gradients, ops
from mlpx.op import using_fused

N, C = 8, 5
Z, Y = 3.0 * normal("z", N, C), np.arange(N) * 7 % C
P = np.abs(normal("p", N, C)) / np.abs(normal("p", N, C)).sum(axis=1, keepdims=True)
R = np.where(np.arange(N) % 3 == 1, 0.0, 0.5 + np.abs(normal("r", N)))
CLASS_WEIGHT = 0.2 + np.abs(normal("class", C))
MASK = flags("mask", N, C) | np.eye(C, dtype=bool)[Y]
ELEMENTWISE = ["squared_error", "absolute_error", "huber", "quantile", "poisson", "gamma", "hinge", "sigmoid_focal"]


@pytest.fixture(autouse=True, params=["off", "auto"], ids=["reference", "fused"])
def _both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    with using_fused(request.param):
        yield


# --- softmax cross-entropy --------------------------------------------------------------------------------------------


def plain(z: Any, target: Any, r: Any = None, cw: Any = None, mask: Any = None, *, s: float = 0.0) -> tuple[float, Any]:
    """The definition of `softmax_cross_entropy`, one number at a time; also its gradient."""
    n, c = z.shape
    total, loss, dz = 0.0, 0.0, np.zeros((n, c))
    q_all = []
    for i in range(n):
        allowed = [k for k in range(c) if mask is None or mask[i, k]]
        row_weight = 0.0 if not allowed else 1.0 if r is None else float(r[i])
        t = [float(target[i] == k) if target.ndim == 1 else float(target[i, k]) for k in range(c)]
        q = [(1 - s) * t[k] + (s / len(allowed) if k in allowed else 0.0) for k in range(c)]
        q_all.append((row_weight, allowed, [q[k] * (1.0 if cw is None else float(cw[k])) for k in range(c)]))
        total += row_weight * (1.0 if cw is None else sum(float(cw[k]) * t[k] for k in range(c)))
    for i, (row_weight, allowed, q) in enumerate(q_all):
        if row_weight == 0.0 or total == 0.0:
            continue
        top = max(float(z[i, k]) for k in allowed)
        partition = sum(math.exp(float(z[i, k]) - top) for k in allowed)
        for k in allowed:
            log_p = float(z[i, k]) - top - math.log(partition)
            loss -= row_weight * q[k] * log_p / total if q[k] else 0.0
            dz[i, k] = row_weight * (math.exp(log_p) * sum(q) - q[k]) / total
    return loss, dz


@pytest.mark.parametrize("dense", [False, True], ids=["labels", "dense"])
@pytest.mark.parametrize("use", list(product((False, True), repeat=3)), ids=str)
@pytest.mark.parametrize("s", [0.0, 0.1, 1.0])
def test_softmax_cross_entropy_equals_loops(dense: bool, use: tuple[bool, bool, bool], s: float) -> None:
    r, cw, mask = (value if wanted else None for value, wanted in zip((R, CLASS_WEIGHT, MASK), use, strict=True))
    target = Y if not dense else P if mask is None else np.where(mask, P, 0.0)
    loss, dz = ops.softmax_cross_entropy(Z, target, r, cw, mask, label_smoothing=s)
    expected, expected_dz = plain(Z, target, r, cw, mask, s=s)
    assert loss.shape == ()
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    np.testing.assert_allclose(dz, expected_dz, rtol=1e-11, atol=1e-15)
    check_gradients(ops.softmax_cross_entropy, Z, target, r, cw, mask, label_smoothing=s, directions=3)


@pytest.mark.parametrize("dense", [False, True], ids=["labels", "dense"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("s", [0.0, 0.1])
def test_torch_agrees_on_softmax_cross_entropy(dense: bool, weighted: bool, s: float) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    z = torch.tensor(Z, requires_grad=True)
    cw = torch.tensor(CLASS_WEIGHT) if weighted else None
    target = torch.tensor(P if dense else Y)
    expected = torch.nn.functional.cross_entropy(z, target, weight=cw, label_smoothing=s, reduction="none").sum()
    # PyTorch divides class numbers by the weights of the targets, probabilities by the rows; here both by the former.
    t = P if dense else np.eye(C)[Y]
    total = float((t * (CLASS_WEIGHT if weighted else 1.0)).sum())
    (expected / total).backward()
    expected = expected.detach()
    loss, dz = ops.softmax_cross_entropy(
        Z, P if dense else Y, None, CLASS_WEIGHT if weighted else None, label_smoothing=s
    )
    np.testing.assert_allclose(loss, float(expected) / total, rtol=1e-12)
    np.testing.assert_allclose(dz, z.grad.numpy(), rtol=1e-10, atol=1e-15)
    if not dense:
        mean = torch.nn.functional.cross_entropy(torch.tensor(Z), target, weight=cw, label_smoothing=s)
        np.testing.assert_allclose(loss, mean.item(), rtol=1e-12)


def test_delta_is_y_minus_t() -> None:
    _, dz = ops.softmax_cross_entropy(Z, Y)
    np.testing.assert_allclose(dz * N, ops.softmax(Z) - np.eye(C)[Y], rtol=1e-12, atol=1e-15)


def test_labels_and_one_hot_rows_are_the_same() -> None:
    for one, other in zip(ops.softmax_cross_entropy(Z, Y), ops.softmax_cross_entropy(Z, np.eye(C)[Y]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14, atol=1e-16)
    for kind in ("int8", "int32", "uint8", "uint64"):
        np.testing.assert_allclose(ops.softmax_cross_entropy(Z, Y.astype(kind))[1], ops.softmax_cross_entropy(Z, Y)[1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exact_at_ten_thousand(dtype: str) -> None:
    z = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], dtype=dtype)
    loss, dz = ops.softmax_cross_entropy(z, np.array([0, 0]))
    np.testing.assert_allclose(loss, 1e4, rtol=1e-6)  # (0 + 2e4) / 2
    np.testing.assert_allclose(dz, [[0, 0, 0], [-0.5, 0.5, 0]], atol=1e-7)
    loss, _ = ops.softmax_cross_entropy(np.full((2, 3), 1e4, dtype=dtype), np.array([0, 2]))
    np.testing.assert_allclose(loss, math.log(3.0), rtol=1e-6)


@pytest.mark.parametrize("hidden", [np.nan, np.inf, -np.inf, 1e300])
def test_forbidden_classes_have_no_say(hidden: float) -> None:
    z = np.where(MASK, Z, hidden)
    for s in (0.0, 0.3):
        loss, dz = ops.softmax_cross_entropy(z, Y, None, None, MASK, label_smoothing=s)
        expected, expected_dz = plain(Z, Y, mask=MASK, s=s)
        np.testing.assert_allclose(loss, expected, rtol=1e-12)
        np.testing.assert_allclose(dz, expected_dz, rtol=1e-11, atol=1e-15)
        assert (dz[~MASK] == 0).all()


def test_row_that_allows_nothing_has_no_weight() -> None:
    mask, z = MASK.copy(), Z.copy()
    mask[2], z[2] = False, np.nan
    rest = np.arange(N) != 2
    loss, dz = ops.softmax_cross_entropy(z, Y, None, None, mask, label_smoothing=0.2)
    expected, expected_dz = ops.softmax_cross_entropy(Z[rest], Y[rest], None, None, mask[rest], label_smoothing=0.2)
    np.testing.assert_allclose(loss, expected, rtol=1e-13)
    np.testing.assert_allclose(dz[rest], expected_dz, rtol=1e-12, atol=1e-16)
    np.testing.assert_array_equal(dz[2], np.zeros(C))


def test_forbidden_target_has_infinite_loss() -> None:
    mask = np.ones((N, C), dtype=bool)
    mask[3, Y[3]] = False
    assert ops.softmax_cross_entropy(Z, Y, None, None, mask)[0] == np.inf


@pytest.mark.parametrize("op", [ops.softmax_cross_entropy, ops.sigmoid_cross_entropy])
def test_no_rows_cost_nothing(op: Any) -> None:
    for shape in ((0, C), (2, 0, C)):
        loss, dz = op(np.zeros(shape), np.zeros(shape))
        assert loss == 0.0
        assert dz.shape == shape


# --- sigmoid cross-entropy --------------------------------------------------------------------------------------------

T = np.where(flags("hard", N, C), normal("t", N, C) > 0, 1 / (1 + np.exp(-normal("t", N, C))))


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
