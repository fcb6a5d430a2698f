"""Dropout by its generator's known answers and its statistics; batch and layer normalisation by plain loops."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from cases_kit import normal
from hypothesis import given
from hypothesis import strategies as st

from mlpx import check_gradients, ops
from mlpx.ops._dropout import philox
from mlpx.ops.dispatch import using_fused


@pytest.fixture(autouse=True, params=["off", "auto"], ids=["reference", "fused"])
def _both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    with using_fused(request.param):
        yield


# --- the generator ----------------------------------------------------------------------------------------------------

ONES = 0xFFFFFFFF
KNOWN_ANSWERS = [
    # counter, key, words: Random123's vectors for Philox 4x32-10
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def plain_philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox 4x32-10 in Python integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(c[0] * 0xD2511F53, 2**32)
        high1, low1 = divmod(c[2] * 0xCD9E8D57, 2**32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return tuple(c)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]) -> None:
    got = philox(np, tuple(np.array([c], dtype="uint64") for c in counter), key[0] | key[1] << 32)  # type: ignore[arg-type]
    assert tuple(int(word[0]) for word in got) == words
    assert plain_philox(counter, key) == words


def plain_dropout(x: np.ndarray, p: float, seed: int, step: int, layer: int) -> np.ndarray:
    """The definition, one element at a time."""
    y = np.zeros(x.size)
    for j, value in enumerate(x.ravel()):
        counter = (j // 4, layer, step % 2**32, step >> 32)
        word = plain_philox(counter, (seed % 2**32, seed >> 32))[j % 4]
        y[j] = 0.0 if word < p * 2**32 else value / (1.0 - p)
    return y.reshape(x.shape)


@pytest.mark.parametrize(
    ("seed", "step", "layer"), [(0, 0, 0), (5, 2, 3), (2**64 - 1, 2**40 + 7, 2**32 - 1), (2**63, 1, 0)]
)
@pytest.mark.parametrize("shape", [(1,), (7,), (5, 6), (2, 3, 4)])
def test_dropout_equals_its_definition(shape: tuple[int, ...], seed: int, step: int, layer: int) -> None:
    x = normal("x", *shape)
    y = ops.dropout(x, p=0.4, seed=seed, step=step, layer=layer)
    np.testing.assert_allclose(y, plain_dropout(x, 0.4, seed, step, layer), rtol=1e-15)


# --- dropout ----------------------------------------------------------------------------------------------------------

BIG = np.ones((400, 250))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_share_dropped_and_mean_kept(p: float) -> None:
    y = ops.dropout(BIG, p=p, seed=1)
    spread = 5 * np.sqrt(p * (1 - p) / BIG.size)  # five standard deviations
    assert abs((y == 0).mean() - p) <= spread
    assert abs(y.mean() - 1.0) <= spread / (1 - p)
    np.testing.assert_allclose(y[y != 0], 1 / (1 - p), rtol=1e-15)
    # Every row and every column too: the mask has no stripes.
    for axis in (0, 1):
        n = BIG.shape[axis]
        assert np.abs((y == 0).mean(axis=axis) - p).max() <= 5 * np.sqrt(p * (1 - p) / n)


def test_neighbours_drop_independently() -> None:
    dropped = (ops.dropout(BIG, p=0.5, seed=3) == 0).ravel()
    for lag in (1, 2, 3, 4, 250):
        both = (dropped[:-lag] & dropped[lag:]).mean()
        assert abs(both - 0.25) < 5 * np.sqrt(0.25 * 0.75 / dropped.size) * 1.5


def test_p_zero_is_the_identity() -> None:
    x = normal("x", 9, 5)
    np.testing.assert_array_equal(ops.dropout(x, p=0.0, seed=1), x)


@pytest.mark.parametrize("other", [{"seed": 2}, {"step": 1}, {"layer": 1}, {"seed": 1 + 2**32}, {"step": 2**32}])
def test_seed_step_and_layer_choose_the_mask(other: dict[str, int]) -> None:
    def dropped(**numbers: int) -> np.ndarray:
        return ops.dropout(BIG[:40], p=0.5, **({"seed": 1, "step": 0, "layer": 0} | numbers)) == 0

    np.testing.assert_array_equal(dropped(), dropped())
    assert 0.45 < (dropped() == dropped(**other)).mean() < 0.55


def test_mask_depends_on_neither_dtype_nor_layout_nor_values() -> None:
    x = 1.0 + np.abs(normal("x", 12, 14))
    strided = np.repeat(x, 2, axis=1)[:, ::2]
    mask = ops.dropout(x, p=0.3, seed=7) == 0
    for other in (x.astype("float32"), np.asfortranarray(x), strided, -x, np.full_like(x, np.nan)):
        np.testing.assert_array_equal(ops.dropout(other, p=0.3, seed=7) == 0, mask)


@pytest.mark.parametrize("axes", [(0,), (1,), (-1,), (0, 2), (0, 1, 2)])
def test_one_mask_along_shared_axes(axes: tuple[int, ...]) -> None:
    x = np.ones((6, 8, 10))
    y = ops.dropout(x, p=0.5, seed=2, shared_axes=axes)
    first = y[tuple(slice(0, 1) if axis in {a % 3 for a in axes} else slice(None) for axis in range(3))]
    np.testing.assert_array_equal(y, np.broadcast_to(first, y.shape))
    assert first.size == 1 or 0 < (first == 0).mean() < 1
    # The shared mask is the mask of the smaller array.
    np.testing.assert_array_equal(first, ops.dropout(np.ones(first.shape), p=0.5, seed=2))


@given(a=st.floats(-5, 5), b=st.floats(-5, 5), p=st.sampled_from([0.0, 0.2, 0.8]), seed=st.integers(0, 2**64 - 1))
def test_dropout_is_linear_and_its_own_gradient(a: float, b: float, p: float, seed: int) -> None:
    def drop(x: Any) -> Any:
        return ops.dropout(x, p=p, seed=seed, step=3, layer=1)

    x, y = normal("x", 5, 3), normal("y", 5, 3)
    np.testing.assert_allclose(drop(a * x + b * y), a * drop(x) + b * drop(y), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose((drop(x) * y).sum(), (x * drop(y)).sum(), rtol=1e-12, atol=1e-12)


def test_dropped_is_zero_even_where_x_is_not_finite() -> None:
    x = np.resize(np.array([np.nan, np.inf, -np.inf]), 300)
    y = ops.dropout(x, p=0.5, seed=1)
    dropped = ops.dropout(np.ones(300), p=0.5, seed=1) == 0
    assert (y[dropped] == 0).all()
    assert not np.isfinite(y[~dropped]).any()


# --- normalisation --------------------------------------------------------------------------------------------------


def plain_norm(x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalise the columns of x, one after another; return h, mean, var."""
    h, means, variances = np.empty(x.shape), [], []
    for f in range(x.shape[1]):
        column = [float(v) for v in x[:, f]]
        mean = sum(column) / len(column)
        var = sum((v - mean) ** 2 for v in column) / len(column)
        h[:, f] = [(v - mean) / (var + eps) ** 0.5 for v in column]
        means.append(mean)
        variances.append(var)
    return h, np.array(means), np.array(variances)


@given(n=st.integers(1, 8), f=st.integers(1, 6), eps=st.sampled_from([1e-5, 1e-2, 1.0]))
def test_batch_norm_equals_loops(n: int, f: int, eps: float) -> None:
    x, gamma, beta = 2.0 + 3.0 * normal("x", n, f), normal("gamma", f), normal("beta", f)
    y, mean, var = ops.batch_norm(x, gamma, beta, eps=eps)
    h, means, variances = plain_norm(x, eps)
    np.testing.assert_allclose(y, gamma * h + beta, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(mean, means, rtol=1e-12)
    np.testing.assert_allclose(var, variances, rtol=1e-11, atol=1e-13)
    same = ops.batch_norm_inference(x, gamma, beta, mean, var, eps=eps)
    np.testing.assert_allclose(same, y, rtol=1e-10, atol=1e-12)


@given(n=st.integers(1, 8), f=st.integers(1, 6), eps=st.sampled_from([1e-5, 1e-2, 1.0]))
def test_layer_norm_equals_loops(n: int, f: int, eps: float) -> None:
    x, gamma, beta = 2.0 + 3.0 * normal("x", n, f), normal("gamma", f), normal("beta", f)
    y, mean, var = ops.layer_norm(x, gamma, beta, eps=eps)
    h, means, variances = plain_norm(x.T, eps)
    np.testing.assert_allclose(y, gamma * h.T + beta, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(mean, means[:, None], rtol=1e-12)
    np.testing.assert_allclose(var, variances[:, None], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("op", [ops.batch_norm, ops.layer_norm])
def test_norm_of_a_far_away_batch_keeps_its_digits(op: Callable[..., Any]) -> None:
    """A variance by mean of squares less square of the mean would be noise here."""
    x = (1000.0 + normal("x", 64, 64)).astype("float32")
    gamma, beta = np.ones(64, "float32"), np.zeros(64, "float32")
    got = op(x, gamma, beta, eps=1e-5)[0]
    exact = op(x.astype("float64"), gamma.astype("float64"), beta.astype("float64"), eps=1e-5)[0]
    assert np.abs(got - exact).max() < 1e-3


def test_batch_norm_of_nothing_and_of_one() -> None:
    gamma, beta = np.full(3, 2.0), np.array([1.0, 2.0, 3.0])
    y, mean, var = ops.batch_norm(np.zeros((0, 3)), gamma, beta, eps=1e-5)
    assert y.shape == (0, 3)
    np.testing.assert_array_equal(mean, np.zeros(3))
    np.testing.assert_array_equal(var, np.zeros(3))
    y, mean, var = ops.batch_norm(np.array([[5.0, 6.0, 7.0]]), gamma, beta, eps=1e-5)
    np.testing.assert_array_equal(y, [beta])
    np.testing.assert_array_equal(mean, [5.0, 6.0, 7.0])
    np.testing.assert_array_equal(var, np.zeros(3))


def test_constant_row_gives_beta() -> None:
    beta = normal("beta", 5)
    y, _, var = ops.layer_norm(np.full((2, 5), 4.0), np.ones(5), beta, eps=1e-5)
    np.testing.assert_array_equal(y, [beta, beta])
    np.testing.assert_array_equal(var, np.zeros((2, 1)))


@pytest.mark.parametrize("shape", [(7, 4), (2, 3, 4)])
def test_torch_agrees(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    arrays = [normal("x", *shape), normal("gamma", 4), normal("beta", 4)]
    dy = normal("dy", *shape)
    for ours, grad in ((ops.batch_norm, ops.batch_norm_grad), (ops.layer_norm, ops.layer_norm_grad)):
        x, gamma, beta = (torch.tensor(a, requires_grad=True) for a in arrays)
        if ours is ops.layer_norm:
            expected = torch.nn.functional.layer_norm(x, (4,), gamma, beta, eps=1e-3)
        else:
            flat = torch.nn.functional.batch_norm(x.reshape(-1, 4), None, None, gamma, beta, training=True, eps=1e-3)
            expected = flat.reshape(shape)
        expected.backward(torch.tensor(dy))
        y, mean, var = ours(*arrays, eps=1e-3)
        np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
        got = grad(dy, arrays[0], arrays[1], mean, var, eps=1e-3)
        for one, other in zip(got, (x.grad, gamma.grad, beta.grad), strict=True):
            np.testing.assert_allclose(one, other.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("eps", [1e-5, 0.1, 10.0])
@pytest.mark.parametrize("op", [ops.batch_norm, ops.layer_norm])
def test_gradient_for_any_eps(op: Any, eps: float) -> None:
    check_gradients(op, normal("x", 7, 5), 1 + 0.2 * normal("gamma", 5), normal("beta", 5), eps=eps)


def test_inference_gradient_leaves_the_statistics_alone() -> None:
    arrays = normal("x", 7, 5), normal("gamma", 5), normal("beta", 5), normal("mean", 5), np.abs(normal("var", 5))
    check_gradients(ops.batch_norm_inference, *arrays, eps=1e-3)


# --- errors ---------------------------------------------------------------------------------------------------------

X = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.dropout(X, p=1.0, seed=0), ValueError, r"p: expected a finite number in \[0, 1\), got 1.0"),
        (lambda: ops.dropout(X, p=-0.1, seed=0), ValueError, r"p: expected .* got -0.1"),
        (lambda: ops.dropout(X, p=np.nan, seed=0), ValueError, "got nan"),
        (lambda: ops.dropout(X, p="0.5", seed=0), TypeError, "p: expected a number, got '0.5'"),  # type: ignore[arg-type]
        (lambda: ops.dropout(X, p=0.5, seed=0, shared_axes=(2,)), ValueError, "shared_axes holds 2; x has 2 axes"),
        (lambda: ops.dropout(X, p=0.5, seed=0, shared_axes=(-3,)), ValueError, "shared_axes holds -3"),
        (
            lambda: ops.batch_norm(X, np.ones(2), np.ones(3), eps=1e-5),
            ValueError,
            r"gamma has shape \(2,\); expected \(3,\)",
        ),
        (lambda: ops.layer_norm(X, np.ones(3), np.ones((1, 3)), eps=1e-5), ValueError, r"beta has shape \(1, 3\)"),
        (lambda: ops.layer_norm(X, np.ones(3), np.ones(3), eps=0.0), ValueError, r"eps: expected .*\(0, inf\]"),
        (lambda: ops.batch_norm(X, np.ones(3), np.ones(3), eps=-1.0), ValueError, "eps"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
