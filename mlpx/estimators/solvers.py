"""Solvers: the optimiser behind each name or object, and the learning rate of each step."""

import copy
from typing import Any

from mlpx import schedules
from mlpx.backend import dtype_name
from mlpx.network import Network
from mlpx.optimizers import OPTIMIZERS, Adam, Momentum, Nesterov, Optimizer
from mlpx.optimizers.full_batch import FULL_BATCH, FullBatch
from mlpx.schedules import SCHEDULES, Constant

POLICIES = ("constant", "invscaling", "adaptive")
"""scikit-learn's learning rates; the library's schedules come beside them."""


def on_batches(solver: Any) -> bool:
    """Return whether a solver steps on mini-batches, and does not look at all rows at once."""
    return isinstance(solver, Optimizer) or (isinstance(solver, str) and solver in OPTIMIZERS)


def optimizer_of(estimator: Any) -> Optimizer:
    """Return a new optimiser for an estimator's parameters, which are never changed themselves."""
    solver = estimator.solver
    if isinstance(solver, Optimizer):
        made = copy.deepcopy(solver)
        made.forget()
        if estimator.clip_norm is not None and made.clip_norm is not None:
            raise ValueError("clip_norm: is given twice, to the estimator and to the solver object; drop one.")
    else:
        made = _named(estimator, solver)
    if estimator.clip_norm is not None:
        made.clip_norm = float(estimator.clip_norm)
    if estimator.learning_rate not in POLICIES:
        if not isinstance(schedules.find(made.schedule), Constant):
            raise ValueError("learning_rate: the solver object has a schedule already; give it in one place.")
        made.schedule = copy.deepcopy(schedules.find(estimator.learning_rate))
    return made


def _named(estimator: Any, name: str) -> Optimizer:
    lr = float(estimator.learning_rate_init)
    if name == "adam":
        betas = float(estimator.beta_1), float(estimator.beta_2)
        return Adam(lr=lr, beta1=betas[0], beta2=betas[1], eps=float(estimator.epsilon))
    if name not in ("sgd", "momentum", "nesterov"):
        return OPTIMIZERS[name](lr=lr)
    nesterov = name == "nesterov" or (name == "sgd" and estimator.nesterovs_momentum)
    made = (Nesterov if nesterov else Momentum)(lr=lr)
    made.momentum = float(estimator.momentum)  # set afterwards: 1 is allowed here
    return made


def options_of(estimator: Any) -> tuple[Any, ...]:
    """Return copies of the parameters that `optimizer_of` makes an optimiser of; the learning rate's is the first."""
    return tuple(
        copy.copy(value) if isinstance(value, Optimizer | schedules.Schedule) else value
        for value in (getattr(estimator, name) for name in OPTIONS)
    )


def going_on(optimizer: Optimizer, estimator: Any, net: Network) -> Optimizer:
    """Return an optimiser of an estimator's parameters that goes on from the state of another, if it is of its kind."""
    made = optimizer_of(estimator)
    made.start(net)
    if type(made) is type(optimizer):
        made.state, made.steps = optimizer.state, optimizer.steps
    return made


def fits(optimizer: Optimizer, net: Network) -> bool:
    """Return whether an optimiser's state is that of a network of this size and dtype."""
    return all(s.shape == net.parameters.shape and dtype_name(s) == net.dtype for s in optimizer.state)


OPTIONS = (
    "learning_rate", "solver", "learning_rate_init", "momentum", "nesterovs_momentum", "beta_1", "beta_2", "epsilon",
    "clip_norm",
)  # fmt: skip
NAMES = {"lbfgs", *OPTIMIZERS, *FULL_BATCH}
"""Every solver by name; "lbfgs", "sgd" and "adam" are scikit-learn's."""
KINDS = (Optimizer, FullBatch)
RATES = {*POLICIES, *SCHEDULES}
"""Every learning rate by name."""
