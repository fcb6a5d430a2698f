"""Training steps layer by layer: the path that every network can take, on every backend."""

import math
from collections.abc import Callable
from typing import Any

from mlpx.batch import Batch
from mlpx.divergence import diagnose
from mlpx.layers import Context
from mlpx.network import Network
from mlpx.optimizers import Optimizer
from mlpx.typing import Array

AfterSteps = Callable[[int], None]
"""Called with the number of steps just taken; may raise to end the fit between two steps."""
GradientHook = Callable[[Array], Any]
"""Called with the flat gradient (k,) between the backward pass and the update; it may change it in place."""


class LayerSteps:
    """Epochs of steps that keep the weights of before the last update until the next loss is seen to be finite."""

    def __init__(
        self,
        net: Network,
        train: Batch,
        batch_size: int,
        optimizer: Optimizer,
        *,
        seed: int,
        n_steps: int,
        gradient_hook: GradientHook | None = None,
    ) -> None:
        self.gradient_hook = gradient_hook
        self.net, self.train, self.optimizer = net, train, optimizer
        self.batch_size, self.seed, self.n_steps = batch_size, seed, n_steps
        self.lr = optimizer.lr
        self.good = net.backend.xp.asarray(net.parameters, copy=True)

    def epoch(self, epoch: int, order: Array, first: int, after: AfterSteps) -> float:
        """Take one epoch's steps over the rows in ``order``; return the mean loss.

        ``first`` is the number of the epoch's first step.
        """
        total = 0.0
        for number, start in enumerate(range(0, order.size, self.batch_size)):
            rows = order[start : start + self.batch_size]
            batch = self.train.take(self.net.backend.asarray(rows))
            context = Context(True, self.seed, first + number, batch.mask, batch.valid, need_dx=False)
            total += self.step(batch, context, epoch) * rows.size
            if start + self.batch_size >= order.size:
                self._check_last_update(batch, context, epoch)
            after(1)
        return total / int(order.size)

    def _check_last_update(self, batch: Batch, context: Context, epoch: int) -> None:
        """Raise where an epoch's last update led to weights that are not finite: no later step need see them."""
        net, buffers = self.net, self.net.buffers
        if bool(net.backend.xp.all(net.backend.xp.isfinite(buffers.parameters))):
            return
        statistics = net.backend.xp.asarray(buffers.statistics, copy=True)
        error = diagnose(net, batch, context, context.step + 1, epoch)
        buffers.parameters[...], buffers.statistics[...] = self.good, statistics
        raise error

    def step(self, batch: Batch, context: Context, epoch: int) -> float:
        """Take one step; raise DivergenceError with the last good weights in place where it cannot be taken."""
        net, buffers = self.net, self.net.buffers
        xp = net.backend.xp
        statistics = xp.asarray(buffers.statistics, copy=True)
        loss = float(net.step(batch, context))
        if self.gradient_hook is not None:
            self.gradient_hook(buffers.gradient)
        if not (math.isfinite(loss) and bool(xp.isfinite(xp.sum(net.gradient)))):
            error = diagnose(net, batch, context, context.step, epoch)
            buffers.parameters[...], buffers.statistics[...] = self.good, statistics
            raise error
        self.good[...] = buffers.parameters
        self.lr = float(self.optimizer.rates(context.step, 1, self.n_steps, epoch)[0])
        self.optimizer.update(net, self.lr)
        return loss
