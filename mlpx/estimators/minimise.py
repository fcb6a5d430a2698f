"""Solvers that look at all rows at once: scikit-learn's "lbfgs", and the library's full-batch optimisers."""

import copy
import math
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning

from mlpx.backend import to_numpy
from mlpx.errors import DivergenceError
from mlpx.estimators.losses import reported
from mlpx.estimators.observers import INTERRUPTED, Observers
from mlpx.estimators.rows import Rows
from mlpx.estimators.steps import Steps
from mlpx.estimators.validation import look
from mlpx.layers import Context, Dense
from mlpx.models.sequential import Sequential
from mlpx.network.batch import Batch
from mlpx.optimizers import SGD, full_batch
from mlpx.optimizers.full_batch import FullBatch
from mlpx.training import interrupt
from mlpx.training.objective import Objective, settle
from mlpx.typing import Array


class PenalisedLoss:
    """The loss and its gradient as functions of one vector: the coefs, then the intercepts, layer by layer; then what
    norms there are. In scikit-learn's units, and in float64.
    """

    def __init__(self, net: Sequential, rows: Rows, alpha: float, n_threads: int | None) -> None:
        self.net, self.alpha = net, alpha
        dense = [layer for layer in net.all_layers() if isinstance(layer, Dense)]
        self.parameters = [layer.parameters[name] for name in ("w", "b") for layer in dense]
        others = [layer for layer in net.all_layers() if not isinstance(layer, Dense)]
        self.parameters += [p for layer in others for p in layer.parameters.values()]
        self.n_weights = sum(p.size for p in self.parameters if p.decay)
        self.order = np.arange(rows.n)
        self.total = float(rows.n if rows.weight is None else to_numpy(rows.weight).sum())
        still = SGD()
        still.start(net)
        self.x = rows.together()
        self.steps = Steps(net, self.x, rows.target, rows.weight, rows.n, still, alpha, n_threads, mask=rows.mask)

    def weights(self) -> Array:
        """Return the network's parameters as one vector."""
        return np.concatenate([to_numpy(p.value).T.ravel() for p in self.parameters])

    def set_weights(self, vector: Array) -> None:
        """Write a vector into the network."""
        start = 0
        for p in self.parameters:
            p.value[...] = self.net.backend.asarray(
                vector[start : start + p.size].reshape(p.shape[::-1]).T, self.net.dtype
            )
            start += p.size

    def leave(self, vector: Array) -> None:
        """Leave the network at a vector, ready for predictions."""
        self.set_weights(vector)
        settle(self.net, self.x, Context(True, need_dx=False))

    def __call__(self, vector: Array) -> tuple[float, Array]:
        """Return the penalised loss and its gradient at a vector."""
        self.set_weights(vector)
        try:
            [loss] = self.steps.epochs(self.order[None], 0.0, lambda taken: None)
        except DivergenceError:
            loss = math.nan
        gradient = np.concatenate([to_numpy(p.grad).T.ravel() for p in self.parameters]).astype(np.float64, copy=False)
        gradient[: self.n_weights] += self.alpha / self.total * vector[: self.n_weights]
        return loss, gradient


class Iterations:
    """The iterations of a fit, as observers and held-out rows see them."""

    def __init__(
        self, estimator: Any, held_out: Rows | None, observers: Observers, pressed: interrupt.Interrupt
    ) -> None:
        self.estimator, self.held_out, self.observers, self.pressed = estimator, held_out, observers, pressed
        self.ended = False
        observers.begin_epoch()

    def after(self, loss: float) -> bool:
        """Take in an iteration that ends with this loss, its weights in place; return whether to stop."""
        e = self.estimator
        e.n_iter_ += 1
        e.loss_ = loss
        e._watch.losses.append(loss)
        e._say(f"Iteration {e.n_iter_}, loss = {loss:.8f}")
        stop = self._look()
        e._publish()
        self.ended = self.observers.end_epoch() or stop
        self.ended = self.ended or self.pressed.requested
        if not self.ended and e.n_iter_ < e.max_iter:
            self.observers.begin_epoch()
        return self.ended

    def _look(self) -> bool:
        """Look at the held-out rows, where there are some; return whether to stop."""
        e, watch = self.estimator, self.estimator._watch
        if self.held_out is None:
            return False
        look(e, self.held_out)
        watch.over = bool(e.early_stopping and watch.idle > e.n_iter_no_change)
        if watch.over:
            e._say(
                f"Validation score did not improve more than tol={e.tol:f} for {e.n_iter_no_change} consecutive "
                "iterations. Stopping."
            )
        return bool(watch.over)

    def put_best_back(self) -> None:
        """Put the weights of the best score back, if the fit goes by scores."""
        if self.held_out is not None and self.estimator.early_stopping:
            self.estimator._watch.restore(self.estimator._net.buffers)


def fit_lbfgs(estimator: Any, net: Sequential, rows: Rows, held_out: Rows | None, observers: Observers) -> None:
    """Minimise by SciPy's L-BFGS-B with scikit-learn's loss, options and order of parameters."""
    e = estimator
    objective = PenalisedLoss(net, rows, rows.penalty(float(e.alpha)), e.n_threads)
    options = {"maxfun": e.max_fun, "maxiter": e.max_iter, "gtol": e.tol}
    with interrupt.Interrupt() as pressed:
        iterations = Iterations(e, held_out, observers, pressed)

        def callback(intermediate_result: Any) -> None:
            objective.leave(intermediate_result.x)
            if iterations.after(float(intermediate_result.fun)):
                raise StopIteration

        start = objective.weights()
        result = minimize(objective, start, jac=True, method="L-BFGS-B", options=options, callback=callback)
    if pressed.requested:
        observers.later.append(INTERRUPTED)
    objective.leave(result.x)
    iterations.put_best_back()
    if not iterations.ended:
        e.n_iter_ = min(result.nit, e.max_iter)
        if result.status != 0:
            told = f"lbfgs failed to converge after {e.n_iter_} iteration(s) (status={result.status}): {result.message}"
            observers.later.append((f"{told}. Increase max_iter or scale the data.", ConvergenceWarning))
    e.loss_ = float(result.fun)
    if not math.isfinite(e.loss_):
        raise e._not_finite(rows)


class _Objective(Objective):
    """The loss over all rows, which may be sparse: kernels that take arrays alone leave those out."""

    def _fused(self) -> Any:
        return None if issparse(self.batch.x) else super()._fused()


def fit_full_batch(
    estimator: Any,
    net: Sequential,
    rows: Rows,
    held_out: Rows | None,
    observers: Observers,
    solver: str | FullBatch,
) -> None:
    """Minimise by a full-batch optimiser; the penalty is ``alpha / 2`` times the squared norm by the rows."""
    e = estimator
    optimizer = full_batch.find(solver) if isinstance(solver, str) else copy.copy(solver)
    try:
        optimizer.check(net)
    except ValueError as error:
        raise ValueError(str(error).replace("optimizer:", "solver:", 1)) from None
    total = float(rows.n if rows.weight is None else to_numpy(rows.weight).sum())
    optimizer.l2 += rows.penalty(float(e.alpha)) / total
    weight = None if rows.weight is None else to_numpy(rows.weight)
    batch = Batch(rows.together(), rows.target, rows.mask, rows.weight)
    objective = _Objective(net, batch, Context(True, mask=rows.mask, need_dx=False), optimizer.l2, e.n_threads)

    def value(w: Array) -> float:
        """Return scikit-learn's loss of the weights seen last."""
        penalty = 0.5 * optimizer.l2 * float(np.sum(w[objective.decayed] ** 2))
        return reported(net.loss, objective.loss, rows.target, weight) + penalty

    with interrupt.Interrupt() as pressed, np.errstate(over="ignore", invalid="ignore"):
        start = objective.weights()
        objective(start)
        e.loss_ = value(start)  # which it stays where no iteration leads anywhere
        if not math.isfinite(e.loss_):
            raise e._not_finite(rows)
        iterations = Iterations(e, held_out, observers, pressed)

        def report(w: Array) -> bool:
            objective.leave(w)
            return iterations.after(value(w)) or e.n_iter_ >= e.max_iter

        objective.leave(optimizer.run(objective, e.max_iter, report))
    if pressed.requested:
        observers.later.append(INTERRUPTED)
    if not math.isfinite(e.loss_):
        raise e._not_finite(rows)
    iterations.put_best_back()
    if e.n_iter_ >= e.max_iter and not iterations.ended:
        reached = f"{e.max_iter} iterations reached and the optimization hasn't converged yet."
        told = f"solver={solver!r}: {reached} Increase max_iter or scale the data."
        observers.later.append((told, ConvergenceWarning))
