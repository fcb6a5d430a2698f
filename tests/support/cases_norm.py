"""Cases of batch and layer normalisation, and of dropout."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from cases_kit import CHAIN, LAYOUTS, Case, both, lay, layout_of, normal, of

SHAPES = [
    (0, 5),
    (1, 1),
    (1, 7),
    (2, 3),
    (7, 1),
    (63, 64),
    (64, 65),
    (65, 63),
    (131, 17),
    (3, 300),
    (2, 3, 4),
    (2, 0, 3),
    (5,),
]
EPS = {"eps": 1e-5}


def norm_calls() -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield (id, x, gamma, beta)."""
    for shape in SHAPES:
        for label, dtype in both("x".join(map(str, shape))):
            yield label, normal("x", *shape, dtype=dtype), *_gain_and_shift(shape[-1], dtype)
    for layout in LAYOUTS:
        for label, dtype in both(layout):
            yield label, *lay(layout, normal("x", 9, 6, dtype=dtype), *_gain_and_shift(6, dtype))
            yield f"{label}-3d", *lay(layout, normal("x", 2, 3, 6, dtype=dtype), *_gain_and_shift(6, dtype))
    for label, dtype in both("values"):
        gamma, beta = _gain_and_shift(6, dtype)
        x = normal("x", 33, 6, dtype=dtype)
        yield f"{label}-offset", x + dtype.type(30), gamma, beta
        # Whole numbers, so that the mean of equal ones is exact in any order of summing.
        yield f"{label}-constant", np.full((33, 6), 4.0, dtype=dtype), gamma, beta
        yield f"{label}-constant-rows", np.repeat(np.arange(9.0), 6).reshape(9, 6).astype(dtype), gamma, beta
        x[2, 1] = np.nan
        x[3, 4] = np.inf
        yield f"{label}-special", x, gamma, beta


def _gain_and_shift(f: int, dtype: Any) -> tuple[Any, Any]:
    return 1.0 + 0.3 * normal("gamma", f, dtype=dtype), normal("beta", f, dtype=dtype)


def statistics(x: Any, axis: int | tuple[int, ...], keepdims: bool) -> tuple[Any, Any]:
    """Return mean and variance, in the dtype of x; 0 of nothing."""
    with np.errstate(all="ignore"):
        n = max(int(np.prod([x.shape[a] for a in np.atleast_1d(axis)])), 1)
        mean = x.sum(axis=axis, keepdims=True) / n
        var = ((x - mean) ** 2).sum(axis=axis, keepdims=True) / n
    shape = mean.shape if keepdims else (x.shape[-1],)
    return mean.reshape(shape).astype(x.dtype), var.reshape(shape).astype(x.dtype)


def _k(name: str, x: Any) -> int:
    longest = x.shape[-1] if name == "layer_norm" else x.size // x.shape[-1]
    return max(longest, 1) + CHAIN


@of("batch_norm", "layer_norm")
def _norm(name: str) -> Iterator[Case]:
    for label, x, gamma, beta in norm_calls():
        yield Case(label, (x, gamma, beta), EPS, _k(name, x))


@of("batch_norm_grad", "layer_norm_grad", "batch_norm_inference_grad")
def _norm_grad(name: str) -> Iterator[Case]:
    for label, x, gamma, _ in norm_calls():
        row_wise = name == "layer_norm_grad"
        mean, var = statistics(x, -1 if row_wise else tuple(range(x.ndim - 1)), row_wise)
        args = lay(layout_of(label), normal("dy", *x.shape, dtype=x.dtype))
        # Two rows normalise to +-1 whatever they hold: with a small eps the gradient would be a difference of equals.
        eps = {"eps": 0.5} if x.size == 2 * x.shape[-1] else EPS
        yield Case(label, (*args, x, gamma, mean, var), eps, max(x.size // x.shape[-1], x.shape[-1]) + 4 * CHAIN)


@of("batch_norm_inference")
def _norm_inference() -> Iterator[Case]:
    for label, x, gamma, beta in norm_calls():
        mean = normal("mean", x.shape[-1], dtype=x.dtype)
        yield Case(label, (x, gamma, beta, mean, np.abs(mean) + x.dtype.type(0.1)), EPS)


BIG_SEED, BIG_STEP = 2**64 - 3, 2**32 + 5


@of("dropout")
def _dropout() -> Iterator[Case]:
    for shape in [(0,), (1,), (2,), (7,), (63,), (64, 3), (65, 2), (131, 5), (2, 3, 4), (2, 0, 3), (700, 30), ()]:
        for label, dtype in both("x".join(map(str, shape)) or "scalar"):
            yield Case(label, (normal("x", *shape, dtype=dtype),), {"p": 0.4, "seed": 5, "step": 2, "layer": 3})
    for shared in [(0,), (1,), (-1,), (0, 1), (1, 2), (0, 1, 2)]:
        for label, dtype in both(f"shared{shared}"):
            yield Case(label, (normal("x", 5, 7, 3, dtype=dtype),), {"p": 0.5, "seed": 1, "shared_axes": shared})
    for p in (0.0, 1e-9, 0.1, 0.999999):
        for label, dtype in both(f"p{p}"):
            yield Case(label, (normal("x", 40, 5, dtype=dtype),), {"p": p, "seed": 9})
    for layout in LAYOUTS:
        for label, dtype in both(layout):
            yield Case(label, lay(layout, normal("x", 9, 6, dtype=dtype)), {"p": 0.3, "seed": 2})
            three = lay(layout, normal("x", 4, 5, 6, dtype=dtype))
            yield Case(f"{label}-3d", three, {"p": 0.3, "seed": 2, "shared_axes": (1,)})
    for label, dtype in both("big-seed"):
        x = normal("x", 41, dtype=dtype)
        yield Case(label, (x,), {"p": 0.5, "seed": BIG_SEED, "step": BIG_STEP, "layer": 7})
        x = x.copy()
        x[::3] = np.resize(np.array([np.nan, np.inf], dtype=dtype), x[::3].shape)
        yield Case(label.replace("big-seed", "special"), (x,), {"p": 0.5, "seed": 3})
