"""Optimisers that look at all rows at once: SciPy's minimisers behind one face, and scaled conjugate gradient."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mlpx.errors import check_count, check_name, check_number
from mlpx.layers import Activation, Dense, Dropout
from mlpx.losses import SquaredError
from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.representation import short_repr
from mlpx.tunable import Tunable
from mlpx.typing import Array

Report = Callable[[Array], bool]
"""``report(w)``: called after each iteration with the weights reached; True asks to stop."""


class Objective(Protocol):
    """A loss over all rows as a function of one vector of float64 weights; see `mlpx.training.objective`."""

    batch: Batch
    loss: float
    stopped: str

    def __call__(self, w: Array) -> tuple[float, Array]:
        """Return the penalised loss and its gradient at the weights ``w`` (k,)."""

    def weights(self) -> Array:
        """Return the network's weights as a vector (k,)."""

    def went_to(self, w: Array, value: float) -> None:
        """Take note of the weights that an iteration reached, and of the penalised loss there."""

    def residuals(self, w: Array) -> Array:
        """Return the residuals whose half sum of squares is the penalised loss."""

    def jacobian(self, w: Array) -> Array:
        """Return the derivatives of the residuals for the weights."""


STUCK = "no further progress"
"""Why a fit ended whose line search failed before the tolerance was met: at the limits of rounding, as a rule."""


@dataclass(kw_only=True, repr=False)
class FullBatch(Tunable, ABC):
    """An optimiser that sees all rows in each iteration; ``epochs`` of a fit is its limit of iterations.

    Parameters
    ----------
    l2 : float
        Adds ``l2 / 2`` times the squared norm of the weights (not the biases) to the loss.
    tol : float
        Tolerance at which it calls itself converged; SciPy's meaning for SciPy's minimisers.
    """

    l2: float = 0.0
    tol: float = 1e-8

    def __post_init__(self) -> None:
        self.l2 = check_number("l2", self.l2, 0.0)
        self.tol = check_number("tol", self.tol, 0.0)

    def __repr__(self) -> str:
        return short_repr(self)

    def check(self, net: Network) -> None:
        """Raise ValueError for a network that this optimiser cannot train: one with dropout, say."""
        if any(isinstance(layer, Dropout) and layer.p > 0.0 for layer in net.all_layers()):
            raise ValueError(
                f"optimizer: {type(self).__name__} compares the losses of different weights, and Dropout changes them "
                "by chance. Leave the Dropout layers out, or take an optimiser of mini-batches such as 'adam'."
            )

    @abstractmethod
    def run(self, objective: Objective, iterations: int, report: Report) -> Array:
        """Minimise from the network's weights; return the best vector found."""


def _minimize(objective: Objective, method: str, options: dict[str, Any], report: Report) -> Array:
    from scipy.optimize import minimize

    def callback(intermediate_result: Any) -> None:  # SciPy goes by the name
        objective.went_to(intermediate_result.x, float(intermediate_result.fun))
        if report(intermediate_result.x):
            raise StopIteration

    start = objective.weights()
    result = minimize(objective, start, jac=True, method=method, callback=callback, options=options)
    if not result.success:
        objective.stopped = STUCK
    return result.x


@dataclass(kw_only=True, repr=False)
class LBFGS(FullBatch):
    """L-BFGS-B through `scipy.optimize.minimize`. Source: Byrd et al. 1995.

    Parameters
    ----------
    memory : int
        Past steps that shape its metric, 1 to 1000.
    """

    memory: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        self.memory = check_count("memory", self.memory, 1, 1000)

    def run(self, objective: Objective, iterations: int, report: Report) -> Array:
        """Minimise."""
        options = {"maxiter": iterations, "maxfun": 20 * iterations, "maxcor": self.memory, "gtol": self.tol}
        return _minimize(objective, "L-BFGS-B", options | {"ftol": 1e-15}, report)


@dataclass(kw_only=True, repr=False)
class ConjugateGradient(FullBatch):
    """Nonlinear conjugate gradient (Polak-Ribiere) through `scipy.optimize.minimize`."""

    def run(self, objective: Objective, iterations: int, report: Report) -> Array:
        """Minimise."""
        return _minimize(objective, "CG", {"maxiter": iterations, "gtol": self.tol}, report)


@dataclass(kw_only=True, repr=False)
class LevenbergMarquardt(FullBatch):
    """Levenberg-Marquardt through `scipy.optimize.least_squares`, for squared error and small dense networks.

    It builds the Jacobian (rows * outputs, parameters). With fewer residuals than parameters, where SciPy's "lm"
    refuses, its trust-region form "trf" takes over.
    """

    def check(self, net: Network) -> None:
        """Raise ValueError unless the loss is squared error and all layers are Dense or Activation."""
        if not isinstance(net.loss, SquaredError):
            raise ValueError(f"optimizer: LevenbergMarquardt needs the loss squared_error, got {net.loss.name!r}.")
        other = [type(layer).__name__ for layer in net.layers if not isinstance(layer, Dense | Activation)]
        if other:
            raise ValueError(
                f"optimizer: LevenbergMarquardt needs rows that are independent of each other, in Dense and "
                f"Activation layers; got {', '.join(other)}."
            )

    def run(self, objective: Objective, iterations: int, report: Report) -> Array:
        """Minimise; iterations count the Jacobians."""
        from scipy.optimize import least_squares

        if objective.batch.target.ndim != 2:
            raise ValueError(
                f"x: has shape {tuple(objective.batch.x.shape)}; LevenbergMarquardt takes rows (n, n_in). Collapse the "
                "leading axes of x and y first, for example with x.reshape(-1, x.shape[-1])."
            )
        best = [math.inf, objective.weights()]

        def jacobian(w: Array) -> Array:
            r = objective.residuals(w)
            value = 0.5 * float(r @ r)
            if value < best[0]:
                best[:] = value, w.copy()
            objective.loss = 0.5 * float(r[: objective.batch.target.size] @ r[: objective.batch.target.size])
            if report(w):
                raise StopIteration
            return objective.jacobian(w)

        start = objective.weights()
        tol = max(self.tol, float(np.finfo(np.float64).eps))  # SciPy takes none below
        method = "lm" if objective.batch.target.size >= start.size else "trf"
        try:
            result = least_squares(
                objective.residuals,
                start,
                jac=jacobian,
                method=method,
                xtol=tol,
                ftol=tol,
                gtol=tol,
                max_nfev=2 * iterations,
            )
        except StopIteration:
            return best[1]
        if not result.success:
            objective.stopped = STUCK
        return result.x


@dataclass(kw_only=True, repr=False)
class ScaledConjugateGradient(FullBatch):
    """Scaled conjugate gradient: no line search, two gradients an iteration. Source: Møller 1993.

    An iteration whose step would raise the loss takes none, and the next one tries a shorter step.

    Parameters
    ----------
    sigma : float
        Length of the step, in units of the weights, along which curvature is measured; above 0.
    lambda_ : float
        What is added to the curvature at first, above 0; it adapts.
    """

    sigma: float = 1e-5
    lambda_: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sigma = check_number("sigma", self.sigma, 0.0, open_low=True)
        self.lambda_ = check_number("lambda_", self.lambda_, 0.0, open_low=True)

    def run(self, objective: Objective, iterations: int, report: Report) -> Array:
        """Minimise, with the names of the paper's algorithm: p direction, r steepest descent, lambda scale."""
        w = objective.weights()
        value, gradient = objective(w)
        r = -gradient
        p = r.copy()
        lam, lam_bar, success, delta = self.lambda_, 0.0, True, 0.0
        for k in range(1, iterations + 1):
            norm2 = float(p @ p)
            if norm2 == 0.0:
                break
            if success:
                sigma = self.sigma / math.sqrt(norm2)
                s = (objective(w + sigma * p)[1] + r) / sigma
                delta = float(p @ s)
            delta += (lam - lam_bar) * norm2
            if delta <= 0:  # make the Hessian positive definite
                lam_bar = 2.0 * (lam - delta / norm2)
                delta = -delta + lam * norm2
                lam = lam_bar
            mu = float(p @ r)
            alpha = mu / delta
            new_value, new_gradient = objective(w + alpha * p)
            comparison = 2.0 * delta * (value - new_value) / mu**2 if mu else 0.0
            if comparison >= 0 and math.isfinite(new_value):
                w, value = w + alpha * p, new_value
                new_r = -new_gradient
                lam_bar, success = 0.0, True
                beta = (float(new_r @ new_r) - float(new_r @ r)) / mu if mu else 0.0
                p = new_r.copy() if k % w.size == 0 else new_r + beta * p
                r = new_r
                if comparison >= 0.75:
                    lam = max(lam / 4.0, 1e-15)
            else:
                lam_bar, success = lam, False
            if comparison < 0.25 or not math.isfinite(comparison):
                lam = min(lam + delta * (1.0 - comparison) / norm2 if math.isfinite(comparison) else 4.0 * lam, 1e30)
            objective.went_to(w, value)
            if report(w) or math.sqrt(float(r @ r)) < self.tol:
                break
        return w


FULL_BATCH: dict[str, type[FullBatch]] = {
    "lbfgs": LBFGS,
    "conjugate_gradient": ConjugateGradient,
    "levenberg_marquardt": LevenbergMarquardt,
    "scaled_conjugate_gradient": ScaledConjugateGradient,
}


def find(optimizer: str) -> FullBatch:
    """Return the full-batch optimiser of a name with its defaults."""
    return FULL_BATCH[check_name("optimizer", optimizer, FULL_BATCH)]()
