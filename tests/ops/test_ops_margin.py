"""The focal loss of a softmax: against its formula by PyTorch's gradients, against cross-entropy, and at its limits."""

import numpy as np
import pytest
from cases_kit import flags, normal

from mlpx import check_gradients, ops

N, C = 8, 5
Z, Y = 3.0 * normal("z", N, C), np.arange(N) * 7 % C
P = np.abs(normal("p", N, C)) / np.abs(normal("p", N, C)).sum(axis=1, keepdims=True)
R = np.where(np.arange(N) % 3 == 1, 0.0, 0.5 + np.abs(normal("r", N)))
MASK = flags("mask", N, C) | np.eye(C, dtype=bool)[Y]


@pytest.mark.parametrize("dense", [False, True], ids=["labels", "dense"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("focus", [0.0, 0.5, 1.0, 2.0])
def test_softmax_focal_is_its_formula(dense: bool, weighted: bool, masked: bool, focus: float) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    r, mask = R if weighted else None, MASK if masked else None
    target = np.where(MASK, P, 0.0) if dense else Y
    z, allowed = torch.tensor(Z, requires_grad=True), torch.tensor(MASK if masked else np.ones_like(MASK))
    log_p = torch.log_softmax(torch.where(allowed, z, -1e300), dim=1)
    t = torch.tensor(target if dense else np.eye(C)[Y])
    each = -(t * (1 - log_p.exp()) ** focus * torch.where(t > 0, log_p, 0.0)).sum(dim=1)
    weight = torch.tensor(np.ones(N) if r is None else r)
    expected = (each * weight).sum() / weight.sum()
    expected.backward()
    loss, dz = ops.softmax_focal(Z, target, r, mask, focus=focus)
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-12)
    np.testing.assert_allclose(dz, z.grad.numpy(), rtol=1e-9, atol=1e-14)
    check_gradients(ops.softmax_focal, Z, target, r, mask, focus=focus, directions=3)


@pytest.mark.parametrize("target", [Y, P], ids=["labels", "dense"])
def test_without_focus_it_is_cross_entropy(target: np.ndarray) -> None:
    for one, other in (
        (ops.softmax_focal(Z, target, R, MASK | (P > 0), focus=0.0), ops.softmax_cross_entropy(Z, target, R)),
        (ops.sigmoid_focal(Z, P, R, focus=0.0), ops.sigmoid_cross_entropy(Z, P, R)),
    ):
        np.testing.assert_allclose(one[0], other[0], rtol=1e-12)
        np.testing.assert_allclose(one[1], other[1], rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("focus", [0.0, 0.3, 1.0, 2.0])
def test_limits(focus: float) -> None:
    """A row that is certainly right costs nothing; one that is certainly wrong costs its logit's distance."""
    z = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    loss, dz = ops.softmax_focal(z, np.array([0, 0]), focus=focus)
    np.testing.assert_allclose(loss, 1e4, rtol=1e-12)
    np.testing.assert_allclose(dz, [[0, 0, 0], [-0.5, 0.5, 0]], atol=1e-15)
    loss, dz = ops.sigmoid_focal(np.array([[1e4, -1e4, -1e4]]), np.array([[1.0, 0.0, 1.0]]), focus=focus)
    np.testing.assert_allclose(loss, 1e4, rtol=1e-12)
    np.testing.assert_allclose(dz, [[0, 0, -1]], atol=1e-15)


def test_rows_that_allow_nothing_have_no_weight() -> None:
    mask, z = MASK.copy(), Z.copy()
    mask[2], z[2] = False, np.nan
    rest = np.arange(N) != 2
    loss, dz = ops.softmax_focal(z, Y, None, mask)
    expected, expected_dz = ops.softmax_focal(Z[rest], Y[rest], None, mask[rest])
    np.testing.assert_allclose(loss, expected, rtol=1e-13)
    np.testing.assert_allclose(dz[rest], expected_dz, rtol=1e-12, atol=1e-16)
    np.testing.assert_array_equal(dz[2], np.zeros(C))
    mask[3, Y[3]] = False
    assert ops.softmax_focal(Z, Y, None, mask)[0] == np.inf


def test_certain_rows_matter_less() -> None:
    """What the loss is for: the gradient of a row at p = 0.9 against one at p = 0.1, beside cross-entropy's."""
    z = np.array([[np.log(9.0), 0.0], [-np.log(9.0), 0.0]])
    focal, plain = (
        np.abs(loss(z, np.array([0, 0]))[1]).sum(axis=1) for loss in (ops.softmax_focal, ops.softmax_cross_entropy)
    )
    assert focal[0] / focal[1] < 0.1 * plain[0] / plain[1]
