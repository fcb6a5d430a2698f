"""Optimisers: mini-batch updates, and full-batch minimisers."""

from mlpx.optimizers.base import Optimizer
from mlpx.optimizers.full_batch import (
    FULL_BATCH,
    LBFGS,
    ConjugateGradient,
    FullBatch,
    LevenbergMarquardt,
    ScaledConjugateGradient,
)
from mlpx.optimizers.minibatch import (
    OPTIMIZERS,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    Momentum,
    Nesterov,
    RMSprop,
    Rprop,
    find,
)

__all__ = [
    "FULL_BATCH",
    "LBFGS",
    "OPTIMIZERS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "ConjugateGradient",
    "FullBatch",
    "LevenbergMarquardt",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "RMSprop",
    "Rprop",
    "ScaledConjugateGradient",
    "find",
]
