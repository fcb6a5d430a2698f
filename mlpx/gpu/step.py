"""A whole training step on a GPU: gather, the network's launches, loss, update, and the clock that tells them apart."""

from typing import Any

import numpy as np

from mlpx import plan_numbers
from mlpx.batch import Batch
from mlpx.gpu.plan import GraphPlan, Launches
from mlpx.network import Network
from mlpx.optimizers import Optimizer
from mlpx.plan import kernels
from mlpx.typing import Array
from mlpx_kernels import Unsupported

NEXT, STEP, FIRST_STEP, UPDATES, FAILED, CLOCK_SIZE = range(6)
"""Places in the clock; see struct Clock in common.cuh."""


class GraphStep:
    """The launches of a step and the arrays in which its numbers lie.

    Parameters
    ----------
    net : Network
    source : Batch
        What steps gather from, on the device.
    n_rows : int
        The most rows of a slice of steps.
    batch_size : int
    optimizer : Optimizer
        Started.
    seed : int
        Chooses dropout masks.

    Raises
    ------
    Unsupported
        If the network or its data cannot be trained so; the message says why.
    """

    def __init__(
        self, net: Network, source: Batch, n_rows: int, batch_size: int, optimizer: Optimizer, seed: int
    ) -> None:
        if source.x.ndim != 2 or source.valid is not None:
            raise Unsupported("sequences run layer by layer")
        self.net, self.source, self.optimizer, self.batch_size = net, source, optimizer, batch_size
        self.loss, self.column, self.option = plan_numbers.of_loss(net)
        xp = self.xp = net.backend.xp
        mask = net.loss_mask(source)
        self.given = {"x": source.x, "target": source.target, "sample_weight": source.sample_weight, "mask": mask}
        self.batch = Batch(*(None if a is None else self._room(a) for a in (source.x, source.target, mask)))
        self.batch.sample_weight = None if source.sample_weight is None else self._room(source.sample_weight)
        most = -(-n_rows // batch_size)
        self.clock = xp.zeros(CLOCK_SIZE, np.int64)
        self.order = xp.empty(n_rows, np.int64)
        self.rates, self.losses = xp.empty(most, np.float64), xp.empty(most, np.float64)
        self.began = np.zeros(CLOCK_SIZE, np.int64)
        self.plan = GraphPlan(net, self.batch, seed, self.clock, bias_later=True)

    def _room(self, source: Array) -> Array:
        return self.xp.empty((self.batch_size, *source.shape[1:]), source.dtype)

    def launches(self, n: int, *, split: bool) -> list[Launches]:
        """Return the launches of a step over n rows: all in one list, or those up to the gradient and the others."""
        forward, backward = self.plan.launches(n)
        first = [self._gather(n), *forward, *self._loss(n), *backward]
        return [first, self._update()] if split else [first + self._update()]

    def _gather(self, n: int) -> Any:
        batch = {name: getattr(self.batch, name) for name in self.given}
        make = kernels("gather", "cuda").gather
        return make(self.given, batch, self.order, self.clock, batch_size=self.batch_size, rows=n)

    def _loss(self, n: int) -> Launches:
        """Return the launch of loss and gradient, and before it that of the total weight where rows differ in it."""
        k = kernels("loss", "cuda")
        z, dz = self.plan.output(n)
        target = self.batch.target[:n]
        mask, weight = (None if a is None else a[:n] for a in (self.batch.mask, self.batch.sample_weight))
        column = self.xp.asarray(self.column) if self.column.size else None
        common = {"bias": self.plan.last_bias, "sample_weight": weight, "mask": mask}
        common |= {"losses": self.losses, "clock": self.clock}
        if self.loss:
            total = None if weight is None else self.xp.empty(1, np.float64)
            level = float(self.column[0]) if self.column.size == 1 else 1.0
            options = {"column": column if self.column.size > 1 else None, "level": level, "option": self.option}
            loss = k.element_loss(self.loss, z, target, dz, total=total, **options, **common)
            weights: dict[str, Any] = {"sample_weight": weight}
        else:
            weights = {"sample_weight": weight, "class_weight": column, "mask": mask}
            weights["labels" if target.dtype.kind == "i" else "dense"] = target
            plain = weight is None and column is None and mask is None
            total = None if plain else self.xp.empty(1, np.float64)
            loss = k.cross_entropy(z, dz, total=total, smoothing=self.option, **(common | weights))
        if total is None:
            return [loss]
        real = "double" if self.net.dtype == "float64" else "float"
        return [k.total_weight(total, z.shape, real=real, **weights), loss]

    def _update(self) -> Launches:
        """Return the launch of the update, and before it that of the gradient's norm where that is clipped."""
        k, net, optimizer = kernels("update", "cuda"), self.net, self.optimizer
        kind, numbers = plan_numbers.of_update(optimizer)
        return list(
            k.step(
                kind,
                net.buffers.parameters,
                net.buffers.gradient,
                optimizer.state,
                numbers=numbers,
                groups=net.buffers.groups,
                rates=self.rates,
                clock=self.clock,
                max_norm=optimizer.clip_norm,
            )
        )

    def begin(self, rows: Array, rates: Array, first_step: int, updates: int) -> None:
        """Set the device up for a slice of steps over ``rows``, at some learning rates."""
        self.order[: rows.size].set(np.ascontiguousarray(rows, np.int64))
        self.rates[: rates.size].set(np.ascontiguousarray(rates, np.float64))
        self.began[[FIRST_STEP, UPDATES]] = first_step, updates
        self.rewind()

    def rewind(self) -> None:
        """Set the clock to the slice's first step."""
        self.clock.set(self.began)

    def finish(self, steps: int) -> tuple[Array, int]:
        """Wait for the slice; return its losses (steps,), and how many were finite before one was not."""
        losses, clock = self.losses[:steps].get(), self.clock.get()
        return losses, int(clock[FAILED]) - 1 if clock[FAILED] else steps
