"""Training steps layer by layer: the path that every network can take, on every backend."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from mlpx.backend import to_numpy
from mlpx.errors import DivergenceError
from mlpx.layers import Context
from mlpx.losses import ClassLoss, Loss
from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.network.divergence import diagnose
from mlpx.optimizers import Optimizer
from mlpx.plan.threads import threads_in_force, with_one_blas_thread
from mlpx.typing import Array

AfterSteps = Callable[[int], None]
"""Called with the number of steps just taken; may raise to end the fit between two steps."""
GradientHook = Callable[[Array], Any]
"""Called with the flat gradient (k,) between the backward pass and the update; it may change it in place."""
NOTHING: Array = np.zeros((2, 0))
"""The losses of no steps."""


def _nothing(taken: int) -> None:
    """Let the steps go on."""


def row_weights(loss: Loss, batch: Batch, mask: Array | None) -> Array | None:
    """Return what each row counts in the loss's mean, (n,), float64, on the host; None where all count the same.

    The sum over a row's steps of its ``sample_weight``, by the ``class_weight`` of its target; nothing where ``mask``
    allows nothing.
    """
    class_weight = getattr(loss, "class_weight", None)
    if batch.sample_weight is None and class_weight is None and mask is None:
        return None
    target = to_numpy(batch.target)
    labelled = target.dtype.kind == "i"
    each = np.ones(target.shape if labelled else target.shape[:-1])
    if batch.sample_weight is not None:
        each *= to_numpy(batch.sample_weight)
    if class_weight is not None:
        by_class = np.array(class_weight)
        each = np.where(each > 0, each * (by_class[target] if labelled else target @ by_class), 0.0)
    if mask is not None and isinstance(loss, ClassLoss):
        each = np.where(to_numpy(mask).any(axis=-1), each, 0.0)
    return np.asarray(each.reshape(each.shape[0], -1).sum(axis=1), np.float64)


class FitSteps(ABC):
    """The steps of a fit, epoch by epoch or any number of them at a time.

    Attributes
    ----------
    losses : array (2, steps)
        What the last call of `take` returned, or would have if it had not failed.
    good : array (k,)
        The parameters as they were before the last step.
    """

    good: Array

    def __init__(
        self, net: Network, train: Batch, batch_size: int, optimizer: Optimizer, seed: int, n_steps: int
    ) -> None:
        self.net, self.train, self.optimizer = net, train, optimizer
        self.batch_size, self.seed, self.n_steps = batch_size, seed, n_steps
        self.n_rows = int(train.x.shape[0])
        self.steps_per_epoch = -(-self.n_rows // batch_size)
        self.losses = np.zeros((2, 0))

    def together(self, most: int) -> int:
        """Return how many epochs, 1 to ``most``, `epochs` should be given at once where nothing looks in between."""
        return 1

    def epochs(
        self, epoch: int, orders: Array, first: int, after: AfterSteps, begun: Array = NOTHING
    ) -> Iterator[tuple[float, float]]:
        """Take the steps of one or more epochs; yield each one's mean loss, and the learning rate of its last step.

        Parameters
        ----------
        epoch, first : int
            The number of the first epoch, and of its first step.
        orders : array (epochs, n) of int
            The order of the rows in each epoch.
        after : callable
            See `take`; of several epochs, all of which are over before the first is yielded, it is called at the end.
        begun : array (2, steps)
            What an earlier fit's steps at the begin of the first epoch returned; they are not taken again.

        Raises
        ------
        DivergenceError
            After the epochs before it have been yielded.
        """
        count, batch, each = orders.shape[0], self.batch_size, self.steps_per_epoch
        rates = [self.optimizer.rates(first + each * e, each, self.n_steps, epoch + e) for e in range(count)]
        diverged, complete = None, count
        try:
            among = _nothing if count > 1 else after
            there = begun.shape[1]
            order, left = orders.reshape(-1)[batch * there :], np.concatenate(rates)[there:]
            losses = self.take(order, epoch, first + there, left, among)
            losses = np.concatenate([begun, losses], axis=1) if there else losses
        except DivergenceError as error:
            diverged, complete, losses = error, error.epoch - epoch, self.losses
        for e in range(complete):
            yield self._mean(losses[0, e * each : (e + 1) * each], orders[e]), float(rates[e][-1])
        if diverged is not None:
            self.optimizer.forget()  # what it gathered on the way to infinity would lead there again
            raise diverged
        if count > 1:
            after(each * count)

    @cached_property
    def row_weights(self) -> Array | None:
        """What each row counts in an epoch's loss; see `row_weights`."""
        return row_weights(self.net.loss, self.train, self.net.loss_mask(self.train))

    @cached_property
    def _even(self) -> tuple[Array, float]:
        """The rows of each step of an epoch, and their sum."""
        sizes = np.full(self.steps_per_epoch, float(self.batch_size))
        sizes[-1] = self.n_rows - self.batch_size * (self.steps_per_epoch - 1)
        return sizes, float(self.n_rows)

    def _mean(self, losses: Array, order: Array) -> float:
        """Return an epoch's loss from those of its steps, each of which is a mean over the weights of its rows."""
        sizes, total = self._even
        if self.row_weights is not None:
            sizes = np.add.reduceat(self.row_weights[order], np.arange(0, order.size, self.batch_size))
            total = float(sizes.sum())
        return float(losses @ sizes) / total if total > 0.0 else 0.0

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
        """Take a step over each ``batch_size`` of the rows in ``order``; see `mlpx.steps.cpu.PlanSteps.take`."""

    def _start(self, place: int) -> int:
        """Return where in the order of one or more epochs the rows of the ``place``-th step begin."""
        epochs, steps = divmod(place, self.steps_per_epoch)
        return epochs * self.n_rows + steps * self.batch_size

    def _batch(self, order: Array, place: int, step: int) -> tuple[Batch, Context]:
        """Return what the ``place``-th step over the rows in ``order`` sees."""
        rows = order[self._start(place) : self._start(place + 1)]
        batch = self.train.take(self.net.backend.asarray(rows))
        return batch, Context(True, self.seed, step, batch.mask, batch.valid, need_dx=False)


class LayerSteps(FitSteps):
    """Epochs of steps that keep the weights of before the last update until the next loss is seen to be finite.

    Attributes
    ----------
    one_blas_thread : bool
        Whether the BLAS stays on one thread though more are in force.
    """

    one_blas_thread = False

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
        alone = self.net.backend.name == "numpy" and (self.one_blas_thread or threads_in_force() == 1)
        given = order, epoch, first, rates, after, l2, eps
        return with_one_blas_thread(self._take, *given) if alone else self._take(*given)

    def _take(
        self,
        order: Array,
        epoch: int,
        first: int,
        rates: Array,
        after: AfterSteps,
        l2: Array | None,
        eps: Array | None,
    ) -> Array:
        self.losses = losses = np.zeros((2, rates.size))
        xp = self.net.backend.xp
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
        raise self._diverged(statistics, batch, context, context.step + 1, epoch)

    def _diverged(self, statistics: Array, batch: Batch, context: Context, step: int, epoch: int) -> DivergenceError:
        """Return the error for a step; the last good weights are back, with these statistics."""
        buffers = self.net.buffers
        try:
            with np.errstate(all="ignore"):  # the error says more than NumPy's warnings would
                return diagnose(self.net, batch, context, step, epoch)
        finally:
            buffers.parameters[...], buffers.statistics[...] = self.good, statistics

    def _look(self, batch: Batch, context: Context, epoch: int) -> float:
        """Return the loss, with its gradient in the network's buffer; raise DivergenceError where one is not finite."""
        net, buffers = self.net, self.net.buffers
        xp = net.backend.xp
        statistics = xp.asarray(buffers.statistics, copy=True)
        loss = float(net.step(batch, context))
        if self.gradient_hook is not None:
            self.gradient_hook(buffers.gradient)
        with np.errstate(all="ignore"):
            moved = bool(xp.all(xp.isfinite(buffers.statistics)))  # a variance may overflow where no output does
            if math.isfinite(loss) and moved and bool(xp.isfinite(xp.sum(net.gradient))):
                return loss
        raise self._diverged(statistics, batch, context, context.step, epoch)

    def _learn(self, lr: float, own: dict[str, float]) -> None:
        """Let the optimiser take a step, with some numbers in place of its own.

        Where it fails, or a signal's handler raises, the weights are those of before: no layer is ahead of another.
        """
        optimizer = self.optimizer
        before = {name: getattr(optimizer, name) for name in own}
        self.good[...] = self.net.parameters
        try:
            vars(optimizer).update(own)
            optimizer.update(self.net, lr)
        except BaseException:
            self.net.parameters[...] = self.good
            raise
        finally:
            vars(optimizer).update(before)
