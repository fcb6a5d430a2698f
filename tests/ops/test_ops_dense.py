"""Dense layer and activations against plain loops and against the formulas of the textbooks."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from cases_kit import normal
from hypothesis import given
from hypothesis import strategies as st

from mlpx import check_gradients, ops
from mlpx.ops import ACTIVATIONS
from mlpx.ops.dispatch import using_fused

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848, 1.0507009873554804934


def sigmoid(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z))


def softplus(z: float) -> float:
    return math.log1p(math.exp(z))


FORMULAS: dict[str, Callable[[float], float]] = {
    "identity": lambda z: z,
    "relu": lambda z: max(z, 0.0),
    "leaky_relu": lambda z: z if z > 0 else 0.01 * z,
    "elu": lambda z: z if z > 0 else math.exp(z) - 1.0,
    "selu": lambda z: SELU_SCALE * (z if z > 0 else SELU_ALPHA * (math.exp(z) - 1.0)),
    "gelu": lambda z: z * (1.0 + math.erf(z / math.sqrt(2.0))) / 2.0,
    "gelu_tanh": lambda z: z / 2.0 * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3))),
    "silu": lambda z: z * sigmoid(z),
    "mish": lambda z: z * math.tanh(softplus(z)),
    "softplus": softplus,
    "sigmoid": sigmoid,
    "tanh": math.tanh,
    "softsign": lambda z: z / (1.0 + abs(z)),
    "hard_sigmoid": lambda z: min(max(z / 6.0 + 0.5, 0.0), 1.0),
    "exp": math.exp,
}
POINTS = [-20.0, -5.0, -3.5, -2.0, -1.0, -0.3, -1e-3, 1e-3, 0.2, 0.9, 1.7, 2.9, 3.5, 6.0, 20.0]
LIMITS = {
    # name: (value at -1e4, value at 1e4), both of float32
    "identity": (-1e4, 1e4), "relu": (0, 1e4), "leaky_relu": (-100, 1e4), "elu": (-1, 1e4),
    "selu": (-SELU_SCALE * SELU_ALPHA, SELU_SCALE * 1e4), "gelu": (0, 1e4), "gelu_tanh": (0, 1e4), "silu": (0, 1e4),
    "mish": (0, 1e4), "softplus": (0, 1e4), "sigmoid": (0, 1), "tanh": (-1, 1), "softsign": (-1, 1),
    "hard_sigmoid": (0, 1), "exp": (0, np.inf),
}  # fmt: skip


@pytest.fixture(autouse=True, params=["off", "auto"], ids=["reference", "fused"])
def _both_ways(request: pytest.FixtureRequest):
    with using_fused(request.param):
        yield


def test_every_activation_has_a_formula() -> None:
    assert set(FORMULAS) == set(LIMITS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_equals_its_formula(name: str) -> None:
    y, _ = ops.activation(np.array(POINTS), kind=name)
    np.testing.assert_allclose(y, [FORMULAS[name](z) for z in POINTS], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivative_equals_differences_of_the_formula(name: str) -> None:
    _, saved = ops.activation(np.array(POINTS), kind=name)
    got = ops.activation_grad(np.ones(len(POINTS)), saved, kind=name)
    h, f = 1e-5, FORMULAS[name]
    expected = [(f(z + h) - f(z - h)) / (2 * h) for z in POINTS]
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_finite_and_right_far_out(name: str) -> None:
    x = np.array([-1e4, 1e4], dtype="float32")
    y, saved = ops.activation(x, kind=name)
    np.testing.assert_allclose(y, np.array(LIMITS[name], dtype="float32"), rtol=2e-4)
    dx = ops.activation_grad(np.ones(2, dtype="float32"), saved, kind=name)
    assert np.isfinite(dx[0])
    assert np.isfinite(dx[1]) or name == "exp"


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_keeps_its_digits_near_zero_and_in_the_tail(name: str) -> None:
    """Where the value is tiny it is still right to a few roundings: no difference of two near-equal numbers."""
    x = np.array([-8.0, -5.0, -1e-4, 1e-4, 8.0], dtype="float32")
    if name == "gelu":
        x = x[2:]  # 1 + erf loses its digits in the left tail, as everybody's does
    y, exact = ops.activation(x, kind=name)[0], ops.activation(x.astype("float64"), kind=name)[0]
    wrong = np.abs(y - exact) > 40 * np.finfo("float32").eps * np.abs(exact)
    assert not wrong.any(), (x[wrong], y[wrong], exact[wrong])


@pytest.mark.parametrize("name", ["softplus", "sigmoid", "elu", "selu", "silu", "mish", "gelu_tanh", "exp"])
def test_derivative_keeps_its_digits_in_the_left_tail(name: str) -> None:
    """The derivative decays there; what it is computed from must not have lost it."""
    x = np.array([-9.0, -6.0, -4.0], dtype="float32")
    got, exact = (
        ops.activation_grad(np.ones_like(z), ops.activation(z, kind=name)[1], kind=name)
        for z in (x, x.astype("float64"))
    )
    lost = {"elu": 1e3, "selu": 1e3}.get(name, 1.0)  # y + 1 of a y near -1: the price of keeping y alone
    np.testing.assert_allclose(got, exact, rtol=5e-6 * lost)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_torch_agrees(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    functional = torch.nn.functional
    oracles = {
        "identity": lambda z: z, "relu": functional.relu, "leaky_relu": functional.leaky_relu, "elu": functional.elu,
        "selu": functional.selu, "gelu": functional.gelu, "silu": functional.silu, "mish": functional.mish,
        "gelu_tanh": lambda z: functional.gelu(z, approximate="tanh"), "softplus": functional.softplus,
        "sigmoid": torch.sigmoid, "tanh": torch.tanh, "softsign": functional.softsign,
        "hard_sigmoid": functional.hardsigmoid, "exp": torch.exp,
    }  # fmt: skip
    z = torch.tensor(POINTS, dtype=torch.float64, requires_grad=True)
    expected = oracles[name](z)
    expected.sum().backward()
    y, saved = ops.activation(np.array(POINTS), kind=name)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-7, atol=1e-9)  # softplus is cut at 20 there
    dx = ops.activation_grad(np.ones(len(POINTS)), saved, kind=name)
    np.testing.assert_allclose(dx, z.grad.numpy(), rtol=1e-7, atol=2e-9)


def test_derivative_at_the_kink_is_the_one_from_the_left() -> None:
    for name, slope in (("relu", 0.0), ("leaky_relu", 0.01), ("elu", 1.0), ("hard_sigmoid", 1 / 6)):
        _, saved = ops.activation(np.zeros(1), kind=name)
        np.testing.assert_allclose(ops.activation_grad(np.ones(1), saved, kind=name), [slope], err_msg=name)


# --- dense ------------------------------------------------------------------------------------------------------------


def loops(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, name: str) -> np.ndarray:
    """The dense layer one number at a time."""
    y = np.empty((x.shape[0], w.shape[0]))
    for n in range(x.shape[0]):
        for o in range(w.shape[0]):
            z = 0.0 if b is None else float(b[o])
            for i in range(w.shape[1]):
                z += float(x[n, i]) * float(w[o, i])
            y[n, o] = FORMULAS[name](z)
    return y


def loops_grad(dz: np.ndarray, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    dx, dw, db = np.zeros(x.shape), np.zeros(w.shape), np.zeros(w.shape[0])
    for n in range(x.shape[0]):
        for o in range(w.shape[0]):
            db[o] += dz[n, o]
            for i in range(w.shape[1]):
                dx[n, i] += dz[n, o] * w[o, i]
                dw[o, i] += dz[n, o] * x[n, i]
    return dx, dw, db


@given(
    n=st.integers(0, 9), i=st.integers(1, 9), o=st.integers(1, 9), name=st.sampled_from(ACTIVATIONS), bias=st.booleans()
)
def test_dense_equals_loops(n: int, i: int, o: int, name: str, bias: bool) -> None:
    x, w, b = normal("x", n, i), normal("w", o, i), normal("b", o) if bias else None
    y, saved = ops.dense(x, w, b, activation=name)
    np.testing.assert_allclose(y, loops(x, w, b, name), rtol=1e-10, atol=1e-12)
    dy = normal("dy", n, o)
    dz = ops.activation_grad(dy, saved, kind=name)
    for got, expected in zip(ops.dense_grad(dy, x, w, saved, activation=name), loops_grad(dz, x, w), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@given(lead=st.lists(st.integers(0, 4), max_size=3), i=st.integers(1, 5), o=st.integers(1, 5))
def test_leading_axes_are_rows(lead: list[int], i: int, o: int) -> None:
    x, w, b, dy = normal("x", *lead, i), normal("w", o, i), normal("b", o), normal("dy", *lead, o)
    y, saved = ops.dense(x, w, b, activation="tanh")
    flat, flat_saved = ops.dense(x.reshape(-1, i), w, b, activation="tanh")
    assert y.shape == (*lead, o)
    np.testing.assert_allclose(y.reshape(-1, o), flat, rtol=1e-13, atol=1e-15)
    dx, dw, db = ops.dense_grad(dy, x, w, saved, activation="tanh")
    fx, fw, fb = ops.dense_grad(dy.reshape(-1, o), x.reshape(-1, i), w, flat_saved, activation="tanh")
    assert dx is not None
    assert dx.shape == x.shape
    for got, expected in ((dx.reshape(-1, i), fx), (dw, fw), (db, fb)):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


def test_bias_as_a_row_is_the_same_bias() -> None:
    x, w, b = normal("x", 5, 3), normal("w", 4, 3), normal("b", 4)
    for one, other in zip(ops.dense(x, w, b), ops.dense(x, w, b[None, :]), strict=True):
        np.testing.assert_array_equal(one, other)
    assert check_gradients(ops.dense, x, w, b[None, :], activation="gelu") < 1e-6


def test_first_layer_spares_dx() -> None:
    x, w, dy = normal("x", 5, 3), normal("w", 4, 3), normal("dy", 5, 4)
    _, saved = ops.dense(x, w, None, activation="tanh")
    with_dx = ops.dense_grad(dy, x, w, saved, activation="tanh")
    dx, dw, db = ops.dense_grad(dy, x, w, saved, activation="tanh", need_dx=False)
    assert dx is None
    np.testing.assert_array_equal(dw, with_dx[1])
    np.testing.assert_array_equal(db, with_dx[2])


def test_no_rows_give_nothing_and_zero_gradients() -> None:
    x, w, b = normal("x", 0, 3), normal("w", 4, 3), normal("b", 4)
    y, saved = ops.dense(x, w, b, activation="relu")
    assert y.shape == (0, 4)
    dx, dw, db = ops.dense_grad(np.zeros((0, 4)), x, w, saved, activation="relu")
    assert dx is not None
    assert dx.shape == (0, 3)
    np.testing.assert_array_equal(dw, np.zeros((4, 3)))
    np.testing.assert_array_equal(db, np.zeros(4))


def test_gradients_row_by_row_sum_to_the_gradient() -> None:
    x, w, b, dy = normal("x", 6, 3), normal("w", 4, 3), normal("b", 4), normal("dy", 6, 4)
    for name in ACTIVATIONS:
        _, saved = ops.dense(x, w, b, activation=name)
        dw, db = ops.dense_grad_rows(dy, x, saved, activation=name)
        _, sum_w, sum_b = ops.dense_grad(dy, x, w, saved, activation=name)
        np.testing.assert_allclose(dw.sum(axis=0), sum_w, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(db.sum(axis=0), sum_b, rtol=1e-12, atol=1e-14)


# --- errors -----------------------------------------------------------------------------------------------------------

W, B = np.ones((4, 3)), np.ones(4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ops.dense(np.ones((2, 5)), W, B),
            ValueError,
            r"w has shape \(4, 3\).*\(o, 5\), to match x \(2, 5\).*pass w.T",
        ),
        (lambda: ops.dense(np.ones(()), W, B), ValueError, r"x has shape \(\)"),
        (lambda: ops.dense(np.ones((2, 3)), np.ones(3), B), ValueError, r"w has shape \(3,\); expected \(o, 3\)"),
        (lambda: ops.dense(np.ones((2, 3)), W, np.ones(3)), ValueError, r"b has shape \(3,\); expected \(4,\) or"),
        (lambda: ops.dense(np.ones((2, 3)), W, np.ones((4, 1))), ValueError, r"b has shape \(4, 1\)"),
        (
            lambda: ops.dense(np.ones((2, 3), "float32"), W, B),
            TypeError,
            r"w has dtype float64; .*mlpx.asarray\(w, \"float32\"\)",
        ),
        (
            lambda: ops.dense(np.ones((2, 3)), W, B.astype("float32")),
            TypeError,
            "b has dtype float32; expected float64",
        ),
        (lambda: ops.dense(np.ones((2, 3)), W, B, activation="rellu"), ValueError, "Did you mean 'relu'"),
        (lambda: ops.activation(np.ones(2), kind="tanhh"), ValueError, r"Did you mean 'tanh'.*Known: elu, exp, gelu"),
        (
            lambda: ops.dense_grad(np.ones((2, 3)), np.ones((2, 3)), W, np.ones((2, 4))),
            ValueError,
            r"w has shape \(4, 3\); expected \(3, 3\), to match dy \(2, 3\)",
        ),
        (
            lambda: ops.dense_grad(np.ones((2, 4)), np.ones((2, 3)), W, np.ones((3, 4))),
            ValueError,
            r"saved has shape \(3, 4\)",
        ),
        (
            lambda: ops.activation_grad(np.ones(2), np.ones(3), kind="relu"),
            ValueError,
            r"saved has shape \(3,\); expected \(2,\), to match dy",
        ),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
