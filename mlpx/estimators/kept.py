"""The steps of a call of ``partial_fit``, kept for the next: a network is laid out, or captured as graphs, once."""

import operator
from typing import Any, NamedTuple

import numpy as np

from mlpx.backend import backend_name, backend_of, dtype_name
from mlpx.estimators.devices import copied
from mlpx.estimators.rows import Rows
from mlpx.estimators.steps import Steps
from mlpx.network import Network
from mlpx.ops.dispatch import fused_mode
from mlpx.optimizers import Optimizer
from mlpx.plan.threads import threads_in_force
from mlpx.typing import Array

ELEMENTS = 1 << 20
"""Elements of a call's rows up to which its steps are kept: so is a copy of the rows."""


class Kept(NamedTuple):
    """Steps over arrays of their own, into which other rows of the same shapes can go."""

    objects: list[Any]
    """What the steps hold on to, each to be the same object."""
    shapes: tuple[Any, ...]
    """What they were made for."""
    steps: Steps


def steps_of_call(estimator: Any, net: Network, rows: Rows, batch_size: int, optimizer: Optimizer, seed: int) -> Steps:
    """Return steps for a call of ``partial_fit``; those kept with the estimator, where they fit."""
    e, alpha = estimator, rows.penalty(float(estimator.alpha))
    options = batch_size, optimizer, alpha, e.n_threads, seed
    if seed or not _small(rows.x):  # what dropout drops is part of the steps
        return Steps(net, rows.x, rows.target, rows.weight, *options, rows.mask)
    parts = rows.x, rows.target, rows.weight, rows.mask
    objects = [net, net.parameters, net.buffers.statistics, optimizer, *optimizer.state]
    arrays = [None if part is None else (tuple(part.shape), dtype_name(part)) for part in parts]
    threads = threads_in_force() if net.backend.name == "numpy" else 0
    shapes = (*arrays, batch_size, alpha > 0.0, threads, fused_mode())
    kept: Kept | None = e._training.kept
    same = kept is not None and len(kept.objects) == len(objects) and all(map(operator.is_, kept.objects, objects))
    if kept is not None and same and kept.shapes == shapes:
        kept.steps.refill(rows, alpha)
        return kept.steps
    x, target, weight, mask = (None if part is None else _own(part) for part in parts)
    steps = Steps(net, x, target, weight, *options, mask)
    e._training.kept = None if net.plan_declined else Kept(objects, shapes, steps)
    return steps


def _small(x: Any) -> bool:
    """Return whether rows are few, and an array of a backend that has kernels: no sparse matrix, say."""
    return backend_name(x) in ("numpy", "cupy") and int(np.prod(x.shape)) <= ELEMENTS


def _own(x: Array) -> Array:
    """Return a copy, C-contiguous, so that nobody copies it again."""
    return backend_of(x).xp.ascontiguousarray(copied(x))
