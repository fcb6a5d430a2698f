"""Parameter updates on CUDA: one kernel over the flat buffers, by itself or as the last launch of a step."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from mlpx_kernels import Unsupported
from mlpx_kernels.cuda.runtime.arrays import THREADS, Launch, ctype, pointer, real_arrays, row_grid
from mlpx_kernels.cuda.runtime.compile import kernel
from mlpx_kernels.updates import Updates

CHUNK = 1024
"""Parameters of a chunk: 16 bytes of float32 for each thread of a block."""
RESIDENT_BLOCKS = 4 * 132
"""Blocks that an H100 holds at once; more would work out the same rates and powers again."""
Group = tuple[int, int, bool, float]
"""(start, stop, whether penalties apply, learning-rate factor)."""


def chunks(groups: Sequence[Group]) -> Any:
    """Return the table of chunks for runs of parameters that are updated alike, on the device, without the frozen ones.

    Rows of 32 bytes held as int64 (n, 4); see struct Chunk in update.cu.
    """
    import cupy

    table = []
    for start, stop, penalties, factor in groups:
        if factor == 0.0:
            continue
        bits = int(np.float64(factor).view(np.int64))
        table += [(at, min(at + CHUNK, stop), bits, int(penalties)) for at in range(start, stop, CHUNK)]
    return cupy.asarray(np.array(table, np.int64).reshape(-1, 4))


def update(
    kind: int,
    w: Any,
    g: Any,
    state: Sequence[Any],
    numbers: Any,
    table: Any,
    *,
    changing: Any = None,
    clock: Any = None,
    squared_norm: Any = None,
    max_norm: float = math.inf,
) -> Launch:
    """Return the launch of one step of the parameters in ``table`` (see `chunks`).

    Parameters
    ----------
    kind : int
        See `mlpx_kernels.updates`.
    w, g : array (k,), state : up to two arrays (k,)
    numbers : array, float64
        On the device, as `mlpx_kernels.updates.encode` makes it.
    changing : array (steps, 3), float64, optional
        What each step has of its own: learning rate, l2 and the number C (Adam's eps); without it ``numbers`` tell.
    clock : array (5,), int64, optional
        The step's clock: the update ends a step, and does nothing after one whose loss was not finite.
    squared_norm : array (1,), float64, optional
        The square of the gradient's norm, which is then brought down to ``max_norm``.
    """
    s1, s2 = (*state, None, None)[:2]
    count = table.shape[0]
    given = (pointer(a) for a in (changing, clock, squared_norm))
    args = (w, g, pointer(s1), pointer(s2), numbers, table, np.int64(count), *given, np.float64(max_norm))
    return partial(kernel("update", f"update<{ctype(w)}, {kind}>"), max(1, min(count, RESIDENT_BLOCKS)), THREADS, args)


def squared_norm(g: Any, result: Any) -> Launch:
    """Return the launch that writes the sum of squares of ``g`` (k,) to ``result`` (1,), float64; deterministic."""
    import cupy

    blocks = row_grid(g.size, 4 * THREADS)
    args = (g, np.int64(g.size), result, cupy.empty(blocks, np.float64), cupy.zeros(1, np.uint32))
    return partial(kernel("update", f"squared_norm<{ctype(g)}>"), blocks, THREADS, args)


def penalty(w: Any, table: Any, *, changing: Any, clock: Any, penalties: Any) -> Launch:
    """Return the launch that writes ``l2 / 2 |w|^2`` to the step's place in ``penalties`` (steps,), float64.

    Of the weights in ``table`` that penalties apply to; ``changing`` and ``clock`` as in `update`. Deterministic.
    """
    import cupy

    count = table.shape[0]
    blocks = max(1, min(count, RESIDENT_BLOCKS))
    sums = (cupy.empty(blocks, np.float64), cupy.zeros(1, np.uint32))
    args = (w, table, np.int64(count), changing, clock, penalties, *sums)
    return partial(kernel("update", f"penalty<{ctype(w)}>"), blocks, THREADS, args)


def step(
    kind: int,
    w: Any,
    g: Any,
    state: Sequence[Any],
    *,
    numbers: Any,
    groups: Sequence[Group],
    changing: Any,
    clock: Any,
    max_norm: float | None = None,
    penalties: Any = None,
) -> list[Launch]:
    """Return the launches that end a training step: penalty, the gradient's norm where that is clipped, and the update.

    ``numbers`` lie on the host; the others as in `update`, `chunks` and `penalty`, which is left out without
    ``penalties``.
    """
    import cupy

    shared, table = {"changing": changing, "clock": clock}, chunks(groups)
    given = (kind, w, g, state, cupy.asarray(numbers), table)
    first = [] if penalties is None else [penalty(w, table, **shared, penalties=penalties)]
    if max_norm is None:
        return [*first, update(*given, **shared)]
    square = cupy.empty(1, np.float64)
    clipped = update(*given, **shared, squared_norm=square, max_norm=max_norm)
    return [*first, squared_norm(g, square), clipped]


def _run(w, g, states, kind, numbers):
    """Take one step of all weights, for `Updates`."""
    import cupy

    for array in (w, *states):
        if not array.flags.c_contiguous or array.ndim != 1:
            raise Unsupported("update: the kernels want flat, contiguous arrays")
    _, g, *_ = real_arrays(w, *((array, w.size) for array in (g, *states)), name="update")
    if w.size:
        table = chunks([(0, w.size, True, 1.0)])
        update(kind, w, g, states, cupy.asarray(numbers), table)()


_updates = Updates(_run)
sgd_inplace = _updates.sgd_inplace
momentum_inplace = _updates.momentum_inplace
adagrad_inplace = _updates.adagrad_inplace
rmsprop_inplace = _updates.rmsprop_inplace
adadelta_inplace = _updates.adadelta_inplace
adam_inplace = _updates.adam_inplace
rprop_inplace = _updates.rprop_inplace
