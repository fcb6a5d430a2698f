"""mlpx: multi-layer perceptrons for NumPy and CuPy, written once, fused where it counts, checked everywhere."""

from typing import Any

from mlpx import callbacks, initializers, layers, losses, ops, optimizers, schedules
from mlpx._version import __version__
from mlpx.backend import asarray, get_backend, set_backend, to_numpy, using_backend
from mlpx.callbacks import EarlyStopping
from mlpx.callbacks.history import History
from mlpx.errors import BackendError, DivergenceError, GradientError, ModelFileError, TrainingInterrupted
from mlpx.gradcheck import check_gradients
from mlpx.initializers import Uniform
from mlpx.layers import (
    Activation,
    BatchNorm,
    Dense,
    Dropout,
    LayerNorm,
    MaskedSoftmax,
    Softmax,
    TimeDistributed,
)
from mlpx.loading import load
from mlpx.losses import (
    AbsoluteError,
    BinaryCrossEntropy,
    BinaryFocal,
    CrossEntropy,
    Focal,
    Gamma,
    Hinge,
    Huber,
    Poisson,
    Quantile,
    SquaredError,
)
from mlpx.models import MLP, Sequential
from mlpx.optimizers import (
    LBFGS,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    ConjugateGradient,
    LevenbergMarquardt,
    Momentum,
    Nesterov,
    RMSprop,
    Rprop,
    ScaledConjugateGradient,
)
from mlpx.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    OneCycle,
    ReduceOnPlateau,
    Step,
    WarmUp,
)

__all__ = [
    "LBFGS",
    "MLP",
    "SGD",
    "AbsoluteError",
    "Activation",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "BackendError",
    "BatchNorm",
    "BinaryCrossEntropy",
    "BinaryFocal",
    "ConjugateGradient",
    "Constant",
    "Cosine",
    "CrossEntropy",
    "Dense",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "Exponential",
    "Focal",
    "Gamma",
    "GradientError",
    "Hinge",
    "History",
    "Huber",
    "InverseScaling",
    "LayerNorm",
    "LevenbergMarquardt",
    "MaskedSoftmax",
    "ModelFileError",
    "Momentum",
    "Nesterov",
    "OneCycle",
    "Poisson",
    "Quantile",
    "RMSprop",
    "ReduceOnPlateau",
    "Rprop",
    "ScaledConjugateGradient",
    "Sequential",
    "Softmax",
    "SquaredError",
    "Step",
    "TimeDistributed",
    "TrainingInterrupted",
    "Uniform",
    "WarmUp",
    "__version__",
    "asarray",
    "callbacks",
    "check_gradients",
    "get_backend",
    "initializers",
    "layers",
    "load",
    "losses",
    "ops",
    "optimizers",
    "schedules",
    "set_backend",
    "to_numpy",
    "using_backend",
]

_ESTIMATORS = ("MLPClassifier", "MLPRegressor")


def __getattr__(name: str) -> Any:
    """Import the estimators when they are first asked for, since they bring scikit-learn with them."""
    if name not in _ESTIMATORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mlpx import estimators

    found = globals()[name] = getattr(estimators, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_ESTIMATORS})
