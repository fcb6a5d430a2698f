"""The gradient check catches planted faults, passes what is right, and leaves its subject as it was."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from cases_kit import normal

import mlpx
from mlpx import GradientError, check_gradients, layers, ops
from mlpx.layers import INFERENCE, Backprop, Context
from mlpx.ops.dispatch import Op

X, W, B = normal("x", 6, 5), normal("w", 4, 5), normal("b", 4)


def planted(vjp: Any) -> Op[..., Any]:
    """Return an op like `dense` that has another gradient; it is on no list of ops."""
    return Op(ops.dense.reference, {}, vjp=vjp)


def right(dy: Any, out: Any, x: Any, w: Any, b: Any, *, activation: str) -> tuple[Any, ...]:
    return ops.dense_grad(dy, x, w, out[1], activation=activation)


def wrong_sign(*args: Any, **params: Any) -> Any:
    dx, dw, db = right(*args, **params)
    return dx, -dw, db


def lost_factor(*args: Any, **params: Any) -> Any:
    dx, dw, db = right(*args, **params)
    return dx, dw, db / X.shape[0]


def slightly_off(*args: Any, **params: Any) -> Any:
    dx, dw, db = right(*args, **params)
    return dx * (1 + 1e-4), dw, db


def one_element_off(*args: Any, **params: Any) -> Any:
    dx, dw, db = right(*args, **params)
    dw[2, 3] += 0.1
    return dx, dw, db


def nan(*args: Any, **params: Any) -> Any:
    dx, dw, db = right(*args, **params)
    return dx, dw * np.nan, db


def one_nan(*args: Any, **params: Any) -> Any:
    dx, dw, db = right(*args, **params)
    dx[0, 0] = np.nan
    return dx, dw, db


def wrong_shape(*args: Any, **params: Any) -> Any:
    dx, dw, db = right(*args, **params)
    return dx, dw.T, db


def zero(*args: Any, **params: Any) -> Any:
    return tuple(0 * g for g in right(*args, **params))


def forgotten_activation(dy: Any, out: Any, x: Any, w: Any, b: Any, *, activation: str) -> Any:
    return right(dy, out, x, w, b, activation="identity")


def test_right_gradient_has_a_small_error() -> None:
    error = check_gradients(planted(right), X, W, B, activation="tanh")
    assert 0.0 < error < 1e-8


@pytest.mark.parametrize(
    ("vjp", "culprit"),
    [
        (wrong_sign, "dense, w"),
        (lost_factor, "dense, b"),
        (slightly_off, "dense, x"),
        (one_element_off, "dense, w"),
        (nan, "dense, w.*nan"),
        (one_nan, "dense, x.*nan"),
        (wrong_shape, r"dense, w: its gradient has shape \(5, 4\)"),
        (zero, "dense, x"),
        (forgotten_activation, "dense, x"),
    ],
)
def test_planted_fault_is_caught(vjp: Any, culprit: str) -> None:
    with pytest.raises(GradientError, match=culprit):
        check_gradients(planted(vjp), X, W, B, activation="tanh")


def test_tolerance_is_obeyed() -> None:
    assert 1e-5 < check_gradients(planted(slightly_off), X, W, B, activation="tanh", tol=1e-3) < 1e-3


def test_inputs_may_be_float32_and_read_only() -> None:
    x = X.astype("float32")
    x.flags.writeable = False
    before = x.tobytes()
    assert check_gradients(ops.dense, x, W.astype("float32"), None, activation="gelu") < 1e-6
    assert x.tobytes() == before


def test_op_without_a_gradient_is_refused() -> None:
    with pytest.raises(TypeError, match="softmax_grad has no gradient"):
        check_gradients(ops.softmax_grad, X, X)


def test_other_subjects_are_refused() -> None:
    with pytest.raises(TypeError, match="expected an op, a layer or a network, got function"):
        check_gradients(lambda x: x, X)


def test_dropout_takes_the_seed_of_the_check() -> None:
    assert check_gradients(ops.dropout, X, p=0.5, seed=11) < 1e-8


# --- layers and networks ----------------------------------------------------------------------------------------------


def test_layer_is_checked_and_left_as_it_was() -> None:
    layer = layers.Dense(5, 4, "tanh").initialize(seed=1, dtype="float64")
    before = [p.value.tobytes() for p in layer.parameters.values()]
    assert 0.0 < check_gradients(layer, X) < 1e-6
    assert [p.value.tobytes() for p in layer.parameters.values()] == before


def test_layer_takes_a_context() -> None:
    layer = layers.TimeDistributed(layers.Dense(5, 4, "tanh")).initialize(seed=1, dtype="float64")
    context = Context(valid=np.array([[True, False, True]]))
    assert check_gradients(layer, normal("x", 1, 3, 5), context=context) < 1e-6


def test_layer_in_training_draws_one_mask_throughout() -> None:
    layer = layers.Dropout(0.5).initialize(dtype="float64")
    assert check_gradients(layer, X, training=True, seed=4) < 1e-6


def test_wrong_layer_is_caught() -> None:
    # A class of its own scope: Layer.kinds is what model files may name, so it is taken out again.
    @dataclass
    class Careless(layers.Activation):
        def forward(self, x: Any, context: Context = INFERENCE) -> tuple[Any, Backprop]:
            y, saved = ops.activation(x, kind=self.kind)
            return y, lambda dy: 2.0 * ops.activation_grad(dy, saved, kind=self.kind)

    try:
        with pytest.raises(GradientError, match="Careless, x"):
            check_gradients(Careless("tanh"), X)
    finally:
        del layers.Layer.kinds["Careless"]


def test_network_is_checked_and_left_as_it_was() -> None:
    net = mlpx.MLP([5, 7, 3], activation="tanh", dropout=0.2, seed=3)
    before = net.parameters.tobytes()
    assert 0.0 < check_gradients(net, X, np.arange(6) % 3, training=True) < 1e-6
    assert net.parameters.tobytes() == before
    assert net.dtype == "float32"


def test_wrong_loss_is_caught() -> None:
    net = mlpx.MLP([5, 7, 3], output="linear", loss=lambda y, t: (((y - t) ** 2).sum(), y - t))
    with pytest.raises(GradientError, match=r"network, 0\.w"):
        check_gradients(net, X, normal("t", 6, 3))
