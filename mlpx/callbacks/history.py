"""What a fit leaves behind: its curves."""

from dataclasses import dataclass, field


@dataclass
class History:
    """The curves of a fit, one entry per epoch.

    For full-batch optimisers, one per iteration; where not even the first found better weights, one for those at the
    start.

    Attributes
    ----------
    loss : list of float
        Training loss: the mean over the epoch's steps, each taken before its update.
    validation_loss : list of float
        Empty without validation data.
    validation_accuracy : list of float
        Share of rows (for sigmoid outputs: of elements) predicted right; empty without validation data or classes.
    learning_rate : list of float
        At the epoch's last step.
    seconds : list of float
        Wall time of each epoch.
    steps : int
        Steps taken in all.
    best_epoch : int or None
        The epoch, from 0, whose weights an early stopping put back.
    stopped : str
        Why the fit ended: "epochs", "converged", "no further progress" (a minimiser whose line search failed), or what
        a callback said.
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    steps: int = 0
    best_epoch: int | None = None
    stopped: str = "epochs"

    @property
    def epochs(self) -> int:
        """The number of complete epochs."""
        return len(self.loss)

    def monitored(self) -> float:
        """Return the newest validation loss, or the newest training loss without validation data."""
        curve = self.validation_loss or self.loss
        if not curve:
            raise ValueError("history: its loss is empty. Callbacks may read the curves, and must leave them.")
        return curve[-1]
