"""Cases of the dense layer and of the activations."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from cases_kit import CHAIN, LAYOUTS, Case, both, lay, layout_of, normal, of

from mlpx.ops._activation import ACTIVATIONS, TABLE, find

DENSE_SHAPES = [
    (0, 3, 4), (1, 1, 1), (2, 7, 2), (7, 2, 5), (63, 64, 65), (64, 65, 63), (65, 63, 64), (131, 17, 10),
    (5, 0, 3), (5, 3, 0), (1, 300, 70), (260, 120, 80),
]  # fmt: skip
LEADING = [(5,), (2, 3, 5), (2, 0, 5), (1, 2, 1, 5)]


def dense_arrays(dtype: Any, lead: tuple[int, ...], i: int, o: int) -> tuple[Any, Any, Any]:
    """Return x (*lead, i), w (o, i) and b (o,)."""
    w = normal("w", o, i) / max(i, 1) ** 0.5
    return normal("x", *lead, i, dtype=dtype), w.astype(dtype), normal("b", o, dtype=dtype)


def dense_calls() -> Iterator[tuple[str, tuple[Any, Any, Any], str]]:
    """Yield (id, (x, w, b), activation): the calls that forward and gradient share."""
    for n, i, o in DENSE_SHAPES:
        for label, dtype in both(f"{n}x{i}x{o}"):
            yield label, dense_arrays(dtype, (n,), i, o), "relu"
    for name in ACTIVATIONS:
        for label, dtype in both(name):
            yield label, dense_arrays(dtype, (13,), 9, 7), name
    for shape in LEADING:
        for label, dtype in both(f"lead{'x'.join(map(str, shape))}"):
            yield label, dense_arrays(dtype, shape[:-1], shape[-1], 6), "tanh"
    for layout in LAYOUTS:
        for label, dtype in both(layout):
            x, w, b = dense_arrays(dtype, (9,), 8, 6)
            yield label, lay(layout, x, w, b), "sigmoid"
            yield f"{label}-3d", (*lay(layout, dense_arrays(dtype, (2, 3), 8, 6)[0]), w, b), "identity"
    for label, dtype in both("no-bias"):
        x, w, b = dense_arrays(dtype, (9,), 8, 6)
        yield label, (x, w, None), "elu"
        yield label.replace("no-bias", "bias-row"), (x, w, b[None, :]), "silu"
        yield label.replace("no-bias", "zeros"), (x * 0, w, b * 0), "leaky_relu"
    for name in ("identity", "relu", "leaky_relu", "sigmoid", "tanh", "softplus"):
        for label, dtype in both(f"nan-{name}"):
            x, w, b = dense_arrays(dtype, (6,), 8, 6)
            x[1, 2], x[3, 0], x[4, 1] = np.nan, np.inf, -np.inf
            yield label, (x, w, b), name


@of("dense")
def _dense() -> Iterator[Case]:
    for label, arrays, name in dense_calls():
        yield Case(label, arrays, {"activation": name}, arrays[0].shape[-1] + CHAIN)


def saved_by(x: Any, w: Any, b: Any, name: str) -> Any:
    """Return what `dense` saves, by the formula."""
    with np.errstate(all="ignore"):
        z = x @ w.T + (0 if b is None else b)
        return z if find(name).saves == "z" else np.asarray(find(name).function(z, np), dtype=x.dtype)


@of("dense_grad")
def _dense_grad() -> Iterator[Case]:
    for label, (x, w, b), name in dense_calls():
        dy = normal("dy", *x.shape[:-1], w.shape[0], dtype=x.dtype)
        layout = layout_of(label)
        k = max(dy.size // max(w.shape[0], 1), *w.shape) + CHAIN
        saved = saved_by(x, w, b, name)
        args = (*lay(layout, dy), x, w, *lay(layout, saved))
        yield Case(label, args, {"activation": name}, k)
        if "x" in label:
            yield Case(f"{label}-no-dx", args, {"activation": name, "need_dx": False}, k)


@of("dense_grad_rows")
def _dense_grad_rows() -> Iterator[Case]:
    for label, (x, w, b), name in dense_calls():
        if x.ndim == 2:
            dy = normal("dy", x.shape[0], w.shape[0], dtype=x.dtype)
            yield Case(label, (dy, x, saved_by(x, w, b, name)), {"activation": name})


ELEMENTS = (-1e4, -90.0, -6.5, -3.0, -1.0, -0.25, -1e-6, 0.0, 1e-6, 0.25, 1.0, 3.0, 6.5, 80.0)


def activation_calls() -> Iterator[tuple[str, Any, str]]:
    """Yield (id, x, kind)."""
    for name in ACTIVATIONS:
        for label, dtype in both(name):
            yield f"{label}-values", np.array(ELEMENTS, dtype=dtype), name
            yield f"{label}-special", np.array([np.nan, np.inf, -np.inf], dtype=dtype), name
            yield f"{label}-none", normal("x", 0, 3, dtype=dtype), name
            yield f"{label}-rows", normal("x", 5, 3, 4, dtype=dtype), name
    for layout in LAYOUTS:
        for label, dtype in both(layout):
            yield label, *lay(layout, normal("x", 7, 5, dtype=dtype)), "tanh"


@of("activation")
def _activation() -> Iterator[Case]:
    for label, x, kind in activation_calls():
        yield Case(label, (x,), {"kind": kind}, may_alias=(1,) if TABLE[kind].saves == "z" else ())


@of("activation_grad")
def _activation_grad() -> Iterator[Case]:
    for label, x, kind in activation_calls():
        with np.errstate(all="ignore"):
            saved = x if find(kind).saves == "z" else np.asarray(find(kind).function(x, np), dtype=x.dtype)
        yield Case(label, (normal("dy", *x.shape, dtype=x.dtype), saved), {"kind": kind})
