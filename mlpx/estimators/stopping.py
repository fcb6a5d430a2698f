"""When a stochastic fit ends: scikit-learn's count of epochs without improvement, and its learning-rate policies."""

from dataclasses import dataclass, field

import numpy as np

from mlpx.backend import backend_of
from mlpx.estimators.devices import copied
from mlpx.layers import Buffers
from mlpx.typing import Array


@dataclass
class Watch:
    """What a fit remembers from epoch to epoch, and `partial_fit` from call to call.

    Attributes
    ----------
    losses, validation_losses, scores : list of float
        Training losses; losses and scores of held-out rows.
    best_loss, best_score : float
    idle : int
        Epochs in a row without an improvement of at least ``tol``.
    best : tuple of array, optional
        The parameters and running statistics of the best score.
    over : bool
        Whether early stopping has ended the training.
    of_fit : bool
        Whether ``fit`` was the last to train; calls of ``partial_fit`` then start a watch of their own.
    scored : bool, optional
        Whether idle epochs are those of scores, and not of losses.
    """

    losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best_loss: float = np.inf
    best_score: float = -np.inf
    idle: int = 0
    best: tuple[Array, Array] | None = None
    over: bool = False
    of_fit: bool = False
    scored: bool | None = None

    def begin(self, *, early_stopping: bool, incremental: bool) -> None:
        """Go on where the call before ended, or count anew: for the first call after a fit, and for another measure."""
        if (early_stopping and incremental and self.of_fit) or self.scored is (not early_stopping):
            self.best_score, self.best, self.idle, self.over = -np.inf, None, 0, False
        self.of_fit, self.scored = not incremental, bool(early_stopping)

    def curves(self) -> tuple[list[float], ...]:
        """Return the curves, which grow as long as training goes on."""
        return self.losses, self.validation_losses, self.scores

    def see_loss(self, loss: float, tol: float) -> None:
        """Take in an epoch's training loss."""
        self.idle = self.idle + 1 if loss > self.best_loss - tol else 0
        self.best_loss = min(self.best_loss, loss)

    def see_score(self, score: float, tol: float, buffers: Buffers) -> None:
        """Take in an epoch's validation score, which may be NaN, and keep the weights of the best."""
        self.idle = self.idle + 1 if score < self.best_score + tol else 0
        if score > self.best_score:
            self.best_score = score
            self.best = (copied(buffers.parameters), copied(buffers.statistics))

    def restore(self, buffers: Buffers) -> None:
        """Put the weights of the best score back; where none are kept, those that are there count as such."""
        if self.best is None:
            self.best = (copied(buffers.parameters), copied(buffers.statistics))
        backend = backend_of(buffers.parameters)
        buffers.parameters[...], buffers.statistics[...] = (backend.asarray(each) for each in self.best)


def next_rate(policy: str, lr: float, message: str) -> tuple[float | None, str]:
    """Return the learning rate to go on with when nothing improved, None to stop, and what to say about it."""
    if policy != "adaptive":
        return None, f"{message} Stopping."
    if lr <= 1e-6:
        return None, f"{message} Learning rate too small. Stopping."
    return lr / 5.0, f"{message} Setting learning rate to {lr / 5.0:f}"
