"""A whole training step on a GPU: gather, the network's launches, loss, update, and the clock that tells them apart."""

import math
from typing import Any

import numpy as np

from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.optimizers import Optimizer
from mlpx.steps import kernel_codes
from mlpx.steps.gpu_plan import GraphPlan, Launches
from mlpx.typing import Array
from mlpx_kernels import Unsupported, updates
from mlpx_kernels.cuda import loss as loss_kernels
from mlpx_kernels.cuda import margin as margin_kernels
from mlpx_kernels.cuda import update as update_kernels
from mlpx_kernels.cuda.plan import gather

NEXT, STEP, FIRST_STEP, UPDATES, FAILED, CLOCK_SIZE = range(6)
"""Places in the clock; see struct Clock in common.cuh."""


class GraphStep:
    """The launches of a step and the arrays in which its numbers lie.

    Parameters
    ----------
    net : Network
    sources : list of Batch
        What steps gather from, on the device; each step from one of them.
    n_rows : int
        The most rows of a slice of steps.
    batch_size : int
    optimizer : Optimizer
        Started.
    seed : int
        Chooses dropout masks.
    precision : str
        See `mlpx.steps.gpu_plan.GraphPlan`.
    ceiling, penalty
        See `mlpx.steps.gpu.GraphSteps`.

    Raises
    ------
    Unsupported
        If the network or its data cannot be trained so; the message says why.
    """

    def __init__(
        self,
        net: Network,
        sources: list[Batch],
        n_rows: int,
        batch_size: int,
        optimizer: Optimizer,
        seed: int,
        precision: str,
        ceiling: float,
        penalty: bool,
    ) -> None:
        source = sources[0]
        if source.x.ndim != 2 or source.valid is not None:
            raise Unsupported("sequences run layer by layer")
        self.net, self.optimizer, self.batch_size, self.ceiling = net, optimizer, batch_size, ceiling
        self.loss, self.column, self.option = kernel_codes.of_loss(net)
        xp = self.xp = net.backend.xp
        parts = [
            {"x": s.x, "target": s.target, "mask": net.loss_mask(s), "sample_weight": s.sample_weight} for s in sources
        ]
        self.given = [
            {name: None if part is None else xp.ascontiguousarray(part) for name, part in given.items()}
            for given in parts
        ]
        self.batch = Batch(*(None if part is None else self._room(part) for part in self.given[0].values()))
        most = -(-n_rows // batch_size)
        self.clock = xp.zeros(CLOCK_SIZE, np.int64)
        self.order = xp.empty(n_rows, np.int64)
        self.changing, self.losses = xp.empty((most, 3), np.float64), xp.empty(most, np.float64)
        self.penalties = xp.empty(most, np.float64) if penalty else None
        self.own_c = float(kernel_codes.of_update(optimizer)[1][updates.C])
        self.began = np.zeros(CLOCK_SIZE, np.int64)
        self.plan = GraphPlan(net, self.batch, seed, self.clock, bias_later=True, precision=precision)

    def _room(self, source: Array) -> Array:
        return self.xp.empty((self.batch_size, *source.shape[1:]), source.dtype)

    def launches(self, n: int, *, split: bool) -> list[list[Launches]]:
        """Return the launches of a step over n rows from each source: in one list, or up to the gradient and behind."""
        forward, backward = self.plan.launches(n)
        middle, last = [*forward, *self._loss(n), *backward], self._update()
        firsts = [[*self._gather(given, n), *middle] for given in self.given]
        return [[first, last] if split else [first + last] for first in firsts]

    def _gather(self, given: dict[str, Array | None], n: int) -> Launches:
        batch = {name: getattr(self.batch, name) for name in given}
        return [gather.gather(given, batch, self.order, self.clock, batch_size=self.batch_size, rows=n)]

    def _loss(self, n: int) -> Launches:
        """Return the launch of loss and gradient, and before it that of the total weight where rows differ in it."""
        z, dz = self.plan.output(n)
        target = self.batch.target[:n]
        mask, weight = (None if a is None else a[:n] for a in (self.batch.mask, self.batch.sample_weight))
        column = self.xp.asarray(self.column) if self.column.size else None
        common = {"bias": self.plan.last_bias, "sample_weight": weight, "mask": mask}
        common |= {"losses": self.losses, "clock": self.clock}
        if kernel_codes.LOSSES[self.loss] not in ("cross_entropy", "focal"):
            total = None if weight is None else self.xp.empty(1, np.float64)
            level = float(self.column[0]) if self.column.size == 1 else 1.0
            options = {"column": column if self.column.size > 1 else None, "level": level, "option": self.option}
            code = self.loss
            if code == loss_kernels.BINARY and math.isfinite(self.ceiling):
                code, options["option"] = loss_kernels.CLIPPED_BINARY, self.ceiling
            loss = loss_kernels.element_loss(code, z, target, dz, total=total, **options, **common)
            weights: dict[str, Any] = {"sample_weight": weight}
        else:
            weights = {"sample_weight": weight, "class_weight": column, "mask": mask}
            weights["labels" if target.dtype.kind == "i" else "dense"] = target
            plain = weight is None and column is None and mask is None
            total = None if plain else self.xp.empty(1, np.float64)
            given = common | weights | {"total": total}
            if self.loss == 0:
                loss = loss_kernels.cross_entropy(z, dz, smoothing=self.option, ceiling=self.ceiling, **given)
            else:
                loss = margin_kernels.focal(z, dz, focus=self.option, **given)
        if total is None:
            return [loss]
        real = "double" if self.net.dtype == "float64" else "float"
        return [loss_kernels.total_weight(total, z.shape, real=real, **weights), loss]

    def _update(self) -> Launches:
        """Return the launch of the update, and before it those of the penalty and the norm that it is clipped to."""
        net, optimizer = self.net, self.optimizer
        kind, numbers = kernel_codes.of_update(optimizer)
        return list(
            update_kernels.step(
                kind,
                net.buffers.parameters,
                net.buffers.gradient,
                optimizer.state,
                numbers=numbers,
                groups=net.buffers.groups,
                changing=self.changing,
                clock=self.clock,
                max_norm=optimizer.clip_norm,
                penalties=self.penalties,
            )
        )

    def begin(self, rows: Array, changing: Array, first_step: int, updates: int) -> None:
        """Set the device up for a slice of steps over ``rows``; ``changing`` (steps, 3) is what each has of its own."""
        self.order[: rows.size].set(np.ascontiguousarray(rows, np.int64))
        self.changing[: len(changing)].set(changing)
        self.began[[FIRST_STEP, UPDATES]] = first_step, updates
        self.rewind()

    def rewind(self) -> None:
        """Set the clock to the slice's first step."""
        self.clock.set(self.began)

    def finish(self, steps: int) -> tuple[Array, int]:
        """Wait for the slice; return its losses and penalties (2, steps), and how many losses were finite."""
        losses = np.zeros((2, steps))
        losses[0], clock = self.losses[:steps].get(), self.clock.get()
        if self.penalties is not None:
            losses[1] = self.penalties[:steps].get()
        return losses, int(clock[FAILED]) - 1 if clock[FAILED] else steps
