"""The classes that files may hold beside built-in types and arrays, listed once, and how each is written."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from mlpx.callbacks import EarlyStopping
from mlpx.callbacks.history import History
from mlpx.errors import check_count, check_number
from mlpx.files.plain_values import Record, Records
from mlpx.initializers import Uniform
from mlpx.losses import CustomLoss, Loss
from mlpx.optimizers import OPTIMIZERS
from mlpx.optimizers.full_batch import FULL_BATCH
from mlpx.schedules import SCHEDULES, ReduceOnPlateau

CURVES = ("loss", "validation_loss", "validation_accuracy", "learning_rate", "seconds")


def of_fields(kind: type, *progress: str, check: Callable[[Any], None] = lambda made: None) -> Record:
    """Return how a dataclass is written: by its constructor's arguments, and the attributes of its progress.

    Parameters
    ----------
    kind : type
    *progress : str
        Attributes that no argument sets.
    check : callable
        Raises for an object whose progress cannot be.
    """
    options = [field.name for field in fields(kind) if field.init]

    def state(value: Any) -> dict[str, Any]:
        return {name: getattr(value, name) for name in (*options, *progress)}

    def made(given: dict[str, Any]) -> Any:
        if odd := given.keys() - {*options, *progress}:
            raise ValueError(f"{kind.__name__}: has no option {', '.join(sorted(odd))}")
        # What an older version did not have yet gets its default.
        value = kind(**{name: each for name, each in given.items() if name not in progress})
        for name in progress:
            setattr(value, name, given[name])
        check(value)
        return value

    return Record(kind, state, made)


def _optimizer(kind: type) -> Record:
    """Return how an optimiser's options are written; its state belongs to a network's weights, not here."""
    record = of_fields(kind)

    def made(given: dict[str, Any]) -> Any:
        momentum = given.get("momentum")
        if momentum != 1.0:
            return record.made(given)
        value = record.made(given | {"momentum": 0.0})  # scikit-learn allows 1, which the constructor does not
        value.momentum = momentum
        return value

    return Record(kind, record.state, made)


def _check_plateau(plateau: ReduceOnPlateau) -> None:
    check_number("_factor", plateau._factor, 0.0)
    check_count("_waited", plateau._waited, 0)
    _check_curve("_best", [plateau._best])


def _check_stopping(stopping: EarlyStopping) -> None:
    _check_curve("_best", [stopping._best])
    if stopping._best_epoch is not None:
        check_count("_best_epoch", stopping._best_epoch, 0)
    if stopping._weights is not None:
        parameters, statistics = stopping._weights
        if parameters.ndim != 1 or statistics.ndim != 1:
            raise ValueError("_weights: expected two arrays of one axis")


def _check_history(history: History) -> None:
    for name in CURVES:
        _check_curve(name, getattr(history, name))
    check_count("steps", history.steps, 0)
    if history.best_epoch is not None:
        check_count("best_epoch", history.best_epoch, 0)
    if not isinstance(history.stopped, str):
        raise TypeError("stopped: expected a str")


def _history() -> Record:
    """Return how a history is written: with numbers of NumPy among its own as plain ones."""
    record = of_fields(History, check=_check_history)

    def state(history: History) -> dict[str, Any]:
        return record.state(history) | {name: [float(x) for x in getattr(history, name)] for name in CURVES}

    return Record(History, state, record.made)


def _check_curve(name: str, values: Any) -> None:
    if not isinstance(values, list) or not all(type(value) is float for value in values):
        raise TypeError(f"{name}: expected a list of floats")


CHECKED = {
    ReduceOnPlateau: of_fields(ReduceOnPlateau, "_factor", "_best", "_waited", check=_check_plateau),
    EarlyStopping: of_fields(EarlyStopping, "_best", "_best_epoch", "_weights", check=_check_stopping),
    History: _history(),
}
"""What has more than options."""
OPTIONS: list[type] = [
    Uniform,
    *SCHEDULES.values(),
    *FULL_BATCH.values(),
    *(k for k in Loss.kinds.values() if k is not CustomLoss),
]
RECORDS: Records = {
    **{kind.__name__: _optimizer(kind) for kind in OPTIMIZERS.values()},
    **{kind.__name__: of_fields(kind) for kind in OPTIONS},
    **{kind.__name__: record for kind, record in CHECKED.items()},
}
