"""Training steps with scikit-learn's arithmetic: its penalty, its reported loss, its Adam."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit, xlogy

from mlpx.backend import to_numpy
from mlpx.estimators.losses import constant
from mlpx.estimators.rows import Rows
from mlpx.estimators.sparse import DENSE_ELEMENTS, stays_sparse
from mlpx.layers import Context, Dropout
from mlpx.layers.passes import through
from mlpx.losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.ops.dispatch import declined
from mlpx.optimizers import Adam, Optimizer
from mlpx.steps import AfterSteps, LayerSteps
from mlpx.steps.fused import fused_steps
from mlpx.typing import Array
from mlpx_kernels import Unsupported

CLIPPED = CrossEntropy(), BinaryCrossEntropy()
"""Losses of which scikit-learn clips the probabilities."""
WORTH_BLAS_THREADS = 1e8
"""Floating-point operations of a step below which, layer by layer, the BLAS stays on one thread.

Its own threads meet at every product, and where other work has taken a core all wait: 9 Mflop on a busy machine took
10 ms a step with two threads, 0.6 with one.
"""


class Steps:
    """Steps over rows of given data: fused, or layer by layer where the network or its device declines.

    Parameters
    ----------
    net : Network
    x : array or sparse matrix (n, n_in)
        Sparse rows are made dense some batches at a time, or stay sparse: see `stays_sparse`.
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
    mask : array (n, n_outputs), bool, optional
        For a network that ends in a masked softmax.
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
        mask: Array | None = None,
    ) -> None:
        self.net, self.optimizer, self.alpha, self.batch_size = net, optimizer, alpha, batch_size
        self.all = Batch(x, target, mask, weight)
        self.unit = 1.0 / target.shape[1] if isinstance(net.loss, SquaredError) else 1.0
        self._look_at_targets()
        self.rows, self.held = x.shape[0], self.all  # rows that are dense at once, and where they are
        left_sparse = stays_sparse(x, batch_size)
        if issparse(x) and not left_sparse:
            self.rows = max(1, DENSE_ELEMENTS // (x.shape[1] * batch_size)) * batch_size
            self.held = self._buffers(min(self.rows, -(-x.shape[0] // batch_size) * batch_size))
        given = (net, self.held, batch_size, optimizer)
        common: dict[str, Any] = {"seed": seed, "n_steps": 1, "ceiling": _ceiling(net)}
        net.plan_declined = ""
        try:
            if left_sparse:
                raise Unsupported("rows that stay sparse run layer by layer")
            penalty = alpha > 0.0 or optimizer.l2 > 0.0
            self.taker: Any = fused_steps(*given, **common, n_threads=n_threads, penalty=penalty)
        except Unsupported as reason:
            net.plan_declined = declined(reason)
            self.taker = _LayerSteps(*given, **common)

    def _look_at_targets(self) -> None:
        """Keep what losses are reported with."""
        weight = self.all.sample_weight
        self.constant = constant(self.net.loss, self.all.target)
        self.weight = None if weight is None else to_numpy(weight)

    def refill(self, rows: Rows, alpha: float) -> None:
        """Write other dense rows, of the same shapes and dtypes, over those that the steps were made with.

        The penalty may be another, but above 0 where it was.
        """
        self.alpha = alpha
        parts = {"x": rows.x, "target": rows.target, "sample_weight": rows.weight, "mask": rows.mask}
        for name, part in parts.items():
            if part is not None:
                getattr(self.all, name)[...] = part
        self._look_at_targets()
        self.taker.taken = 0  # so that nobody takes older weights for those before the last update

    def _buffers(self, n: int) -> Batch:
        """Return room for some dense rows."""
        everything = self.all
        given = (everything.x, everything.target, everything.mask, everything.sample_weight)
        return Batch(*(None if part is None else np.zeros((n, *part.shape[1:]), part.dtype) for part in given))

    def together(self, most: int) -> int:
        """Return how many epochs, 1 to ``most``, `epochs` should be given at once where nothing looks in between."""
        return self.taker.together(most) if self.held is self.all else 1

    def epochs(self, orders: Array, lr: float | Array, after: AfterSteps) -> list[float]:
        """Take a step over each batch of the rows in each epoch's order; return the mean losses scikit-learn reports.

        Parameters
        ----------
        orders : array (epochs, n), int64
            One for each epoch; no more of them than `together` allows.
        lr : float or array (steps,)
            Learning rate, of all steps or of each. Of 0: the weights stay, and the gradient in the network's buffer is
            that of the loss without the penalty.
        after : callable
            Called between steps now and then; may raise to end the epochs there.

        Raises
        ------
        DivergenceError
            For a loss that is not finite, with the last good weights in place.
        """
        (count, n), per_part, losses = orders.shape, -(-self.rows // self.batch_size), []
        rates = np.empty((count, -(-n // self.batch_size)))
        rates.reshape(-1)[...] = lr
        for start in range(0, n, self.rows):
            first, rows = start // self.batch_size, orders[:, start : start + self.rows]
            losses.append(self._take(rows, rates[:, first : first + per_part].reshape(-1), after))
        means: list[float] = (np.concatenate(losses).reshape(count, -1).sum(axis=1) / n).tolist()
        return means

    def _take(self, orders: Array, rates: Array, after: AfterSteps) -> Array:
        """Take steps over rows that can be dense at once; return the loss of each times its rows."""
        order = orders.reshape(-1)
        starts, rows = _batches(*orders.shape, self.batch_size)
        weight = self.weight
        scale = rows if weight is None else np.add.reduceat(weight[order], starts, dtype=np.float64)
        optimizer = self.optimizer
        eps = None
        if isinstance(optimizer, Adam):  # scikit-learn adds it before the bias is corrected
            steps = np.arange(optimizer.steps + 1, optimizer.steps + 1 + rows.size)
            eps = optimizer.eps / np.sqrt(1.0 - optimizer.beta2**steps)
        l2 = optimizer.l2 + _quotient(self.alpha, scale)
        losses = self.taker.take(self._dense(order), 0, optimizer.steps, rates, after, l2=l2, eps=eps)
        each = losses[0] * self.unit + losses[1]
        if self.constant is not None:
            offset = self.constant[order] if weight is None else self.constant[order] * weight[order]
            each += _quotient(np.add.reduceat(offset, starts), scale)
        return each * rows

    def _dense(self, order: Array) -> Array:
        """Return where the rows in ``order`` are in the data of the steps; sparse ones are made dense there first."""
        held, everything, n = self.held, self.all, order.size
        if held is everything:
            return order
        held.x[:n] = everything.x[order].toarray()
        held.target[:n] = everything.target[order]
        if everything.mask is not None and held.mask is not None:
            held.mask[:n] = everything.mask[order]
        if everything.sample_weight is not None and held.sample_weight is not None:
            held.sample_weight[:n] = everything.sample_weight[order]
        return np.arange(n)


@lru_cache(maxsize=8)
def _batches(epochs: int, n: int, batch_size: int) -> tuple[Array, Array]:
    """Return where each batch of so many epochs of n rows begins, and how many rows it has; not to be written to."""
    starts = np.arange(0, n, batch_size)
    rows = np.minimum(float(batch_size), n - starts)  # floats, as what they divide
    return np.add.outer(np.arange(epochs) * n, starts).ravel(), np.tile(rows, epochs)


def _quotient(a: float | Array, b: Array) -> Array:
    """Return a / b, and 0 where b is 0: the rows of such a batch weigh nothing."""
    return a / b if b.all() else np.divide(a, b, out=np.zeros(b.size), where=b > 0)


def _ceiling(net: Network) -> float:
    """Return the most that scikit-learn lets a row's cross-entropy be; infinite where it has no such loss.

    It clips probabilities to [eps, 1 - eps].
    """
    plain = not net.layers[-1].uses_mask and not any(isinstance(layer, Dropout) for layer in net.layers)
    logarithmic = net.loss in CLIPPED
    return -math.log(np.finfo(net.dtype).eps) if logarithmic and plain else math.inf


class _LayerSteps(LayerSteps):
    """Steps layer by layer, with losses as scikit-learn reports them."""

    def __init__(self, *given: Any, ceiling: float, **common: Any) -> None:
        super().__init__(*given, **common)
        self.ceiling = ceiling
        self.one_blas_thread = 6.0 * self.batch_size * sum(p.size for p in self.penalised) < WORTH_BLAS_THREADS

    def _batch(self, order: Array, place: int, step: int) -> tuple[Batch, Context]:
        """Return what the ``place``-th step over the rows in ``order`` sees, of sparse rows too."""
        train = self.train
        if not issparse(train.x):
            return super()._batch(order, place, step)
        rows = order[self._start(place) : self._start(place + 1)]
        every = rows.size == train.x.shape[0] and bool((rows[1:] > rows[:-1]).all())
        parts = (train.target, train.mask, train.sample_weight)
        batch = train if every else Batch(train.x[rows], *(None if part is None else part[rows] for part in parts))
        return batch, Context(True, self.seed, step, batch.mask, need_dx=False)

    def reported(self, loss: float, batch: Batch) -> float:
        """Return the loss of probabilities that are clipped to [eps, 1 - eps], where there is such a ceiling."""
        if math.isinf(self.ceiling):
            return loss
        net, statistics = self.net, self.net.buffers.statistics
        before = net.backend.xp.asarray(statistics, copy=True)  # the pass moves what batch norm keeps of its batches
        z = to_numpy(through(net.body(), batch.x, Context(True, need_dx=False))[0])
        statistics[...] = before
        target = to_numpy(batch.target)
        weight = None if batch.sample_weight is None else to_numpy(batch.sample_weight)
        least = math.exp(-self.ceiling)
        if isinstance(net.loss, CrossEntropy):
            shifted = z - z.max(axis=1, keepdims=True)
            nll = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(target.size), target]
            return float(np.average(np.clip(nll, least, self.ceiling), weights=weight))
        p = np.clip(expit(z), least, 1.0 - least)
        nll = -(xlogy(target, p) + xlogy(1.0 - target, 1.0 - p))  # with the rounding of 1 - p, which is seen here
        return float(np.average(nll.sum(axis=1), weights=weight))
