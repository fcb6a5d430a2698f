"""Cases of softmax, its logarithm and its masked form."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from cases_kit import CHAIN, LAYOUTS, Case, both, flags, lay, layout_of, normal, of

ROWS = [(0, 5), (1, 1), (2, 2), (7, 3), (63, 10), (64, 64), (65, 63), (131, 65), (3, 1000), (4,), (2, 3, 5), (2, 0, 3)]
ROWS += [(431, 10), (37, 255), (5, 256)]  # several blocks of rows; the widest that come in blocks, and one more


def logit_calls() -> Iterator[tuple[str, Any]]:
    """Yield (id, logits)."""
    for shape in ROWS:
        for label, dtype in both("x".join(map(str, shape))):
            yield label, 3.0 * normal("logits", *shape, dtype=dtype)
    for layout in LAYOUTS:
        for label, dtype in both(layout):
            yield label, *lay(layout, normal("logits", 9, 6, dtype=dtype))
            yield f"{label}-3d", *lay(layout, normal("logits", 2, 3, 6, dtype=dtype))
    for label, dtype in both("huge"):
        yield label, np.array([[1e4, -1e4, 0.0], [1e4, 1e4, 1e4 - 1], [-1e4, -1e4, -1e4], [5, 5, 5]], dtype=dtype)
        special = normal("logits", 6, 4, dtype=dtype)
        special[0, 1], special[1, 1], special[2, 1], special[3, :] = -np.inf, np.inf, np.nan, -np.inf
        special[4, 1:3] = np.inf, -np.inf
        yield label.replace("huge", "special"), special


@of("softmax", "log_softmax")
def _softmax(name: str) -> Iterator[Case]:
    for label, x in logit_calls():
        yield Case(label, (x,), {}, x.shape[-1] + CHAIN)


@of("softmax_grad", "log_softmax_grad")
def _softmax_grad(name: str) -> Iterator[Case]:
    for label, x in logit_calls():
        with np.errstate(all="ignore"):
            shifted = x - x.max(axis=-1, keepdims=True, initial=-np.inf)
            y = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        layout = layout_of(label)
        args = lay(layout, normal("dy", *x.shape, dtype=x.dtype), y if name.startswith("log") else np.exp(y))
        yield Case(label, args, {}, x.shape[-1] + CHAIN)


def masked_calls() -> Iterator[tuple[str, Any, Any]]:
    """Yield (id, logits, mask): with rows that allow nothing, one class, and all; what is forbidden may be NaN."""
    for label, x in logit_calls():
        mask = flags("mask", *x.shape)
        if x.ndim == 2 and x.shape[0] > 6:
            mask[1], mask[2], mask[4] = False, True, np.arange(x.shape[1]) == 0
        layout = layout_of(label)
        yield label, x, *lay(layout, mask)
    for label, dtype in both("forbidden-special"):
        x = normal("logits", 8, 5, dtype=dtype)
        mask = flags("mask", 8, 5)
        mask[1], mask[2] = False, True
        x[~mask] = np.resize(np.array([np.nan, np.inf, -np.inf, 1e4], dtype=dtype), int((~mask).sum()))
        yield label, x, mask


@of("masked_softmax")
def _masked_softmax() -> Iterator[Case]:
    for label, x, mask in masked_calls():
        yield Case(label, (x, mask), {}, x.shape[-1] + CHAIN)


@of("masked_softmax_grad")
def _masked_softmax_grad() -> Iterator[Case]:
    for label, x, mask in masked_calls():
        with np.errstate(all="ignore"):
            allowed = np.where(mask, x, -np.inf)
            e = np.where(mask, np.exp(allowed - np.max(allowed, axis=-1, keepdims=True, initial=-1e30)), 0)
            total = e.sum(axis=-1, keepdims=True)
            y = np.asarray(np.where(total == 0, 0, e / total), dtype=x.dtype)
        dy = normal("dy", *x.shape, dtype=x.dtype)
        if "forbidden" in label:
            dy[~mask] = np.nan
        yield Case(label, (dy, y, mask), {}, x.shape[-1] + CHAIN)
