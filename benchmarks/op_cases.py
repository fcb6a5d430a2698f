"""The calls of every op that are measured: the table's sizes by name, and one real size for each of the others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.measure import quick


@dataclass(frozen=True)
class OpCase:
    """One call.

    Parameters
    ----------
    name : str
        What tables call it.
    op : str
        Name in `mlpx.ops.ALL`.
    args, params
        Of the call.
    product : tuple of int, optional
        (n, i, o) where the bound is a product of that size; otherwise it is a copy of the same bytes.
    """

    name: str
    op: str
    args: tuple[Any, ...] = field(repr=False)
    params: dict[str, Any] = field(default_factory=dict, repr=False)
    product: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Lazy:
    """A case whose arrays are made when it runs."""

    name: str
    op: str
    make: Callable[[], OpCase] = field(repr=False)


def _normal(*shape: int, dtype: str = "float32") -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def _size(n: int) -> int:
    """Return a length as this run takes it: short in quick mode."""
    return min(n, 24) if quick() else n


def _rows(op: str, n: int, c: int, name: str) -> OpCase:
    """Return a case of the softmax family."""
    x = 3.0 * _normal(_size(n), _size(c))
    mask = _normal(*x.shape) > -0.5
    dy = _normal(*x.shape)
    e = np.exp(x - x.max(axis=1, keepdims=True)) * (mask if "masked" in op else 1)
    y = e / np.maximum(e.sum(axis=1, keepdims=True), 1e-30)
    y = np.log(y) if op.startswith("log") else y
    args = (dy, y) if op.endswith("_grad") else (x,)
    return OpCase(name, op, (*args, mask) if "masked" in op else args)


def _loss(op: str, n: int, c: int, name: str) -> OpCase:
    n, c = _size(n), _size(c)
    z = _normal(n, c)
    if op.startswith("softmax_"):
        return OpCase(name, op, (z, np.arange(n) * 7 % c))
    t = np.abs(np.round(3 * _normal(n, c))) if op in ("poisson", "gamma") else _normal(n, c)
    t = (t > 0).astype("float32") if op.startswith("sigmoid_") else t
    return OpCase(name, op, (z, t.astype("float32")))


def _dense(op: str, n: int, i: int, o: int, activation: str, dtype: str, name: str) -> OpCase:
    n, i, o = _size(n), _size(i), _size(o)
    x, w, b = _normal(n, i, dtype=dtype), _normal(o, i, dtype=dtype) / np.sqrt(i).astype(dtype), _normal(o, dtype=dtype)
    params = {"activation": activation}
    if op == "dense":
        return OpCase(name, op, (x, w, b), params, (n, i, o))
    y = np.maximum(x @ w.T + b, 0)
    args = (_normal(n, o, dtype=dtype), x, y) if op == "dense_grad_rows" else (_normal(n, o, dtype=dtype), x, w, y)
    return OpCase(name, op, args, params, (n, i, 2 * o) if op == "dense_grad" else None)


def _norm(op: str, n: int, f: int, name: str) -> OpCase:
    n, f = _size(n), _size(f)
    x, gamma, beta = _normal(n, f), 1 + 0.1 * _normal(f), 0.1 * _normal(f)
    axis = 1 if op.startswith("layer") else 0
    mean, var = x.mean(axis=axis, keepdims=True), x.var(axis=axis, keepdims=True)
    if axis == 0:
        mean, var = mean[0], var[0]
    if op == "batch_norm_inference":
        args: tuple[Any, ...] = (x, gamma, beta, mean, var)
    else:
        args = (_normal(n, f + 1)[:, :f].copy(), x, gamma, mean, var) if op.endswith("_grad") else (x, gamma, beta)
    return OpCase(name, op, args, {"eps": 1e-5})


STATES = {
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


def _update(op: str, size: int, name: str) -> OpCase:
    size = 4096 if quick() else size
    count, params = STATES[op]
    state = [np.zeros(size, np.float32) for _ in range(count)]
    if op == "rprop_inplace":
        state[1] += LR
    return OpCase(name, op, (_normal(size), 0.1 * _normal(size + 1)[1:], *state), {"lr": LR, **params})


def _one(op: str, name: str) -> OpCase:
    """Return the ordinary case of an op."""
    if "softmax" in op and "entropy" not in op and "focal" not in op:
        return _rows(op, 10_000, 100, name)
    if op.startswith("dense"):
        return _dense(op, 256, 256, 256 if op != "dense_grad_rows" else 16, "relu", "float32", name)
    if "norm" in op:
        return _norm(op, 4096, 256, name)
    if op.endswith("_inplace"):
        return _update(op, 2_000_000, name)
    if op == "dropout":
        return OpCase(name, op, (_normal(_size(4096), _size(256)),), {"p": 0.5, "seed": 1})
    if op == "activation":
        return OpCase(name, op, (_normal(_size(4096), _size(256)),), {"kind": "tanh"})
    if op == "activation_grad":
        return OpCase(
            name, op, (_normal(_size(4096), _size(256)), np.tanh(_normal(_size(4096), _size(256)))), {"kind": "tanh"}
        )
    return _loss(op, 10_000, 10, name)


def named() -> Iterator[Lazy]:
    """Yield the cases that have a target, and their neighbours."""
    for n, c in ((100_000, 10), (1000, 1000), (4096, 4096), (1000, 10)):
        name = f"softmax {n}x{c}"
        yield Lazy(name, "softmax", lambda n=n, c=c, name=name: _rows("softmax", n, c, name))
    for n, c in ((1000, 10), (1024, 1000)):
        name = f"softmax_cross_entropy {n}x{c}"
        yield Lazy(
            name, "softmax_cross_entropy", lambda n=n, c=c, name=name: _loss("softmax_cross_entropy", n, c, name)
        )
    for n, i, o in ((1024, 784, 1024), (256, 256, 256)):
        name = f"dense relu {n}x{i}x{o}"
        yield Lazy(name, "dense", lambda n=n, i=i, o=o, name=name: _dense("dense", n, i, o, "relu", "float32", name))
    for dtype in ("float32", "float64"):
        name = f"skinny 1000x5000x10 {dtype}"
        yield Lazy(name, "dense", lambda d=dtype, name=name: _dense("dense", 1000, 5000, 10, "identity", d, name))
    yield Lazy("adam 2M parameters", "adam_inplace", lambda: _update("adam_inplace", 2_000_000, "adam 2M parameters"))


def everything() -> list[Lazy]:
    """Return the named cases, and one for every op of `mlpx.ops.ALL` that has none."""
    from mlpx import ops

    cases = list(named())
    covered = {case.op for case in cases}
    return cases + [Lazy(op, op, lambda op=op: _one(op, op)) for op in ops.ALL if op not in covered]
