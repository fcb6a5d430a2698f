"""Training steps layer by layer: the path that every network can take, on every backend."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

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


class FitSteps(ABC):
    """The steps of a fit, epoch by epoch or any number of them at a time.

    Attributes
    ----------
    lr : float
        The learning rate of the last step.
    """

    def __init__(
        self, net: Network, train: Batch, batch_size: int, optimizer: Optimizer, seed: int, n_steps: int
    ) -> None:
        self.net, self.train, self.optimizer = net, train, optimizer
        self.batch_size, self.seed, self.n_steps = batch_size, seed, n_steps
        self.lr = optimizer.lr

    def epoch(self, epoch: int, order: Array, first: int, after: AfterSteps) -> float:
        """Take one epoch's steps over the rows in ``order``; return the mean loss.

        ``first`` is the number of the epoch's first step.
        """
        n, batch = order.size, self.batch_size
        per_epoch = -(-n // batch)
        losses = self.take(order, epoch, first, self.optimizer.rates(first, per_epoch, self.n_steps, epoch), after)
        sizes = np.full(per_epoch, batch)
        sizes[-1] = n - batch * (per_epoch - 1)
        return float(losses[0] @ sizes) / int(n)

    @abstractmethod
    def take(
        self,
        order: Array,
        epoch: int,
        first: int,
        rates: Array,
        after: AfterSteps,
        *,
        l2: Array | None = None,
        eps: Array | None = None,
    ) -> Array:
        """Take a step over each ``batch_size`` of the rows in ``order``; see `mlpx.plan_steps.PlanSteps.take`."""

    def _batch(self, order: Array, place: int, step: int) -> tuple[Batch, Context]:
        """Return what the ``place``-th step over the rows in ``order`` sees."""
        rows = order[place * self.batch_size : (place + 1) * self.batch_size]
        batch = self.train.take(self.net.backend.asarray(rows))
        return batch, Context(True, self.seed, step, batch.mask, batch.valid, need_dx=False)


class LayerSteps(FitSteps):
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
        super().__init__(net, train, batch_size, optimizer, seed, n_steps)
        self.gradient_hook = gradient_hook
        self.good = net.backend.xp.asarray(net.parameters, copy=True)
        self.penalised = [p for layer in net.all_layers() for p in layer.parameters.values() if p.decay]

    def take(
        self,
        order: Array,
        epoch: int,
        first: int,
        rates: Array,
        after: AfterSteps,
        *,
        l2: Array | None = None,
        eps: Array | None = None,
    ) -> Array:
        """Take the steps; penalties are told only with ``l2``, else they are 0."""
        losses, xp = np.zeros((2, rates.size)), self.net.backend.xp
        for s, lr in enumerate(rates.tolist()):
            batch, context = self._batch(order, s, first + s)
            losses[0, s] = self.reported(self._look(batch, context, epoch), batch)
            own = {}
            if l2 is not None:
                own["l2"] = float(l2[s])
                losses[1, s] = 0.5 * own["l2"] * sum(float(xp.sum(p.value**2)) for p in self.penalised)
            if eps is not None:
                own["eps"] = float(eps[s])
            self._learn(lr, own)
            if s == rates.size - 1:
                self._check_last_update(batch, context, epoch)
            after(1)
        return losses

    def reported(self, loss: float, batch: Batch) -> float:
        """Return what `take` says of a step's loss: here itself."""
        return loss

    def _check_last_update(self, batch: Batch, context: Context, epoch: int) -> None:
        """Raise where the last update led to weights that are not finite: no later step need see them."""
        net, buffers = self.net, self.net.buffers
        if bool(net.backend.xp.all(net.backend.xp.isfinite(buffers.parameters))):
            return
        statistics = net.backend.xp.asarray(buffers.statistics, copy=True)
        with np.errstate(all="ignore"):
            error = diagnose(net, batch, context, context.step + 1, epoch)
        buffers.parameters[...], buffers.statistics[...] = self.good, statistics
        raise error

    def _look(self, batch: Batch, context: Context, epoch: int) -> float:
        """Return the loss, with its gradient in the network's buffer; raise DivergenceError where one is not finite."""
        net, buffers = self.net, self.net.buffers
        xp = net.backend.xp
        statistics = xp.asarray(buffers.statistics, copy=True)
        loss = float(net.step(batch, context))
        if self.gradient_hook is not None:
            self.gradient_hook(buffers.gradient)
        with np.errstate(all="ignore"):  # the error says more than NumPy's warnings would
            if math.isfinite(loss) and bool(xp.isfinite(xp.sum(net.gradient))):
                return loss
            error = diagnose(net, batch, context, context.step, epoch)
        buffers.parameters[...], buffers.statistics[...] = self.good, statistics
        raise error

    def _learn(self, lr: float, own: dict[str, float]) -> None:
        """Let the optimiser take a step, with some numbers in place of its own."""
        optimizer = self.optimizer
        before = {name: getattr(optimizer, name) for name in own}
        self.good[...] = self.net.parameters
        self.lr = lr
        vars(optimizer).update(own)
        optimizer.update(self.net, lr)
        vars(optimizer).update(before)
