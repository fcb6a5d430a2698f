"""The progress bar of a fit, drawn by rich."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from mlpx.callbacks import Callback, Run
from mlpx.errors import shown

T = TypeVar("T")


class ProgressBar(Callback):
    """A bar with the epoch, the losses and the time left, on standard error."""

    def __init__(self) -> None:
        self._bar: Any = None

    def on_start(self, run: Run) -> None:
        """Draw the empty bar."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
        )
        self._bar.start()
        self._task = self._bar.add_task("starting; kernels compile on their first use", total=run.n_epochs)

    def on_epoch(self, run: Run) -> None:
        """Move the bar."""
        history = run.history
        text = f"loss {history.loss[-1]:.4f}"
        if history.validation_loss:
            text += f"  validation {history.validation_loss[-1]:.4f}"
        if history.validation_accuracy:
            text += f"  accuracy {history.validation_accuracy[-1]:.1%}"
        self._bar.update(self._task, completed=run.epoch + 1, description=text)

    def on_end(self, run: Run) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.stop()


def wanted(progress: bool | str) -> bool:
    """Return whether to draw a bar: True, False, or "auto" for when standard error is a terminal.

    Programs without a console have no standard error, or a closed one; then there is nothing to draw on.
    """
    if isinstance(progress, str) and progress == "auto":
        return _writable() and bool(getattr(sys.stderr, "isatty", bool)())
    if not isinstance(progress, int | np.bool_) or progress not in (0, 1):
        raise ValueError(f'progress: expected True, False or "auto", got {shown(progress)}.')
    return bool(progress) and _writable()


def _writable() -> bool:
    return sys.stderr is not None and not getattr(sys.stderr, "closed", False)


def counted(jobs: Sequence[T], text: str) -> Iterator[T]:
    """Yield ``jobs`` while a bar on standard error counts them."""
    from rich.console import Console
    from rich.progress import track

    yield from track(jobs, text, console=Console(stderr=True))
