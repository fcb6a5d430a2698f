"""Training steps with scikit-learn's arithmetic: its penalty, its reported loss, its Adam.

Each step is one call of the compiled plan; a network that the plan declines runs layer by layer. One call per step
and not per epoch, since the reported loss holds the penalty of the weights before every single update.
"""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
from scipy.special import expit, xlogy

from mlpx import plan
from mlpx.batch import Batch
from mlpx.estimators.losses import constant
from mlpx.layers import Context, Dropout
from mlpx.losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from mlpx.network import Network
from mlpx.optimizers import Adam, Optimizer
from mlpx.plan_steps import PlanSteps
from mlpx.typing import Array
from mlpx_kernels import Unsupported

NEARLY_CERTAIN = 12.0
"""Losses of a row, and logits, beyond which it shows that scikit-learn's loss is that of rounded probabilities."""


class Steps:
    """Steps over rows of given data.

    Parameters
    ----------
    net : Network
    x : array or sparse matrix (n, n_in)
        Sparse rows are made dense batch by batch.
    target : array
        As the network's loss takes it.
    weight : array (n,), optional
        Sample weights.
    batch_size : int
        The most rows of one step.
    optimizer : Optimizer
        Started.
    alpha : float
        scikit-learn's penalty: every step's gradient gets ``alpha w / s``, its loss ``alpha |w|^2 / (2 s)``, where s is
        the batch's number of rows, or sum of weights.
    n_threads : int, optional
    seed : int
        Chooses dropout masks, together with the optimiser's count of steps.
    """

    def __init__(
        self,
        net: Network,
        x: Any,
        target: Array,
        weight: Array | None,
        batch_size: int,
        optimizer: Optimizer,
        alpha: float,
        n_threads: int | None = None,
        seed: int = 0,
    ) -> None:
        self.net, self.optimizer, self.alpha = net, optimizer, alpha
        self.all = Batch(x, target, None, weight)
        self.sparse = not isinstance(x, np.ndarray)
        self.decayed = slice(0, max((stop for _, stop, decay, _ in net.buffers.groups if decay), default=0))
        self.constant = constant(net.loss, target)
        self.adam = optimizer if isinstance(optimizer, Adam) else None
        self.eps = 0.0 if self.adam is None else self.adam.eps
        self.seed = seed
        # What scikit-learn would report is known only for what it has, and worth its price only where digits agree.
        dropped = any(isinstance(layer, Dropout) for layer in net.layers)
        logarithmic = isinstance(net.loss, CrossEntropy | BinaryCrossEntropy) and not net.loss.label_smoothing
        self.rounds = logarithmic and not dropped and net.dtype == "float64"
        self.order, self.address = np.zeros(0, np.int64), 0
        self.logits: Array = None
        self.stack = ExitStack()
        self.plan: PlanSteps | None = None
        held = self._buffers(batch_size) if self.sparse else self.all
        try:
            self.plan = PlanSteps(
                net,
                held,
                batch_size,
                optimizer,
                seed=seed,
                n_steps=1,
                n_threads=n_threads,
                deterministic=False,
            )
        except Unsupported as reason:
            net.plan_declined = str(reason)
        else:
            self._prepare(self.plan, held)

    def _buffers(self, n: int) -> Batch:
        """Return room for the dense rows of one batch."""
        everything, dtype = self.all, self.net.dtype
        target = np.zeros((n, *everything.target.shape[1:]), everything.target.dtype)
        weight = None if everything.sample_weight is None else np.zeros(n, dtype)
        return Batch(np.zeros((n, everything.x.shape[1]), dtype), target, None, weight)

    def _prepare(self, steps: PlanSteps, held: Batch) -> None:
        self.held, self.job = held, steps.job
        self.rates, self.losses = np.zeros(1), np.zeros(1)
        self.barrier = np.zeros(16, np.int64)
        self.shared = (
            self.job,
            steps.table.whole,
            steps.table.reals,
            steps.numbers,
            self.rates,
            self.losses,
            np.zeros((steps.blocks, 16)),
            self.barrier,
            self.net.buffers.statistics.view(np.uint8),
            steps.statistics.view(np.uint8),
        )
        update, job = plan.kernels("update"), plan.kernels("job")
        self.l2_at, self.eps_at = update.L2, update.C
        last = steps.table.whole[-1]
        self.logits_at, self.n_out = int(last[job.Y]), int(last[job.N_OUT])
        self.work = steps.held[job.WORK]

    def __enter__(self) -> "Steps":
        if self.plan is not None:
            self.stack.enter_context(self.plan.hold_blas())
            if self.plan.threads > 1:
                self.others = self.stack.enter_context(ThreadPoolExecutor(self.plan.threads - 1))
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def take(self, order: Array, start: int, stop: int, lr: float) -> float:
        """Take one step over rows ``order[start:stop]`` (int64); return the loss as scikit-learn reports it.

        A loss that is not finite leaves the weights as they were. ``lr`` of 0 leaves them anyway: only the gradient of
        the loss, without the penalty, is then wanted.
        """
        weight = None if self.all.sample_weight is None else self.all.sample_weight[order[start:stop]]
        scale = float(stop - start if weight is None else weight.sum())
        penalty = l2 = 0.0
        if self.alpha and scale > 0:
            w = self.net.parameters[self.decayed]
            penalty = 0.5 * self.alpha * float(w @ w) / scale
            l2 = self.alpha / scale if lr else 0.0
        loss = (self._by_layer if self.plan is None else self._by_plan)(order, start, stop, lr, l2)
        if not math.isfinite(loss):
            return loss
        return self._reported(loss, order[start:stop], weight) + penalty

    def _by_plan(self, order: Array, start: int, stop: int, lr: float, l2: float) -> float:
        steps, optimizer, job = self.plan, self.optimizer, self.job
        assert steps is not None  # noqa: S101
        if self.sparse:
            self._gather(order[start:stop])
            order, start, stop = np.arange(stop - start), 0, stop - start
        if order is not self.order:  # asking for an address takes as long as a small step
            self.order, self.address = order, order.ctypes.data
        alone = steps.threads == 1
        threads = 1 if alone else steps.choice.next()[0]
        began = time.perf_counter()
        entries = (self.address + 8 * start, stop - start, optimizer.steps, optimizer.steps, threads)
        for place, entry in zip(steps.places, entries, strict=True):
            job[place] = entry
        steps.numbers[self.l2_at] = l2
        if self.adam is not None:
            steps.numbers[self.eps_at] = self._eps(self.adam)
        self.rates[0] = lr
        if alone:
            taken = steps.run(0, *self.shared)
        else:
            self.barrier[:] = 0
            started = [self.others.submit(steps.run, thread, *self.shared) for thread in range(1, threads)]
            taken = steps.run(0, *self.shared)
            for other in started:
                other.result()
            steps.choice.learn(threads, time.perf_counter() - began)
        optimizer.steps += 1
        return float(self.losses[0]) if taken else math.nan

    def _gather(self, rows: Array) -> None:
        """Copy the batch's rows, made dense, into the buffers that the plan reads."""
        n, held, batch = rows.size, self.held, self.all
        held.x[:n] = batch.x[rows].toarray()
        held.target[:n] = batch.target[rows]
        if batch.sample_weight is not None and held.sample_weight is not None:
            held.sample_weight[:n] = batch.sample_weight[rows]

    def _by_layer(self, order: Array, start: int, stop: int, lr: float, l2: float) -> float:
        net, batch, optimizer, rows = self.net, self.all, self.optimizer, order[start:stop]
        x = batch.x[rows].toarray() if self.sparse else batch.x[rows]
        weight = None if batch.sample_weight is None else batch.sample_weight[rows]
        part = Batch(x, batch.target[rows], None, weight)
        loss = float(net.step(part, Context(True, self.seed, optimizer.steps, need_dx=False)))
        if self.rounds:
            self.logits = net.evaluate(part)[1]
        if lr and math.isfinite(loss):
            optimizer.l2 = l2
            if self.adam is not None:
                self.adam.eps = self._eps(self.adam)
            optimizer.update(net, lr)
            if self.adam is not None:
                self.adam.eps = self.eps
        return loss

    def _eps(self, optimizer: Adam) -> float:
        """Return the eps of the library's Adam that equals scikit-learn's, added before the bias is corrected."""
        return float(self.eps / math.sqrt(1.0 - optimizer.beta2 ** (optimizer.steps + 1)))

    def _reported(self, loss: float, rows: Array, weight: Array | None) -> float:
        """Return the loss of a batch in scikit-learn's units."""
        kind = self.net.loss
        if isinstance(kind, SquaredError):
            return loss / float(self.all.target.shape[1])
        if self.constant is not None:
            return loss + float(np.average(self.constant[rows], weights=weight))
        # scikit-learn computes the loss from probabilities clipped to [eps, 1 - eps]. That shows only where a row's
        # loss is large: not where the sum of them is small.
        if not self.rounds or (weight is None and loss * rows.size < NEARLY_CERTAIN):
            return loss
        z = self._last_logits(rows.size)
        eps = float(np.finfo(z.dtype).eps)
        limit = -math.log(eps)
        if isinstance(kind, CrossEntropy) and z.max() - z.min() > limit - math.log(z.shape[1]):
            each = _surprise(z, self.all.target[rows])
            return float(np.average(np.clip(each, -math.log1p(-eps), limit), weights=weight))
        if isinstance(kind, BinaryCrossEntropy) and max(z.max(), -z.min()) > NEARLY_CERTAIN:
            p, t = np.clip(expit(z), eps, 1.0 - eps), self.all.target[rows]
            each = -(xlogy(t, p) + xlogy(1.0 - t, 1.0 - p))  # with the rounding of 1 - p, which is seen here
            return float(np.average(each.sum(axis=1), weights=weight))
        return loss

    def _last_logits(self, n: int) -> Array:
        """Return the logits (n, n_outputs) that the last step computed its loss from."""
        if self.plan is None:
            return self.logits
        return self.work[self.logits_at : self.logits_at + n * self.n_out].reshape(n, self.n_out)


def _surprise(z: Array, labels: Array) -> Array:
    """Return -log softmax(z) of each row's label (n,)."""
    shifted = z - z.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(labels.size), labels]
