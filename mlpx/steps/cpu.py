"""Training steps by the plan: as many as fit in a twentieth of a second, in one call into compiled code."""

import math
import time
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

from mlpx.errors import DivergenceError
from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.network.divergence import trace
from mlpx.optimizers import Optimizer
from mlpx.plan import describe
from mlpx.steps import AfterSteps, FitSteps
from mlpx.steps.cpu_memory import StepsJob
from mlpx.steps.thread_tuner import choice_of
from mlpx.typing import Array
from mlpx_kernels import Unsupported, updates
from mlpx_kernels.cpu.plan import interpreter
from mlpx_kernels.cpu.threading import blas_threads, parallel_rows, phase_sharing, thread_count

SLICE = 0.05
"""Seconds of one call: progress bars move and Ctrl-C works in between."""
WORTH_THREADS = 6e6
"""Floating-point operations of a step in float32 below which one thread is faster; half as many in float64, which
take as long. Measured, see the kernel diary."""
MANY_LAYERS = 7
"""Layers with weights beyond which `WORTH_THREADS` grows in proportion: cut into blocks for two threads, each takes
some 0.15 us longer, even where one thread then runs both blocks."""
SMALL_PRODUCT = 1 << 16
"""Multiplications up to which every BLAS stays on one thread by itself, so that it need not be held to one."""
BLOCK_ROWS = 64
MOST_BLOCKS = 8
"""A deterministic fit cuts batches into blocks of about so many rows, whatever the number of threads."""


class PlanSteps(FitSteps):
    """The steps of a fit as calls of the plan's interpreter; equal to layer by layer within rounding.

    Parameters
    ----------
    net : Network
    train : Batch
    batch_size : int
    optimizer : Optimizer
        Started.
    seed : int
        Chooses dropout masks.
    n_steps : int
        Steps of the whole fit, for schedules.
    n_threads : int, optional
        The most threads to use; default, and upper limits: see `mlpx_kernels.cpu.threading.thread_count`.
    deterministic : bool
        Whether results must not depend on the number of threads.
    ceiling : float
        The most that a row's cross-entropy counts for in the losses, though not in the gradients: -log eps for the
        losses of probabilities clipped to [eps, 1 - eps]. Only without class weights, smoothing and masks.

    Raises
    ------
    Unsupported
        If the network, the data or the backend does not allow it; the message says why.
    """

    def __init__(
        self,
        net: Network,
        train: Batch,
        batch_size: int,
        optimizer: Optimizer,
        *,
        seed: int,
        n_steps: int,
        n_threads: int | None,
        deterministic: bool,
        ceiling: float = math.inf,
    ) -> None:
        if net.backend.name != "numpy":
            raise Unsupported(f"the plan of the CPU cannot run on {net.backend.name}")
        if train.x.ndim != 2 or train.valid is not None:
            raise Unsupported("sequences run layer by layer")
        rows = describe(net.body(), train.x.shape[1], training=True)
        self.run = interpreter.trainer()
        self.threads_module, self.sharing = parallel_rows, phase_sharing
        super().__init__(net, train, batch_size, optimizer, seed, n_steps)
        products = [row.n_in * row.n_out for row in rows if row.op == "dense"]
        flops = 6.0 * batch_size * sum(products)
        worth = flops * np.dtype(net.dtype).itemsize / 4 >= WORTH_THREADS * max(1.0, len(products) / MANY_LAYERS)
        threads = thread_count.n_threads(n_threads)
        fixed = max(2, min(MOST_BLOCKS, batch_size // BLOCK_ROWS))
        self.blocks = (fixed if deterministic else threads) if worth else 1
        self.threads = min(threads, self.blocks)
        if self.threads > 1:
            self.threads_module.worker_pool(self.threads - 1)  # made by now: a fit must not fail once it has begun
        widths = tuple((row.op, row.kind, row.n_in, row.n_out) for row in rows)
        work = widths, batch_size, net.dtype, type(optimizer), self.blocks, train.x.shape[0]
        self.choice, self.calls = choice_of(work, self.threads), 0
        small = batch_size * max(products, default=0) <= SMALL_PRODUCT
        self.with_one_blas_thread = None if small else blas_threads.with_one_blas_thread
        guess = (flops + 50.0 * batch_size * sum(row.n_out for row in rows) + 1e4) / 5e10
        self.seconds_per_step = self.choice.expected() or guess
        self.job = StepsJob(
            net,
            train,
            rows,
            batch_size,
            optimizer,
            blocks=self.blocks,
            deterministic=deterministic,
            seed=seed,
            ceiling=ceiling,
        )
        self.good = self.job.parameters

    def together(self, most: int) -> int:
        """Return how many epochs fit in the next call."""
        share = self.choice.next(first=not self.calls)[1]
        return max(1, min(most, int(share * SLICE / (self.seconds_per_step * self.steps_per_epoch))))

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
        """Take a step over each ``batch_size`` of the rows in ``order``; the last of each epoch may have fewer.

        Parameters
        ----------
        order : array (n,) of int
            Of all rows or fewer, or of all rows several times: the orders of several epochs one behind the other.
        epoch, first : int
            The epoch, and the number of the first of these steps.
        rates : array (steps,)
            Learning rates.
        after : callable
            Called between two calls into compiled code with the number of steps that the last one took.
        l2, eps : array (steps,), optional
            For each step, in place of the optimiser's own; ``eps`` is Adam's.

        Returns
        -------
        array (2, steps)
            The loss of each step, and ``l2 / 2`` times the squared norm of the weights that l2 is for (less those that
            are not trained), both before the update.

        Raises
        ------
        DivergenceError
            With the last good weights in place.
        """
        steps = rates.size
        self.losses = losses = np.zeros((2, steps))
        changing = np.empty((5, steps))
        changing[0] = rates
        changing[1] = self.optimizer.l2 if l2 is None else l2
        changing[2] = self.job.numbers[updates.C] if eps is None else eps
        count = self.optimizer.steps + np.arange(1.0, steps + 1)
        changing[3], changing[4] = updates.corrections(self.job.kind, self.job.numbers, count)
        order = np.ascontiguousarray(order, np.int64)
        work = order, first, changing, after
        done, taken = self.with_one_blas_thread(self._take, *work) if self.with_one_blas_thread else self._take(*work)
        if done < steps:
            raise self._diverged(first + done + taken, epoch, order, done + taken)
        return losses

    def _take(self, order: Array, first: int, changing: Array, after: AfterSteps) -> tuple[int, int]:
        """Take the steps in calls of a twentieth of a second.

        Returns how many there were in calls that ended well, and in the last call.
        """
        steps, each, t = changing.shape[1], self.steps_per_epoch, self.threads_module
        pool = t.worker_pool(self.threads - 1) if self.threads > 1 else None
        done = taken = 0
        while done < steps:
            threads, share = self.choice.next(first=not self.calls)
            wanted = max(1, min(steps - done, int(share * SLICE / self.seconds_per_step)))
            if done % each:  # an epoch that a call has left half done ends with a call
                wanted = min(wanted, each - done % each)
            began = time.perf_counter()
            part = slice(done, done + wanted)
            rows = order[self._start(done) : self._start(done + wanted)]
            taken, self.losses[:, part] = self._call(pool, threads, first + done, rows, changing[:, part].copy())
            if taken < wanted or not self._finite():
                break
            seconds = max(time.perf_counter() - began, 1e-7 * wanted)
            self.seconds_per_step = seconds / wanted
            self.choice.learn(threads, seconds, wanted, first=not self.calls)
            self.calls += 1
            done += wanted
            after(wanted)
        return done, taken

    def _call(self, pool: Any, threads: int, first: int, rows: Array, changing: Array) -> tuple[int, Array]:
        """Take steps over ``rows`` on some threads; return how many were taken, and their losses and penalties."""
        job, values, losses = self.job, self.job.values.copy(), np.zeros((2, changing.shape[1]))
        sharing = self.sharing.new_shared(self.blocks)
        self.optimizer.counted_by(values[job.taken])
        values[job.per_call] = rows.ctypes.data, min(rows.size, self.n_rows), first, threads
        shared = (
            values,
            job.table.whole,
            job.table.reals,
            job.numbers,
            changing,
            losses,
            np.zeros((self.blocks, 16)),
            sharing,
            self.net.buffers.statistics.view(np.uint8),
            job.statistics.view(np.uint8),
        )
        helping = [partial(self.run, thread, *shared) for thread in range(1, threads)]
        try:
            with pool.helping(helping, wait=False) if helping else nullcontext():  # who comes late finds nothing to do
                self.run(0, *shared)
        except BaseException:
            self.sharing.abandon(sharing)
            raise
        return int(values[job.taken][0]), losses

    def _finite(self) -> bool:
        """Return whether the last update left finite weights: who ends the fit now sees no later step's loss."""
        return bool(np.isfinite(self.net.parameters).all())

    def _diverged(self, step: int, epoch: int, order: Array, place: int) -> DivergenceError:
        """Return the error for a step that cannot be taken, with the last good weights in place."""
        buffers, each = self.net.buffers, self.steps_per_epoch
        at = max(0, place - (not self._finite()))  # an update to infinity is its own step's failure
        bad = buffers.parameters.copy(), buffers.statistics.copy()
        good = self.job.parameters, self.job.statistics
        before = self._batch(order, place - 1, step - 1) if place > 0 else None
        now = self._batch(order, min(place, self.losses.shape[1] - 1), step)
        return trace(self.net, good, bad, before, now, epoch + at // each)
