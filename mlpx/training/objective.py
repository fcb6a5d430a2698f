"""What optimisers of all rows minimise: a network's loss over them as a function of one vector."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from mlpx.backend import to_numpy
from mlpx.errors import DivergenceError
from mlpx.layers import Context
from mlpx.layers.passes import through
from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.network.host_rows import HostRows
from mlpx.ops.dispatch import declined
from mlpx.optimizers import SGD
from mlpx.steps.fused import changed, fused_steps, read_once
from mlpx.typing import Array
from mlpx_kernels import Unsupported

WORTH_FUSING = 3e8
"""Floating-point operations of a pass over all rows up to which fused kernels are faster than going layer by layer.

Two to three times up to some thousand rows; beyond, products are nearly all, and rows are not copied for nothing.
"""


def settle(net: Network, x: Array, context: Context) -> None:
    """Make the running statistics of batch norms those of all rows ``x``, which are what training saw throughout."""
    statistics = net.buffers.statistics
    n_rows = math.prod(x.shape[:-1]) if context.valid is None else int(to_numpy(context.valid).sum())
    if not statistics.size or n_rows < 2:  # a single row has no variance
        return
    before = net.backend.xp.asarray(statistics, copy=True)
    try:
        statistics[...] = 0.0
        through(net.body(), x, replace(context, momentum=1.0))
    except BaseException:
        statistics[...] = before
        raise


class Objective:
    """A network's loss over all rows as a function of one float64 vector, as minimisers want it.

    The vector holds the parameters that are learnt: without the gaps of the flat buffer, and without those that a
    ``lr_factor`` of 0 freezes.

    Attributes
    ----------
    loss : float
        At the weights that were seen last, without the penalty.
    stopped : str
        Why a minimiser ended.
    """

    def __init__(
        self,
        net: Network,
        batch: Batch,
        context: Context,
        l2: float,
        n_threads: int | None = None,
        *,
        deterministic: bool = False,
    ) -> None:
        if isinstance(batch.x, HostRows):  # all rows are needed at once
            batch = replace(batch, x=batch.x.take(slice(None)))
        self.net, self.batch, self.context, self.l2 = net, batch, context, l2
        spans = [
            (p.offset, p.offset + p.size, p.decay)
            for layer in net.all_layers()
            for p in layer.parameters.values()
            if p.lr_factor > 0.0
        ]
        self.index = np.concatenate([np.arange(a, b) for a, b, _ in spans] or [np.arange(0)])
        self.decayed = np.concatenate([np.full(b - a, decay) for a, b, decay in spans] or [np.zeros(0, bool)])
        self.full = to_numpy(net.parameters).astype(np.float64)
        self.loss = math.nan
        self.stopped = "converged"
        self.n_threads, self.deterministic = n_threads, deterministic
        self.still = SGD()
        self.still.start(net)
        self.steps, self.read = self._fused(), read_once(net, self.still)
        self.order = np.arange(batch.x.shape[0])

    def _fused(self) -> Any:
        """Return steps that change nothing and leave the gradient, where they are worth it; else None."""
        net, rows = self.net, self.batch.x.shape[0]
        flops = 6.0 * rows * int(self.decayed.sum())
        if not rows or flops > WORTH_FUSING:
            return None
        own: dict[str, Any] = {"n_threads": self.n_threads, "deterministic": self.deterministic}
        try:
            return fused_steps(net, self.batch, rows, self.still, seed=self.context.seed, **own)
        except Unsupported as reason:
            declined(reason)
            return None

    def look_again(self) -> None:
        """Take in what a callback may have changed of the network."""
        now = read_once(self.net, self.still)
        if changed(now, self.read):
            self.steps, self.read = self._fused(), now

    def _step(self) -> float:
        """Return the loss at the network's weights, NaN where it is not finite; its gradient is in the network."""
        if self.steps is None:
            return float(self.net.step(self.batch, self.context))
        try:
            return float(self.steps.take(self.order, 0, 0, np.zeros(1), lambda taken: None)[0, 0])
        except DivergenceError:
            return math.nan

    def weights(self) -> Array:
        """Return the network's parameters as one vector (k,), float64."""
        return to_numpy(self.net.parameters)[self.index].astype(np.float64)

    def set_weights(self, w: Array) -> None:
        """Write a vector into the network."""
        self.full[self.index] = w
        with np.errstate(over="ignore"):  # a point too far off gets a loss that says so
            self.net.parameters[...] = self.net.backend.asarray(self.full, self.net.dtype)

    def leave(self, w: Array) -> None:
        """Leave the network at a vector, ready for predictions: batch norms too."""
        self.set_weights(w)
        settle(self.net, self.batch.real_x(), self.context)

    def __call__(self, w: Array) -> tuple[float, Array]:
        """Return the loss with its penalty, and the gradient (k,), at ``w``."""
        self.set_weights(w)
        self.loss = self._step()
        gradient = to_numpy(self.net.gradient)[self.index].astype(np.float64)
        return self.loss + self._penalty(w), gradient + self.l2 * np.where(self.decayed, w, 0.0)

    def went_to(self, w: Array, value: float) -> None:
        """Take in that a minimiser's iteration led to ``w``, of that value: what it tried last may be another point."""
        self.loss = value - self._penalty(w)

    def _penalty(self, w: Array) -> float:
        with np.errstate(over="ignore"):
            return 0.5 * self.l2 * float(np.sum(w[self.decayed] ** 2))

    def residuals(self, w: Array) -> Array:
        """Return the weighted residuals whose half sum of squares is the loss: (n * o + k,) with a penalty."""
        self.set_weights(w)
        z, _ = self.net.forward(self.batch.real_x(), self.context)
        r = to_numpy(z - self.batch.target).astype(np.float64) * self._row_factor()
        return np.concatenate([r.ravel(), math.sqrt(self.l2) * np.where(self.decayed, w, 0.0)])

    def jacobian(self, w: Array) -> Array:
        """Return the derivatives of `residuals` (n * o + k, k): one backward pass per output, for all rows at once."""
        self.set_weights(w)
        n, o = self.batch.target.shape
        backend = self.net.backend
        blocks = np.empty((n, o, self.index.size))
        for output in range(o):
            per_row = backend.zeros((n, self.net.parameters.shape[0]), self.net.dtype)
            _, backprop = self.net.forward(self.batch.real_x(), Context(per_row=per_row, need_dx=False))
            dy = np.zeros((n, o))
            dy[:, output] = 1.0
            backprop(backend.asarray(dy, self.net.dtype))
            blocks[:, output] = to_numpy(per_row)[:, self.index] * self._row_factor()
        penalty = math.sqrt(self.l2) * np.diag(self.decayed.astype(np.float64))
        return np.concatenate([blocks.reshape(n * o, -1), penalty])

    def _row_factor(self) -> Array:
        weight = self.batch.sample_weight
        r = np.ones(self.batch.x.shape[0]) if weight is None else to_numpy(weight).astype(np.float64)
        return np.sqrt(r / r.sum())[:, None]
