"""The solver "lbfgs": SciPy's L-BFGS-B over all rows, with scikit-learn's loss, options and order of parameters."""

import math
from typing import Any

import numpy as np
from scipy.optimize import minimize

from mlpx.errors import DivergenceError
from mlpx.estimators.steps import Steps
from mlpx.layers import Dense
from mlpx.model import Sequential
from mlpx.optimizers import SGD
from mlpx.typing import Array


class Objective:
    """The loss and its gradient as functions of one vector: the coefs, then the intercepts, layer by layer; then what
    norms there are.
    """

    def __init__(
        self, net: Sequential, x: Any, target: Array, weight: Array | None, alpha: float, n_threads: int | None
    ) -> None:
        self.net, self.alpha = net, alpha
        dense = [layer for layer in net.all_layers() if isinstance(layer, Dense)]
        self.parameters = [layer.parameters[name] for name in ("w", "b") for layer in dense]
        others = [layer for layer in net.all_layers() if not isinstance(layer, Dense)]
        self.parameters += [p for layer in others for p in layer.parameters.values()]
        self.n_weights = sum(p.size for p in self.parameters if p.decay)
        self.rows = np.arange(x.shape[0])
        self.total = float(x.shape[0] if weight is None else weight.sum())
        still = SGD()
        still.start(net)
        self.steps = Steps(net, x, target, weight, x.shape[0], still, alpha, n_threads)

    def weights(self) -> Array:
        """Return the network's parameters as one vector."""
        return np.concatenate([p.value.T.ravel() for p in self.parameters])

    def set_weights(self, vector: Array) -> None:
        """Write a vector into the network."""
        start = 0
        for p in self.parameters:
            p.value.T[...] = vector[start : start + p.size].reshape(p.shape[::-1])
            start += p.size

    def __call__(self, vector: Array) -> tuple[float, Array]:
        """Return the penalised loss and its gradient at a vector."""
        self.set_weights(vector)
        try:
            loss = self.steps.epoch(self.rows, 0.0, lambda taken: None)
        except DivergenceError:
            loss = math.nan
        gradient = np.concatenate([p.grad.T.ravel() for p in self.parameters]).astype(np.float64, copy=False)
        gradient[: self.n_weights] += self.alpha / self.total * vector[: self.n_weights]
        return loss, gradient


def lbfgs(objective: Objective, *, max_iter: int, max_fun: int, tol: float) -> Any:
    """Minimise and leave the network at the minimum; return SciPy's result."""
    options = {"maxfun": max_fun, "maxiter": max_iter, "gtol": tol}
    result = minimize(objective, objective.weights(), jac=True, method="L-BFGS-B", options=options)
    objective.set_weights(result.x)
    return result
