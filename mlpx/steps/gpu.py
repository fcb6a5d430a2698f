"""Training steps on a GPU: a step's launches captured as one graph, and nothing read back while it runs."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from mlpx.errors import DivergenceError, warn
from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.network.divergence import trace
from mlpx.network.host_rows import HostRows
from mlpx.optimizers import Optimizer
from mlpx.steps import AfterSteps, FitSteps, GradientHook
from mlpx.steps.gpu_feed import Resident, Streamed
from mlpx.steps.gpu_step import GraphStep
from mlpx.typing import Array
from mlpx_kernels.cuda.plan import graph

SLICE = 0.05
"""Seconds of steps that are sent to the device before the host waits: bars move and Ctrl-C works in between."""


class GraphSteps(FitSteps):
    """The steps of a fit as CUDA graphs; equal to layer by layer within rounding.

    The order of rows, what each step has of its own (the learning rate) and the losses of a slice of steps lie on the
    device, and a clock there counts the steps, so that every step is the same graph. A loss that is not finite stops
    the updates on the device; the host sees it at the end of the slice.

    Parameters
    ----------
    net, train, batch_size, optimizer, seed, n_steps, ceiling
        As in `mlpx.steps.cpu.PlanSteps`, on the device.
    gradient_hook : callable, optional
        See `mlpx.steps.GradientHook`; a step is then two graphs.
    precision : str
        See `mlpx.steps.gpu_plan.GraphPlan`.
    penalty : bool
        Whether `take` tells each step's penalty too, which costs one launch; else it is 0.

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
        gradient_hook: GradientHook | None = None,
        precision: str = "float32",
        ceiling: float = math.inf,
        penalty: bool = False,
    ) -> None:
        super().__init__(net, train, batch_size, optimizer, seed, n_steps)
        self.seconds_per_step = math.inf  # so that the first slice is one step, which compiles the kernels
        self.xp = net.backend.xp
        self.stream = self.xp.cuda.Stream(non_blocking=True)
        self.hook = gradient_hook
        with self._on_stream():
            streamed = isinstance(train.x, HostRows)
            self.feed = Streamed(train, batch_size, net.backend) if streamed else Resident(train)
            given = self.feed.sources, self.feed.most_rows, batch_size, optimizer, seed, precision, ceiling, penalty
            self.step = GraphStep(net, *given)
            self.runs = {
                n: [
                    [self._graphs(part) for part in parts]
                    for parts in self.step.launches(n, split=self.hook is not None)
                ]
                for n in {batch_size, train.x.shape[0] % batch_size} - {0}
            }
            self.source, self.warned = 0, False
            if not self.step.plan.captured:
                self._uncaptured(self.step.plan.declined)
            self.begun = [self.xp.empty_like(part) for part in self._state()]
            # Of before the last update of a slice; two, since a slice's first step may show that the one before failed.
            self.previous, self.latest = ([part.copy() for part in self._state()[:2]] for _ in range(2))

    @property
    def good(self) -> Array:
        """The parameters as they were before the last step."""
        return self.latest[0]

    def _state(self) -> list[Array]:
        buffers = self.net.buffers
        return [buffers.parameters, buffers.statistics, *self.optimizer.state]

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        """Work on this object's stream, behind what the caller's stream was asked for, and wait at the end."""
        ready = self.xp.cuda.get_current_stream().record()
        self.stream.wait_event(ready)
        with self.stream:
            try:
                yield
            finally:
                self.stream.synchronize()

    def _graphs(self, launches: list[Any]) -> Any:
        captured = self.step.plan.captured
        return graph.Graphs(launches, self.stream, captured=captured, on_failure=self._uncaptured)

    def _uncaptured(self, reason: str) -> None:
        if not self.warned:
            warn(
                f"fit: the step cannot be captured as a CUDA graph, so its kernels are launched one by one: {reason}",
                RuntimeWarning,
            )
        self.warned = True

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
        """Take the steps, slice by slice."""
        count, batch = rates.size, self.batch_size
        self.losses = losses = np.zeros((2, count))
        changing = np.empty((count, 3))
        changing[:, 0] = rates
        changing[:, 1] = self.optimizer.l2 if l2 is None else l2
        changing[:, 2] = self.step.own_c if eps is None else eps
        done, steps = 0, self._slice(count)
        while done < count:
            # Settled now, since the rows that are brought ahead must be those that are then asked for.
            following = self._slice(count - done - steps)
            began = time.perf_counter()
            part = slice(done, done + steps)
            rows = order[done * batch : (done + steps) * batch]
            with self._on_stream():
                self._keep(self.begun)
                self.previous, self.latest = self.latest, self.previous
                self.source, places = self.feed.rows(rows)
                self.step.begin(places, changing[part], first + done, self.optimizer.steps)
                self._take(steps, rows.size)
                if done + steps < count:
                    self.feed.ahead(order[(done + steps) * batch : (done + steps + following) * batch])
                losses[:, part], failed = self.step.finish(steps)
            self.seconds_per_step = max((time.perf_counter() - began) / steps, 1e-7)
            if failed < steps or not self._finite():
                raise self._diverged(first + done, epoch, order, done, min(failed, steps))
            done += steps
            self.optimizer.steps += steps
            after(steps)
            steps = following
        return losses

    def _slice(self, most: int) -> int:
        """Return how many steps the next slice takes."""
        return int(max(1, min(most, self.feed.most_steps, int(SLICE / self.seconds_per_step))))

    def _take(self, steps: int, n_rows: int) -> None:
        """Launch a slice's steps; the weights of before its last one are kept."""
        last = n_rows - (steps - 1) * self.batch_size
        self._run(self.batch_size, steps - 1)
        for kept, part in zip(self.latest, self._state(), strict=False):
            kept[...] = part
        self._run(last, 1)

    def _run(self, n: int, times: int) -> None:
        if not times:
            return
        runs = self.runs[n][self.source]
        if self.hook is None:
            runs[0](times)
            return
        for _ in range(times):
            runs[0](1)
            self.hook(self.net.buffers.gradient)
            runs[1](1)

    def _keep(self, kept: list[Array]) -> None:
        for copy, part in zip(kept, self._state(), strict=True):
            copy[...] = part

    def _finite(self) -> bool:
        return bool(self.xp.isfinite(self.net.buffers.parameters).all())

    def _diverged(self, first: int, epoch: int, order: Array, done: int, failed: int) -> DivergenceError:
        """Return the error for step ``failed`` of a slice, with the weights of before the update that led to it.

        Those of before a slice's first step are at hand; later ones are reached by taking the slice's steps again.
        """
        buffers = self.net.buffers
        parameters, statistics = buffers.parameters.copy(), buffers.statistics.copy()
        if failed == 0:
            good = self.previous
        else:
            with self._on_stream():
                for part, copy in zip(self._state(), self.begun, strict=True):
                    part[...] = copy
                self.step.rewind()
                self._run(self.batch_size, failed - 1)
            good = [buffers.parameters.copy(), buffers.statistics.copy()]
        step, place = first + failed, done + failed
        before = self._batch(order, place - 1, step - 1) if place > 0 else None
        now = self._batch(order, min(place, -(-order.size // self.batch_size) - 1), step)
        return trace(self.net, (good[0], good[1]), (parameters, statistics), before, now, epoch)
