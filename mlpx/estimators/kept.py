"""The steps of a call of ``partial_fit``, kept for the next: a network is laid out, or captured as graphs, once."""

from typing import Any

import numpy as np

from mlpx.backend import backend_name, backend_of, dtype_name
from mlpx.estimators.devices import copied
from mlpx.estimators.rows import Rows
from mlpx.estimators.steps import Steps
from mlpx.network import Network
from mlpx.op import fused_mode
from mlpx.optimizers import Optimizer
from mlpx.typing import Array

ELEMENTS = 1 << 20
"""Elements of a call's rows up to which its steps are kept: so is a copy of the rows."""


class Kept:
    """Steps over arrays of their own, into which other rows of the same shapes can go.

    Parameters
    ----------
    net : Network
    rows : Rows
        Dense.
    batch_size : int
    optimizer : Optimizer
        Started.
    alpha, n_threads
        As in `Steps`.
    """

    def __init__(
        self, net: Network, rows: Rows, batch_size: int, optimizer: Optimizer, alpha: float, n_threads: int | None
    ) -> None:
        self.objects = _objects(net, optimizer)
        self.shapes = _shapes(rows, batch_size, alpha, n_threads)
        x, target = _own(rows.x), _own(rows.target)
        weight, mask = (None if part is None else _own(part) for part in (rows.weight, rows.mask))
        self.steps = Steps(net, x, target, weight, batch_size, optimizer, alpha, n_threads, mask=mask)

    def fits(
        self, net: Network, rows: Rows, batch_size: int, optimizer: Optimizer, alpha: float, n_threads: int | None
    ) -> bool:
        """Return whether the steps are those that `Kept` would make, but for the numbers in the rows."""
        objects = _objects(net, optimizer)
        same = len(objects) == len(self.objects) and all(a is b for a, b in zip(objects, self.objects, strict=True))
        return same and self.shapes == _shapes(rows, batch_size, alpha, n_threads)


def steps_of_call(estimator: Any, net: Network, rows: Rows, batch_size: int, optimizer: Optimizer, seed: int) -> Steps:
    """Return steps for a call of ``partial_fit``; those kept with the estimator, where they fit."""
    e, alpha = estimator, float(estimator.alpha)
    if seed or not _small(rows.x):  # what dropout drops is part of the steps
        return Steps(net, rows.x, rows.target, rows.weight, batch_size, optimizer, alpha, e.n_threads, seed, rows.mask)
    given = net, rows, batch_size, optimizer, alpha, e.n_threads
    kept = vars(e).get("_kept")
    if kept is not None and kept.fits(*given):
        kept.steps.refill(rows)
    else:
        kept = Kept(*given)
        e._kept = None if net.plan_declined else kept
    steps: Steps = kept.steps
    return steps


def _small(x: Any) -> bool:
    """Return whether rows are few, and an array of a backend that has kernels: no sparse matrix, say."""
    return backend_name(x) in ("numpy", "cupy") and int(np.prod(x.shape)) <= ELEMENTS


def _own(x: Array) -> Array:
    """Return a copy, C-contiguous, so that nobody copies it again."""
    return backend_of(x).xp.ascontiguousarray(copied(x))


def _objects(net: Network, optimizer: Optimizer) -> list[Any]:
    """Return what steps hold on to."""
    return [net, net.parameters, net.buffers.statistics, optimizer, *optimizer.state]


def _shapes(rows: Rows, batch_size: int, alpha: float, n_threads: int | None) -> tuple[Any, ...]:
    """Return what steps are made for."""
    parts = rows.x, rows.target, rows.weight, rows.mask
    arrays = [None if part is None else (tuple(part.shape), dtype_name(part)) for part in parts]
    return *arrays, batch_size, alpha, n_threads, fused_mode()
