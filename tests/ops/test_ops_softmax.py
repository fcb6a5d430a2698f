"""Softmax, its logarithm and its masked form: against SciPy, at extreme logits, and by their properties."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import scipy.special
from cases_kit import flags, normal
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mlpx import check_gradients, ops
from mlpx.ops.dispatch import using_fused

FLOATS = ["float32", "float64"]
LOGITS = npst.arrays("float64", npst.array_shapes(min_dims=2, max_dims=3, max_side=9), elements=st.floats(-300, 300))


@pytest.fixture(autouse=True, params=["off", "auto"], ids=["reference", "fused"])
def _both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    with using_fused(request.param):
        yield


def masked_loops(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The definition, one row at a time, over the allowed entries alone."""
    y = np.zeros(x.shape)
    for row, logits, allowed in zip(y, x, mask, strict=True):
        if allowed.any():
            row[allowed] = scipy.special.softmax(logits[allowed].astype("float64"))
    return y


# --- softmax ----------------------------------------------------------------------------------------------------------


@given(x=LOGITS)
def test_softmax_equals_scipy(x: np.ndarray) -> None:
    np.testing.assert_allclose(ops.softmax(x), scipy.special.softmax(x, axis=-1), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(ops.log_softmax(x), scipy.special.log_softmax(x, axis=-1), rtol=1e-12, atol=1e-12)


@given(x=LOGITS, shift=st.floats(-1e4, 1e4))
def test_rows_sum_to_one_and_shifts_do_nothing(x: np.ndarray, shift: float) -> None:
    y = ops.softmax(x)
    np.testing.assert_allclose(y.sum(axis=-1), 1.0, rtol=1e-13)
    assert (y >= 0).all()
    np.testing.assert_allclose(ops.softmax(x + shift), y, rtol=1e-8, atol=1e-15)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("c", [1, 2, 3, 10, 1000, 100_000])
def test_rows_sum_to_one_for_any_number_of_classes(c: int, dtype: str) -> None:
    for scale in (1.0, 30.0, 1e4):
        x = (scale * normal("x", 3, c)).astype(dtype)
        y = ops.softmax(x)
        assert y.dtype == dtype
        assert np.abs(y.astype("float64").sum(axis=-1) - 1.0).max() < 1e-6
        expected = scipy.special.softmax(x.astype("float64"), axis=-1)
        assert np.abs(y - expected).max() < 100 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", FLOATS)
def test_exact_at_ten_thousand(dtype: str) -> None:
    x = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [1e4, 1e4, -1e4], [1e4, 1e4, 1e4]], dtype=dtype)
    third = 1.0 / 3.0
    expected = np.array([[1, 0, 0], [third, third, third], [0.5, 0.5, 0], [third, third, third]], dtype=dtype)
    np.testing.assert_allclose(ops.softmax(x), expected, rtol=2 * np.finfo(dtype).eps)
    assert np.isfinite(ops.log_softmax(x)).all()
    np.testing.assert_allclose(ops.log_softmax(x)[0], [0.0, -2e4, -1e4], rtol=1e-6)


def test_infinities_and_nan() -> None:
    inf, nan = np.inf, np.nan
    x = np.array([[0, -inf, 0], [-inf, -inf, -inf], [0, inf, 0], [0, nan, 0], [1.0, 1.0, 1.0]])
    y = ops.softmax(x)
    np.testing.assert_array_equal(y[0], [0.5, 0.0, 0.5])
    assert np.isnan(y[1:4]).all()
    np.testing.assert_allclose(y[4], 1 / 3)


@pytest.mark.parametrize("op", [ops.softmax, ops.log_softmax])
def test_gradient_near_and_far(op: Callable[..., np.ndarray]) -> None:
    for scale in (0.1, 1.0, 10.0):
        check_gradients(op, scale * normal("x", 5, 7))


def test_gradient_is_the_jacobian_of_the_textbook() -> None:
    x, dy = normal("x", 4, 5), normal("dy", 4, 5)
    y = scipy.special.softmax(x, axis=-1)
    jacobians = [np.diag(p) - np.outer(p, p) for p in y]
    expected = [j @ d for j, d in zip(jacobians, dy, strict=True)]
    np.testing.assert_allclose(ops.softmax_grad(dy, y), expected, rtol=1e-12, atol=1e-15)
    expected = [d - p * d.sum() for p, d in zip(y, dy, strict=True)]
    np.testing.assert_allclose(ops.log_softmax_grad(dy, np.log(y)), expected, rtol=1e-12, atol=1e-15)


# --- masked -----------------------------------------------------------------------------------------------------------


@given(x=LOGITS, share=st.sampled_from([0.0, 0.2, 0.7, 1.0]))
def test_masked_softmax_equals_softmax_of_what_is_allowed(x: np.ndarray, share: float) -> None:
    mask = flags("mask", *x.shape, share=share)
    y = ops.masked_softmax(x, mask)
    c = x.shape[-1]
    np.testing.assert_allclose(y.reshape(-1, c), masked_loops(x.reshape(-1, c), mask.reshape(-1, c)), rtol=1e-12)
    assert (y[~mask] == 0).all()
    np.testing.assert_allclose(y.sum(axis=-1), mask.any(axis=-1), rtol=1e-13)


@given(x=LOGITS, shift=st.floats(-1e4, 1e4))
def test_masked_shifts_do_nothing(x: np.ndarray, shift: float) -> None:
    mask = flags("mask", *x.shape)
    y = ops.masked_softmax(x, mask)
    np.testing.assert_allclose(ops.masked_softmax(x + shift, mask), y, rtol=1e-8, atol=1e-15)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("hidden", [np.nan, np.inf, -np.inf, 1e4, 3e38])
def test_what_is_forbidden_is_never_looked_at(hidden: float, dtype: str) -> None:
    x, mask = normal("x", 9, 5).astype(dtype), flags("mask", 9, 5)
    mask[0], mask[1] = False, True
    expected = ops.masked_softmax(np.where(mask, x, 0).astype(dtype), mask)
    y = ops.masked_softmax(np.where(mask, x, hidden).astype(dtype), mask)
    np.testing.assert_array_equal(y, expected)
    dy = np.where(mask, normal("dy", 9, 5), hidden).astype(dtype)
    dx = ops.masked_softmax_grad(dy, y, mask)
    assert np.isfinite(dx).all()
    assert (dx[~mask] == 0).all()
    assert not np.signbit(dx[~mask]).any()
    assert (dx[mask] != 0).any()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("lowest", [-1e9, -1e12, -1e30, -3e38])
def test_allowed_logits_may_lie_below_any_number_a_mask_could_be_made_of(lowest: float, dtype: str) -> None:
    x, mask = np.array([[lowest, 0.0, lowest]], dtype=dtype), np.array([[True, False, True]])
    np.testing.assert_array_equal(ops.masked_softmax(x, mask), [[0.5, 0.0, 0.5]])


def test_row_that_allows_nothing_is_zero_with_zero_gradient() -> None:
    x, mask = np.array([[np.nan, np.inf, 1.0]]), np.zeros((1, 3), dtype=bool)
    y = ops.masked_softmax(x, mask)
    np.testing.assert_array_equal(y, np.zeros((1, 3)))
    np.testing.assert_array_equal(ops.masked_softmax_grad(np.full((1, 3), np.nan), y, mask), np.zeros((1, 3)))


def test_all_allowed_is_softmax() -> None:
    x, dy, mask = normal("x", 5, 7), normal("dy", 5, 7), np.ones((5, 7), dtype=bool)
    y = ops.masked_softmax(x, mask)
    np.testing.assert_allclose(y, ops.softmax(x), rtol=1e-14)
    np.testing.assert_allclose(ops.masked_softmax_grad(dy, y, mask), ops.softmax_grad(dy, y), rtol=1e-12, atol=1e-16)


def test_masked_gradient() -> None:
    mask = flags("mask", 6, 5)
    mask[0] = False
    check_gradients(ops.masked_softmax, normal("x", 6, 5), mask)


def test_one_allowed_class_is_certain() -> None:
    mask = np.eye(4, dtype=bool)
    y = ops.masked_softmax(1e4 * normal("x", 4, 4), mask)
    np.testing.assert_array_equal(y, np.eye(4))


# --- errors -----------------------------------------------------------------------------------------------------------

X = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.softmax(np.ones((2, 0))), ValueError, r"x has shape \(2, 0\); expected \(\.\.\., c>0\)"),
        (lambda: ops.log_softmax(np.ones(())), ValueError, r"x has shape \(\)"),
        (lambda: ops.softmax_grad(X, X.T), ValueError, r"y has shape \(3, 2\); expected \(2, 3\), to match dy"),
        (
            lambda: ops.masked_softmax(X, np.ones((3, 2), bool)),
            ValueError,
            r"mask has shape \(3, 2\); expected \(2, 3\)",
        ),
        (lambda: ops.masked_softmax(X, np.ones(3, bool)), ValueError, r"mask has shape \(3,\)"),
        (lambda: ops.masked_softmax(X, X), TypeError, "mask has dtype float64; expected bool.*mask != 0"),
        (lambda: ops.masked_softmax_grad(X, X, X), TypeError, "masked_softmax_grad: mask has dtype float64"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
