"""Callbacks: what a fit calls at its start, after each epoch and at its end; early stopping is one of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mlpx.backend import to_numpy
from mlpx.callbacks.history import History
from mlpx.errors import check_count, check_flag, check_name, check_number, shown
from mlpx.losses import ClassLoss, LabelLoss
from mlpx.network import Network
from mlpx.typing import Array


@dataclass
class Run:
    """A fit in progress, as callbacks see it.

    Attributes
    ----------
    net : Network
    history : History
    n_epochs : int
        Epochs asked for.
    epoch : int
        The epoch that just ended, from 0.
    stop : str
        Set it to a reason, and the fit ends after this epoch.
    validated : bool
        Whether each epoch looks at held-out rows.
    """

    net: Network
    history: History
    n_epochs: int
    epoch: int = 0
    stop: str = ""
    validated: bool = False


class Callback:
    """Base of callbacks; override what you need. A plain function of a `Run` is called after each epoch."""

    def on_start(self, run: Run) -> None:
        """Called once when a fit begins."""

    def on_epoch(self, run: Run) -> None:
        """Called after each epoch."""

    def on_end(self, run: Run) -> None:
        """Called once when a fit has ended, by success, failure or interruption."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint is to hold of it: numbers, names, lists, dicts and arrays on the host."""
        return {}

    def restore(self, run: Run, state: dict[str, Any]) -> None:
        """Take up what `state` returned; called after ``on_start``, by a fit that goes on from a checkpoint."""


@dataclass
class _Function(Callback):
    function: Callable[[Run], Any]

    def on_epoch(self, run: Run) -> None:
        """Call the function; a result that is true ends the fit."""
        if self.function(run):
            run.stop = run.stop or "callback"


def as_callback(callback: Callback | Callable[[Run], Any]) -> Callback:
    """Return a callback object for an object or a function."""
    if isinstance(callback, Callback):
        return callback
    if isinstance(callback, type) or not callable(callback):
        raise TypeError(f"callbacks: expected Callback objects or functions, got {shown(callback)}.")
    return _Function(callback)


MONITORS = ("auto", "loss", "validation_loss", "validation_accuracy")


@dataclass
class EarlyStopping(Callback):
    """End a fit that no longer improves, and put the best weights back.

    Parameters
    ----------
    patience : int
        Epochs without improvement to wait for.
    min_delta : float
        An improvement is a change for the better by more than this.
    monitor : str
        A curve of the history; "auto" is the validation loss where there is one, else the training loss.
    restore_best : bool
        Whether the weights of the best epoch come back at the end, whatever ended the fit.
    """

    patience: int = 10
    min_delta: float = 0.0
    monitor: str = "auto"
    restore_best: bool = True
    _best: float = field(default=math.inf, init=False, repr=False)
    _best_epoch: int | None = field(default=None, init=False, repr=False)
    _weights: tuple[Array, Array] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.patience = check_count("patience", self.patience)
        self.min_delta = check_number("min_delta", self.min_delta, 0.0)
        self.restore_best = check_flag("restore_best", self.restore_best)
        check_name("monitor", self.monitor, MONITORS)

    def on_start(self, run: Run) -> None:
        """Forget an earlier fit; refuse one that will not have the monitored curve."""
        if self.monitor.startswith("validation") and not run.validated:
            raise ValueError(
                f"EarlyStopping: monitor {self.monitor!r} needs held-out rows; pass validation=... to fit."
            )
        if self.monitor == "validation_accuracy" and not isinstance(run.net.loss, ClassLoss | LabelLoss):
            raise ValueError(
                f"EarlyStopping: monitor {self.monitor!r} is for classes, and the loss is {run.net.loss.name!r}; take "
                "'validation_loss'."
            )
        self._best, self._best_epoch, self._weights = math.inf, None, None

    def on_epoch(self, run: Run) -> None:
        """Compare the monitored value with the best so far."""
        if self.monitor == "auto":
            value = run.history.monitored()
        else:
            curve = getattr(run.history, self.monitor)
            if not curve:
                raise ValueError(f"EarlyStopping: monitor {self.monitor!r} has no values: no held-out row counts.")
            value = -curve[-1] if self.monitor == "validation_accuracy" else curve[-1]
        value = math.inf if math.isnan(value) else value  # nothing would ever be better than NaN
        if value < self._best - self.min_delta or self._best_epoch is None:
            self._best, self._best_epoch = value, run.epoch
            if self.restore_best:
                xp, buffers = run.net.backend.xp, run.net.buffers
                self._weights = (
                    xp.asarray(buffers.parameters, copy=True),
                    xp.asarray(buffers.statistics, copy=True),
                )
        elif run.epoch - self._best_epoch >= self.patience:
            run.stop = "early stopping"

    def state(self) -> dict[str, Any]:
        """Return the best value, its epoch, and its weights."""
        weights = None if self._weights is None else [to_numpy(each) for each in self._weights]
        return {"best": self._best, "epoch": self._best_epoch, "weights": weights}

    def restore(self, run: Run, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._best, self._best_epoch, weights = state["best"], state["epoch"], state["weights"]
        if weights is not None:
            parameters, statistics = (run.net.backend.asarray(each) for each in weights)
            self._weights = parameters, statistics

    def on_end(self, run: Run) -> None:
        """Put the best weights back."""
        run.history.best_epoch = self._best_epoch
        if self._weights is not None:
            run.net.buffers.parameters[...], run.net.buffers.statistics[...] = self._weights
