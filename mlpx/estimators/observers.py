"""Those who watch a fit: callbacks of the user's, scikit-learn's callbacks, the progress bar."""

from collections.abc import Callable
from typing import Any

from mlpx.callbacks import Run
from mlpx.callbacks.history import History
from mlpx.callbacks.progress import ProgressBar, wanted
from mlpx.errors import Later

try:  # scikit-learn 1.9 and later
    from sklearn.callback import CallbackSupportMixin as _Mixin
except ImportError:
    _Mixin = object


INTERRUPTED = ("Training interrupted by user.", UserWarning)


class CallbackSupport(_Mixin):  # type: ignore[misc]
    """``set_callbacks``, where the installed scikit-learn has callbacks of its own."""

    def _begin_callbacks(self, X: Any, y: Any, sample_weight: Any) -> "Announcer | None":
        """Tell scikit-learn's callbacks that a fit begins; None without any."""
        if not getattr(self, "_skl_callbacks", None):
            return None
        context = self._init_callback_context(max_subtasks=self.max_iter)
        return Announcer(self, context, X, y, sample_weight)


class Announcer:
    """Tells scikit-learn's callbacks of a fit and of its epochs.

    Attributes
    ----------
    work : BaseMLP
        The estimator at work, whose attributes they get; they are told of the one that is to be fitted.
    """

    def __init__(self, estimator: Any, context: Any, X: Any, y: Any, sample_weight: Any) -> None:
        self.work, self.context = estimator, context
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self.given = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self.epoch: Any = None
        context.call_on_fit_task_begin(**self.given)

    def begin_epoch(self) -> None:
        """Tell that an epoch begins."""
        self.epoch = self.context.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(**self.given)

    def end_epoch(self) -> bool:
        """Tell that it has ended; return whether a callback asks to stop."""
        return bool(self.epoch.call_on_fit_task_end(**self.given, reconstruction_attributes=self.work._frozen))

    def end(self) -> None:
        """Tell that the fit has ended."""
        self.context.call_on_fit_task_end(**self.given, reconstruction_attributes=self.work._frozen)


class Observers:
    """Called at the beginning and the end of each epoch, or iteration of a solver that takes all rows at once.

    Parameters
    ----------
    estimator : BaseMLP
    announcer : Announcer, optional
        Tells scikit-learn's callbacks.
    bar : bool
        Whether a progress bar makes sense; whether it is wanted says the estimator.

    Attributes
    ----------
    later : list of (str, type)
        What the fit is to warn of when it is complete.
    """

    def __init__(self, estimator: Any, announcer: Announcer | None, *, bar: bool) -> None:
        self.estimator, self.announcer = estimator, announcer
        self.callbacks: tuple[Callable[[Any], Any], ...] = tuple(estimator.callbacks or ())
        for callback in self.callbacks:
            if not callable(callback):
                raise ValueError(
                    f"callbacks: expected functions of the estimator, got {callback!r}. scikit-learn's go to "
                    "set_callbacks; for those of mlpx.callbacks there are early_stopping and max_iter."
                )
        self.later: Later = []
        self.bar = ProgressBar() if bar and wanted(estimator.progress_bar) else None

    def __enter__(self) -> "Observers":
        if self.bar is not None:
            self.run = Run(self.estimator._net, History(), self.estimator.max_iter)
            self.bar.on_start(self.run)
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.on_end(self.run)

    @property
    def absent(self) -> bool:
        """Whether nobody watches."""
        return self.announcer is None and self.bar is None and not self.callbacks

    def begin_epoch(self) -> None:
        """Tell that an epoch begins."""
        if self.announcer is not None:
            self.announcer.begin_epoch()

    def end_epoch(self) -> bool:
        """Tell that an epoch has ended, and return whether anyone asks to stop."""
        e = self.estimator
        if self.bar is not None:
            self.run.epoch = e.n_iter_ - 1
            self.run.history.loss.append(e.loss_)
            self.run.history.validation_loss = e._watch.validation_losses[-1:]
            self.bar.on_epoch(self.run)
        stop = False
        for callback in self.callbacks:
            stop = bool(callback(e)) or stop
        return (self.announcer is not None and self.announcer.end_epoch()) or stop
