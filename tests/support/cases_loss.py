"""Cases of the losses: every optional argument alone and together, rows that count for nothing, forbidden classes."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from cases_kit import CHAIN, LAYOUTS, Case, both, flags, lay, normal, of

SHAPES = [
    (0, 5),
    (1, 1),
    (2, 2),
    (7, 3),
    (63, 10),
    (64, 65),
    (65, 64),
    (131, 17),
    (3, 1000),
    (2, 3, 5),
    (2, 0, 3),
    (4,),
]


def weights(label: str, *shape: int, dtype: Any) -> Any:
    """Return numbers in [0, 2], some of them 0."""
    w = np.abs(normal(label, *shape)).clip(0, 2)
    return np.where(flags(label, *shape, share=0.8), w, 0.0).astype(dtype)


def probabilities(label: str, *shape: int, dtype: Any) -> Any:
    """Return rows that sum to one, with some zeros."""
    p = np.abs(normal(label, *shape)) * flags(label, *shape, share=0.7) + 1e-3
    return (p / p.sum(axis=-1, keepdims=True)).astype(dtype)


def labels(*shape: int, c: int, dtype: Any = "int64") -> Any:
    """Return class numbers from 0 to c - 1."""
    return np.array(np.abs(normal("label", *shape)) * 1e6 % c, dtype=dtype)


def with_targets_allowed(mask: Any, target: Any) -> Any:
    """Return the mask with every target's class allowed."""
    c = mask.shape[-1]
    hot = (target[..., None] == np.arange(c)) if target.dtype.kind in "iu" else target != 0
    return mask | hot


@of("softmax_cross_entropy")
def _softmax_cross_entropy() -> Iterator[Case]:
    for shape in SHAPES:
        for label, dtype in both("x".join(map(str, shape))):
            z, c = 3.0 * normal("z", *shape, dtype=dtype), shape[-1]
            k = z.size + CHAIN
            y = labels(*shape[:-1], c=c)
            yield Case(f"{label}-labels", (z, y), {}, k)
            yield Case(f"{label}-dense", (z, probabilities("t", *shape, dtype=dtype)), {}, k)
            if shape != (4,):
                mask = with_targets_allowed(flags("mask", *shape), y)
                args = (z, y, weights("r", *shape[:-1], dtype=dtype), weights("class", c, dtype=dtype), mask)
                yield Case(f"{label}-everything", args, {"label_smoothing": 0.1}, k)
    yield from _softmax_cross_entropy_options()
    yield from _softmax_cross_entropy_special()


def _softmax_cross_entropy_options() -> Iterator[Case]:
    n, c = 9, 6
    k = n * c + CHAIN
    for label, dtype in both("options"):
        z, y = 3.0 * normal("z", n, c, dtype=dtype), labels(n, c=c)
        r, cw = weights("r", n, dtype=dtype), weights("class", c, dtype=dtype)
        for kind, target in (("labels", y), ("dense", probabilities("t", n, c, dtype=dtype))):
            mask = with_targets_allowed(flags("mask", n, c), target)
            for use_r, use_cw, use_mask, s in product((0, 1), (0, 1), (0, 1), (0.0, 0.2)):
                args = (z, target, r if use_r else None, cw if use_cw else None, mask if use_mask else None)
                yield Case(f"{label}-{kind}-r{use_r}-cw{use_cw}-m{use_mask}-s{s}", args, {"label_smoothing": s}, k)
        yield Case(f"{label}-smoothing-1", (z, y), {"label_smoothing": 1.0}, k)
        for kind in ("int32", "uint8"):
            yield Case(f"{label}-{kind}", (z, labels(n, c=c, dtype=kind)), {}, k)
        for layout in LAYOUTS:
            mask = with_targets_allowed(flags("mask", n, c), y)
            args = lay(layout, z, y, r, cw, mask)
            yield Case(f"{label}-{layout}", args, {"label_smoothing": 0.1}, k)
            dense = lay(layout, z, probabilities("t", n, c, dtype=dtype))
            yield Case(f"{label}-{layout}-dense", dense, {}, k)
            three = lay(layout, normal("z", 2, 3, c, dtype=dtype), labels(2, 3, c=c), weights("r", 2, 3, dtype=dtype))
            yield Case(f"{label}-{layout}-3d", three, {}, k)


def _softmax_cross_entropy_special() -> Iterator[Case]:
    n, c = 8, 5
    k = n * c + CHAIN
    for label, dtype in both("special"):
        y = labels(n, c=c)
        z = 3.0 * normal("z", n, c, dtype=dtype)
        yield Case(f"{label}-huge", (z * dtype.type(1e4), y), {}, k)
        yield Case(f"{label}-constant", (np.full((n, c), 1e4, dtype=dtype), y), {}, k)
        zero = np.zeros(n, dtype=dtype)
        yield Case(f"{label}-no-row-counts", (z, y, zero), {}, k)
        r = np.where(np.arange(n) % 3 == 0, 0.0, 1.5).astype(dtype)
        padded = z.copy()
        padded[::3] = np.nan
        padded[0] = np.inf
        yield Case(f"{label}-nan-in-rows-of-weight-0", (padded, y, r), {"label_smoothing": 0.1}, k)
        yield Case(f"{label}-nan-in-a-row-that-counts", (padded, y), {}, k)
        hot = z.copy()
        hot[2, 1], hot[3, 2] = np.inf, -np.inf
        yield Case(f"{label}-inf", (hot, y), {}, k)
        mask = with_targets_allowed(flags("mask", n, c), y)
        mask[1] = False
        hidden = np.where(mask, z, np.resize(np.array([np.nan, np.inf, -np.inf], dtype=dtype), (n, c)))
        yield Case(f"{label}-nan-under-the-mask", (hidden, y, None, None, mask), {}, k)
        yield Case(f"{label}-nan-under-the-mask-smooth", (hidden, y, r, None, mask), {"label_smoothing": 0.3}, k)
        yield Case(f"{label}-nothing-allowed", (z, y, None, None, np.zeros((n, c), dtype=bool)), {}, k)
        forbidden = np.ones((n, c), dtype=bool)
        forbidden[3, y[3]] = False
        yield Case(f"{label}-target-forbidden", (z, y, None, None, forbidden), {}, k)


@of("softmax_focal")
def _softmax_focal() -> Iterator[Case]:
    for shape in SHAPES:
        for label, dtype in both("x".join(map(str, shape))):
            z, y = 3.0 * normal("z", *shape, dtype=dtype), labels(*shape[:-1], c=shape[-1])
            k = z.size + CHAIN
            yield Case(f"{label}-labels", (z, y), {}, k)
            if shape != (4,):
                mask = with_targets_allowed(flags("mask", *shape), y)
                yield Case(f"{label}-all", (z, y, weights("r", *shape[:-1], dtype=dtype), mask), {"focus": 0.5}, k)
    n, c = 8, 5
    k = n * c + CHAIN
    for label, dtype in both("special"):
        z, y = 3.0 * normal("z", n, c, dtype=dtype), labels(n, c=c)
        yield Case(f"{label}-dense", (z, probabilities("t", n, c, dtype=dtype)), {"focus": 1.0}, k)
        yield Case(f"{label}-focus-0", (z, y), {"focus": 0.0}, k)
        yield Case(f"{label}-huge", (z * dtype.type(1e4), y), {}, k)
        yield Case(f"{label}-huge-sharp", (z * dtype.type(1e4), y), {"focus": 0.3}, k)
        r = np.where(np.arange(n) % 3 == 0, 0.0, 1.5).astype(dtype)
        bad = z.copy()
        bad[::3] = np.nan
        yield Case(f"{label}-nan-in-rows-of-weight-0", (bad, y, r), {}, k)
        yield Case(f"{label}-nan-in-a-row-that-counts", (bad, y), {}, k)
        mask = with_targets_allowed(flags("mask", n, c), y)
        mask[1] = False
        yield Case(f"{label}-nan-under-the-mask", (np.where(mask, z, dtype.type(np.nan)), y, None, mask), {}, k)
        for layout in LAYOUTS:
            yield Case(f"{label}-{layout}", lay(layout, z, y, r, mask), {}, k)


# --- losses of single outputs -----------------------------------------------------------------------------------------

REGRESSION: dict[str, list[dict[str, Any]]] = {
    "squared_error": [{}],
    "absolute_error": [{}],
    "huber": [{}, {"delta": 0.3}],
    "quantile": [{}, {"q": (0.9,)}],
    "poisson": [{}],
    "gamma": [{}],
    "hinge": [{}],
    "sigmoid_focal": [{}, {"focus": 0.5}],
}


def _target(name: str, *shape: int, dtype: Any) -> Any:
    """Return targets that suit the loss: probabilities, counts, positive or any numbers."""
    t = normal("t", *shape)
    if name in ("sigmoid_cross_entropy", "sigmoid_focal"):
        t = np.where(flags("hard", *shape), t > 0, 1 / (1 + np.exp(-t)))
    elif name == "poisson":
        t = np.round(np.abs(3 * t))
    elif name == "gamma":
        t = np.exp(t)
    elif name == "hinge":
        t = t > 0
    return t.astype(dtype)


def _element_cases(name: str, extra: list[dict[str, Any]]) -> Iterator[Case]:
    for shape in SHAPES:
        for label, dtype in both("x".join(map(str, shape))):
            y, t = normal("y", *shape, dtype=dtype), _target(name, *shape, dtype=dtype)
            for number, params in enumerate(extra):
                yield Case(f"{label}-{number}", (y, t), params, y.size + CHAIN)
            r = None if shape == (4,) else weights("r", *shape[:-1], dtype=dtype)
            yield Case(f"{label}-all", _optional(name, y, t, r, flags("mask", *shape)), extra[-1], y.size + CHAIN)
    for label, dtype in both("special"):
        y, t = normal("y", 6, 4, dtype=dtype), _target(name, 6, 4, dtype=dtype)
        k = y.size + CHAIN
        r = np.array([0, 1, 0, 2, 0.5, 1], dtype=dtype)
        mask = flags("mask", 6, 4)
        for kind, args in (("r", (y, t, r)), ("mask", _optional(name, y, t, None, mask)), ("zero", (y, t, r * 0))):
            yield Case(f"{label}-{kind}", args, {}, k)
        bad = y.copy()
        bad[0], bad[2, 1] = np.nan, np.inf
        yield Case(f"{label}-nan-in-rows-of-weight-0", (bad, t, r), {}, k)
        yield Case(f"{label}-nan-in-a-row-that-counts", (bad, t), {}, k)
        yield Case(f"{label}-nan-under-the-mask", _optional(name, np.where(mask, y, np.nan), t, r, mask), {}, k)
        yield Case(f"{label}-equal", (t, t), {}, k)
    for layout in LAYOUTS:
        for label, dtype in both(layout):
            arrays = (normal("y", 7, 4, dtype=dtype), _target(name, 7, 4, dtype=dtype), weights("r", 7, dtype=dtype))
            yield Case(label, _optional(name, *lay(layout, *arrays, flags("mask", 7, 4))), {}, 28 + CHAIN)


def _optional(name: str, y: Any, t: Any, r: Any, mask: Any) -> tuple[Any, ...]:
    """Return the arguments in the op's order; sigmoid_cross_entropy has one more before the mask."""
    return (y, t, r, None, mask) if name == "sigmoid_cross_entropy" else (y, t, r, mask)


@of(*REGRESSION)
def _regression(name: str) -> Iterator[Case]:
    yield from _element_cases(name, REGRESSION[name])
    if name == "quantile":
        for label, dtype in both("levels"):
            args = (normal("y", 7, 3, dtype=dtype), normal("t", 7, 3, dtype=dtype), weights("r", 7, dtype=dtype))
            yield Case(label, args, {"q": (0.1, 0.5, 0.9)}, 21 + CHAIN)


@of("sigmoid_cross_entropy")
def _sigmoid_cross_entropy() -> Iterator[Case]:
    yield from _element_cases("sigmoid_cross_entropy", [{}, {"label_smoothing": 0.1}])
    for label, dtype in both("options"):
        z, t = 3.0 * normal("z", 9, 5, dtype=dtype), _target("sigmoid_cross_entropy", 9, 5, dtype=dtype)
        r, pw = weights("r", 9, dtype=dtype), weights("pos", 5, dtype=dtype)
        for use_r, use_pw, use_mask, s in product((0, 1), (0, 1), (0, 1), (0.0, 0.2)):
            args = (z, t, r if use_r else None, pw if use_pw else None, flags("mask", 9, 5) if use_mask else None)
            yield Case(f"{label}-r{use_r}-pw{use_pw}-m{use_mask}-s{s}", args, {"label_smoothing": s}, 45 + CHAIN)
        yield Case(f"{label}-smoothing-1", (z, t), {"label_smoothing": 1.0}, 45 + CHAIN)
        yield Case(f"{label}-huge", (z * dtype.type(1e4), (t > 0.5).astype(dtype)), {}, 45 + CHAIN)
        sure = np.where(t > 0.5, np.inf, -np.inf).astype(dtype)
        yield Case(f"{label}-infinitely-sure-and-right", (sure, (t > 0.5).astype(dtype)), {}, 45 + CHAIN)
        yield Case(f"{label}-infinitely-sure-and-wrong", (-sure, (t > 0.5).astype(dtype)), {}, 45 + CHAIN)
