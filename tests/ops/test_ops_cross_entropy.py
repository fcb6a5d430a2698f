"""Softmax cross-entropy against plain loops and PyTorch, at extremes and under masks."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from loss_kit import CLASS_WEIGHT, MASK, C, N, P, R, Y, Z

from mlpx import check_gradients, ops

pytestmark = pytest.mark.usefixtures("both_ways")


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
