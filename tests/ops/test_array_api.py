"""References, layers and networks on array-api-strict with a fake device: the code is written against ``xp`` alone."""

from collections.abc import Iterator
from typing import Any

import array_api_strict
import cases_kit
import numpy as np
import pytest
from cases import as_params
from compare import as_float64, check_close, parts
from strict import STRICT, from_strict, to_strict

import mlpx
from mlpx import layers, ops
from mlpx.ops import ACTIVATIONS
from mlpx.ops.dispatch import using_fused

NEWEST = array_api_strict.get_array_api_strict_flags()["api_version"]


@pytest.fixture(autouse=True)
def _flags() -> Iterator[None]:
    with (
        array_api_strict.ArrayAPIStrictFlags(api_version=NEWEST),
        mlpx.using_backend(STRICT),
        np.errstate(all="ignore"),
    ):
        yield


@pytest.mark.parametrize(("name", "case"), as_params(ops.ALL))
def test_op(name: str, case: cases_kit.Case) -> None:
    op = ops.ALL[name]
    args = [to_strict(a) for a in case.args]
    result = op(*args, **case.params)
    if name.endswith("_inplace"):
        assert result is None
        reference, true = [a.copy() for a in case.args], [as_float64(a).copy() for a in case.args]
        op.reference(np, *reference, **case.params)
        op.reference(np, *true, **case.params)
        result, reference, true = tuple(args), tuple(reference), tuple(true)
    else:
        reference = op.reference(np, *case.args, **case.params)
        true = op.reference(np, *map(as_float64, case.args), **case.params)
    got = tuple(from_strict(part) for part in parts(result))
    check_close(f"{name}[{case.id}]", got, tuple(parts(reference)), tuple(parts(true)), case.k)


X = cases_kit.normal("x", 7, 5)
SEQUENCE = cases_kit.normal("x", 3, 4, 5)
MASK = cases_kit.flags("mask", 7, 5)
VALID = np.arange(4) < np.array([4, 2, 0])[:, None]
SEQUENCE_MASK = cases_kit.flags("mask", 3, 4, 6)
TRAINING = {"training": True, "seed": 3, "step": 2}

LAYERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "dense": (lambda: layers.Dense(5, 4, "gelu"), X, {}),
    "dense-first": (lambda: layers.Dense(5, 4, "relu"), X, {"need_dx": False}),
    "dense-sequence": (lambda: layers.Dense(5, 4, "tanh"), SEQUENCE, {}),
    "dense-no-bias": (lambda: layers.Dense(5, 4, "elu", bias=False), X, {}),
    **{f"activation-{kind}": (lambda kind=kind: layers.Activation(kind), X, {}) for kind in ACTIVATIONS},
    "softmax": (lambda: layers.Softmax(), X, {}),
    "masked-softmax": (lambda: layers.MaskedSoftmax(), X, {"mask": MASK}),
    "dropout": (lambda: layers.Dropout(0.4), X, TRAINING),
    "dropout-shared": (lambda: layers.Dropout(0.4, shared_axes=(1,)), SEQUENCE, TRAINING),
    "dropout-inference": (lambda: layers.Dropout(0.4), X, {}),
    "batch-norm": (lambda: layers.BatchNorm(5), X, TRAINING),
    "batch-norm-inference": (lambda: layers.BatchNorm(5), X, {}),
    "layer-norm": (lambda: layers.LayerNorm(5), SEQUENCE, {}),
    "time-distributed": (lambda: layers.TimeDistributed(layers.Dense(5, 6, "relu"), layers.Softmax()), SEQUENCE, {}),
    "time-distributed-padded": (
        lambda: layers.TimeDistributed(layers.Dense(5, 6, "relu"), layers.MaskedSoftmax()),
        SEQUENCE,
        {"valid": VALID, "mask": SEQUENCE_MASK},
    ),
}


def test_every_kind_of_layer_is_tried() -> None:
    tried = {type(inner) for make, _, _ in LAYERS.values() for inner in make().walk()}
    assert tried == {kind for kind in layers.Layer.kinds.values() if kind.__module__.startswith("mlpx.")}


def _pass(make: Any, x: Any, options: dict[str, Any], convert: Any) -> list[Any]:
    """Return output, input gradient, parameter gradients and statistics of one pass forward and back."""
    layer = make().initialize(seed=1, dtype="float64")
    context = layers.Context(**{name: convert(value) for name, value in options.items()})
    y, backprop = layer.forward(convert(x), context)
    dx = backprop(convert(cases_kit.normal("dy", *y.shape)))
    held = list(layer.walk())
    gradients = [p.grad for inner in held for p in inner.parameters.values()]
    return [y, dx, *gradients, *(p.value for inner in held for p in inner.statistics.values())]


@pytest.mark.parametrize("name", list(LAYERS))
def test_layer(name: str) -> None:
    got = [from_strict(part) for part in _pass(*LAYERS[name], to_strict)]
    with mlpx.using_backend("numpy"), using_fused("off"):
        expected = tuple(_pass(*LAYERS[name], lambda a: a))
    check_close(name, tuple(got), expected, expected, 64)


NETWORKS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "softmax": (lambda: mlpx.MLP([5, 8, 3], seed=2), np.arange(7) % 3, {}),
    "sample-weight": (lambda: mlpx.MLP([5, 8, 3]), np.eye(3)[np.arange(7) % 3], {"sample_weight": np.arange(7.0)}),
    "masked": (
        lambda: mlpx.MLP([5, 8, 5], output="masked_softmax"),
        np.arange(7) % 5,
        {"mask": MASK | np.eye(5, dtype=bool)[np.arange(7) % 5]},
    ),
    "sigmoid": (lambda: mlpx.MLP([5, 8, 1], "tanh", "sigmoid"), np.arange(7) % 2, {}),
    "linear": (lambda: mlpx.MLP([5, 8, 2], ["gelu"], "linear", loss="huber"), X[:, :2], {}),
    "quantile": (lambda: mlpx.MLP([5, 8, 2], output="linear", loss=mlpx.losses.Quantile((0.1, 0.9))), X[:, 0], {}),
    "exp": (lambda: mlpx.MLP([5, 8, 2], output="exp"), np.abs(X[:, :2]), {}),
    "dropout-and-norm": (lambda: mlpx.MLP([5, 8, 8, 3], norm="batch", dropout=0.3), np.arange(7) % 3, TRAINING),
    "class-weight": (
        lambda: mlpx.MLP([5, 3], loss=mlpx.losses.CrossEntropy(0.1, (1.0, 2.0, 0.5))),
        np.arange(7) % 3,
        {},
    ),
}


def _all_results(name: str, dtype: str, convert: Any) -> tuple[Any, Any, Any]:
    """Return loss, gradient and prediction of a network."""
    make, y, options = NETWORKS[name]
    net, given = make().astype(dtype), {key: convert(value) for key, value in options.items()}
    loss, gradient = net.loss_and_grad(convert(X.astype("float32")), convert(np.asarray(y)), **given)
    return np.asarray(loss, dtype), gradient, net.predict(convert(X.astype("float32")), given.get("mask"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_network(name: str, dtype: str) -> None:
    loss, gradient, prediction = _all_results(name, dtype, to_strict)
    with mlpx.using_backend("numpy"), using_fused("off"):
        reference, true = _all_results(name, dtype, lambda a: a), _all_results(name, "float64", lambda a: a)
    check_close(name, (loss, from_strict(gradient), from_strict(prediction)), reference, true, 64)


def test_padded_sequence_network() -> None:
    def run(convert: Any) -> tuple[float, Any]:
        net = mlpx.Sequential(layers.TimeDistributed(layers.Dense(5, 6, "tanh")), layers.Dense(6, 3), layers.Softmax())
        labels = np.arange(12).reshape(3, 4) % 3
        return net.loss_and_grad(convert(SEQUENCE), convert(labels), valid=convert(VALID))

    loss, gradient = run(to_strict)
    with mlpx.using_backend("numpy"), using_fused("off"):
        expected = run(lambda a: a)
    check_close("padded", (np.asarray(loss), from_strict(gradient)), expected, expected, 64)


def test_fit_goes_the_same_way() -> None:
    def run(convert: Any) -> list[float]:
        net = mlpx.MLP([5, 8, 3], dropout=0.2, dtype="float64", seed=4)
        y = convert(np.arange(7) % 3)
        return net.fit(convert(X), y, epochs=3, batch_size=3, validation=0.3, progress=False).loss

    got = run(to_strict)
    with mlpx.using_backend("numpy"), using_fused("off"):
        expected = run(lambda a: a)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
