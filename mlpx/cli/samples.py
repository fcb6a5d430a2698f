"""One call of every op with arrays of a given size, for self-checks and benchmarks."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mlpx.typing import Array

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Arguments by position, and by keyword."""

STATES: dict[str, tuple[int, dict[str, Any]]] = {
    "sgd_inplace": (0, {}),
    "momentum_inplace": (1, {"momentum": 0.9}),
    "adagrad_inplace": (1, {"eps": 1e-10}),
    "rmsprop_inplace": (1, {"rho": 0.99, "eps": 1e-8}),
    "adadelta_inplace": (2, {"rho": 0.9, "eps": 1e-6}),
    "adam_inplace": (2, {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "step": 1}),
    "rprop_inplace": (2, {"shrink": 0.5, "grow": 1.2, "smallest": 1e-6, "largest": 50.0}),
}
"""Op to its number of state arrays and its own parameters."""
LR = 1e-3


def normal(*shape: int, dtype: str = "float32", seed: int = 0) -> Array:
    """Return standard normal numbers."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def call(op: str, n: int, c: int, dtype: str = "float32") -> Call:
    """Return arguments of an op for ``n`` rows of ``c`` columns, on the host.

    Parameters
    ----------
    op : str
        A name of `mlpx.ops.ALL`.
    n, c : int
        At least 1. Parameter updates take a flat buffer of ``n * c``; dense layers take ``c`` inputs and outputs.

    Raises
    ------
    KeyError
        For an op that has no sample here; a test holds that every op has one.
    """
    for names, make in FAMILIES:
        if op in names:
            return make(op, n, c, dtype)
    raise KeyError(f"no sample for the op {op!r}")


def _softmax(op: str, n: int, c: int, dtype: str) -> Call:
    x, dy, mask = 3.0 * normal(n, c, dtype=dtype), normal(n, c, dtype=dtype, seed=1), normal(n, c, seed=2) > -0.5
    e = np.exp(x - x.max(axis=1, keepdims=True)) * (mask if "masked" in op else 1)
    y = (e / np.maximum(e.sum(axis=1, keepdims=True), 1e-30)).astype(dtype)
    if op.startswith("log"):
        y = x - x.max(axis=1, keepdims=True) - np.log(e.sum(axis=1, keepdims=True)).astype(dtype)
    args = (dy, y) if op.endswith("_grad") else (x,)
    return (*args, mask) if "masked" in op else args, {}


def _activation(op: str, n: int, c: int, dtype: str) -> Call:
    x = normal(n, c, dtype=dtype)
    return (x,) if op == "activation" else (normal(n, c, dtype=dtype, seed=1), np.tanh(x)), {"kind": "tanh"}


def dense(op: str, n: int, i: int, o: int, dtype: str = "float32") -> Call:
    """Return arguments of a dense layer's op for ``n`` rows, ``i`` inputs and ``o`` outputs, with ReLU."""
    x, w, b = normal(n, i, dtype=dtype), normal(o, i, dtype=dtype) * i**-0.5, normal(o, dtype=dtype)
    w = w.astype(dtype)
    y, dy = np.maximum(x @ w.T + b, 0), normal(n, o, dtype=dtype, seed=1)
    args = {"dense": (x, w, b), "dense_grad": (dy, x, w, y), "dense_grad_rows": (dy, x, y)}[op]
    return args, {"activation": "relu"}


def _square(op: str, n: int, c: int, dtype: str) -> Call:
    return dense(op, n, c, c, dtype)


def _dropout(op: str, n: int, c: int, dtype: str) -> Call:
    return (normal(n, c, dtype=dtype),), {"p": 0.5, "seed": 1, "step": 3, "layer": 1}


def _norm(op: str, n: int, c: int, dtype: str) -> Call:
    x, gamma, beta = normal(n, c, dtype=dtype), 1 + 0.1 * normal(c, dtype=dtype), 0.1 * normal(c, dtype=dtype, seed=1)
    axis = 1 if op.startswith("layer") else 0
    mean, var = (f(x, axis=axis, keepdims=axis == 1) for f in (np.mean, np.var))
    dy = normal(n, c, dtype=dtype, seed=1)
    args: tuple[Any, ...] = (x, gamma.astype(dtype), beta.astype(dtype))
    if op == "batch_norm_inference":
        args = (*args, mean, var)
    elif op.endswith("_grad"):
        args = (dy, x, gamma.astype(dtype), mean, var)
    return args, {"eps": 1e-5}


def _loss(op: str, n: int, c: int, dtype: str) -> Call:
    z = normal(n, c, dtype=dtype)
    if op in BY_CLASS:
        return (z, np.arange(n) * 7 % c), {}
    target = normal(n, c, dtype=dtype, seed=1)
    if op in ("poisson", "gamma"):
        target = np.abs(np.round(3 * target)) + (op == "gamma")
    elif op in BINARY:
        target = (target > 0).astype(dtype)
    return (z, target.astype(dtype)), {}


def _update(op: str, n: int, c: int, dtype: str) -> Call:
    count, params = STATES[op]
    state = [np.zeros(n * c, dtype) for _ in range(count)]
    if op == "rprop_inplace":
        state[1] += LR
    g = (0.1 * normal(n * c, dtype=dtype, seed=1)).astype(dtype)
    return (normal(n * c, dtype=dtype), g, *state), {"lr": LR, **params}


BY_CLASS = ("softmax_cross_entropy", "softmax_focal")
BINARY = ("sigmoid_cross_entropy", "sigmoid_focal", "hinge")
FAMILIES: tuple[tuple[tuple[str, ...], Callable[[str, int, int, str], Call]], ...] = (
    (
        (
            "softmax",
            "softmax_grad",
            "masked_softmax",
            "masked_softmax_grad",
            "log_softmax",
            "log_softmax_grad",
        ),
        _softmax,
    ),
    (("activation", "activation_grad"), _activation),
    (("dense", "dense_grad", "dense_grad_rows"), _square),
    (("dropout",), _dropout),
    (
        (
            "batch_norm",
            "batch_norm_grad",
            "batch_norm_inference",
            "batch_norm_inference_grad",
            "layer_norm",
            "layer_norm_grad",
        ),
        _norm,
    ),
    (
        (
            *BY_CLASS,
            *BINARY,
            "squared_error",
            "absolute_error",
            "huber",
            "quantile",
            "poisson",
            "gamma",
        ),
        _loss,
    ),
    (tuple(STATES), _update),
)
