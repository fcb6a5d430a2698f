"""Epochs of mini-batches: scikit-learn's order, loss and ways of ending, on the library's steps."""

from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from mlpx.errors import DivergenceError, TrainingInterrupted, warn
from mlpx.estimators.devices import copied
from mlpx.estimators.kept import steps_of_call
from mlpx.estimators.observers import INTERRUPTED, Observers
from mlpx.estimators.rows import Rows
from mlpx.estimators.solvers import fits, going_on, optimizer_of, options_of
from mlpx.estimators.steps import Steps
from mlpx.estimators.stopping import next_rate
from mlpx.estimators.training_state import TrainingState
from mlpx.estimators.validation import look
from mlpx.optimizers import Optimizer, Rprop
from mlpx.schedules import Constant, Schedule
from mlpx.training import interrupt
from mlpx.training.orders import shuffled
from mlpx.typing import Array


def without_lone_row(batch_size: int, n: int) -> int:
    """Return the rows of a step of a network with batch norms: more than asked for where one would be left over."""
    if batch_size == 1:
        raise ValueError(
            f"batch_norm: normalises over the rows of a step, and each of these has one ({n} rows, batch_size=1). Give "
            "more of them, or take layer_norm=True."
        )
    while n % batch_size == 1:
        batch_size += 1
    return batch_size


class Epochs:
    """The epochs of one call of ``fit`` or ``partial_fit``; what they reach is set on the estimator.

    Parameters
    ----------
    estimator : BaseMLP
    rows : Rows
        To train on.
    held_out : Rows, optional
        To score after each epoch.
    incremental : bool
        One epoch, from where the last call left.
    observers : Observers
    """

    def __init__(
        self, estimator: Any, rows: Rows, held_out: Rows | None, incremental: bool, observers: Observers
    ) -> None:
        self.estimator, self.net, self.incremental = estimator, estimator._net, incremental
        self.state: TrainingState = estimator._training
        self.rows, self.held_out, self.observers = rows, held_out, observers
        self._take_up()
        given, n = estimator.batch_size, rows.n
        if given != "auto" and given > n:
            clipped = "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped"
            warn(f"{clipped} from {given} to {n}.")
        automatic = n if isinstance(self.optimizer, Rprop) else 200
        self.batch_size = min(automatic if given == "auto" else int(given), n)
        if self.net.buffers.statistics.size:
            self.batch_size = without_lone_row(self.batch_size, n)
        self.n_steps = -(-n // self.batch_size)
        # Which of scikit-learn's learning rates is in force.
        self.policy = str(estimator.learning_rate) if estimator.solver == "sgd" else "constant"

    def _take_up(self) -> None:
        """Take up the optimiser where an earlier call left it, or start one."""
        e = self.estimator
        goes_on = self.incremental or (e.warm_start and e.warm_start_optimizer)
        optimizer, options = self.state.optimizer, options_of(e)
        if goes_on and optimizer is not None and fits(optimizer, self.net):
            optimizer.adopt(self.net)
            if self.state.options not in (None, options):
                optimizer = self._changed(optimizer, self.state.options)
        else:
            optimizer = optimizer_of(e)
            optimizer.start(self.net)
            self.state.progress = (0, 0)
        self.state.optimizer, self.state.options = optimizer, options
        self.optimizer = optimizer
        schedule = self.optimizer.schedule
        assert isinstance(schedule, Schedule)  # noqa: S101  (a name was replaced by its object)
        self.schedule = schedule
        if not self.incremental:
            self.state.progress = (0, 0)
            schedule.start()

    def _changed(self, optimizer: Optimizer, before: tuple[Any, ...]) -> Optimizer:
        """Return the optimiser with the parameters of now; a schedule that is another one starts."""
        made, schedules = going_on(optimizer, self.estimator, self.net), []
        for rate, solver in (before[:2], options_of(self.estimator)[:2]):
            schedules.append((rate, solver.schedule if isinstance(solver, Optimizer) else None))
        if schedules[0] == schedules[1]:
            made.schedule = optimizer.schedule
        else:
            self.state.progress = (0, 0)
        return made

    def run(self) -> None:
        """Take the epochs."""
        e, rows = self.estimator, self.rows
        seed = int(e._random_state.randint(2**31 - 1)) if e.dropout else 0
        if self.incremental:
            if not isinstance(self.schedule, Constant):
                self._tell_of_schedule()
            steps = steps_of_call(e, self.net, rows, self.batch_size, self.optimizer, seed)
        else:
            alpha = rows.penalty(float(e.alpha))
            given = self.batch_size, self.optimizer, alpha, e.n_threads, seed, rows.mask
            steps = Steps(self.net, rows.x, rows.target, rows.weight, *given)
        if e.early_stopping and not self.incremental:
            self.start = copied(self.net.parameters), copied(self.net.buffers.statistics)
        with interrupt.Interrupt() as pressed:
            self._run(steps, pressed)
        if pressed.requested:
            self.observers.later.append(INTERRUPTED)
        e._publish()
        if e.early_stopping and (e._watch.over or not self.incremental):
            e._watch.restore(self.net.buffers)

    def _tell_of_earlier_fits(self, idle: int) -> None:
        """Warn that a warm start could not train for long."""
        e = self.estimator
        epochs = "1 epoch" if e.n_iter_ == 1 else f"{e.n_iter_} epochs"
        told = f"warm_start: the fit ended after {epochs}, for those of earlier fits count too: {idle} in a row"
        more = f"Set n_iter_no_change above {idle} to train for longer, or fit with warm_start=False."
        self.observers.later.append((f"{told} have not improved by tol={e.tol:g}. {more}", ConvergenceWarning))

    def _tell_of_schedule(self) -> None:
        """Warn of a call that comes after the end of its schedule."""
        e, epoch = self.estimator, self.state.progress[1]
        over = self.schedule.ends() and epoch >= e.max_iter
        largest = float(self._rates(1).max())
        if over or largest <= 1e-6 * self.optimizer.lr:
            spans = f"spans max_iter={e.max_iter} epochs or calls, and this is number {epoch + 1}"
            why = spans if over else f"has come to its end in {epoch} epochs or calls"
            told = f"learning_rate: its schedule {why}: the learning rate is {largest:g}. Set learning_rate='constant'"
            self.observers.later.append((f"{told} to train on, or fit.", UserWarning))

    def _run(self, steps: Steps, pressed: interrupt.Interrupt) -> None:
        def stop_if_pressed(taken: int) -> None:
            if pressed.requested:
                raise TrainingInterrupted("fit: interrupted.")

        def go_on(taken: int) -> None:
            """Let several epochs, which take no longer than a few steps, be complete."""

        e, order = self.estimator, np.arange(self.rows.n)
        e.n_iter_, checkpoints = 0, self.state.checkpoints
        if checkpoints is not None:
            order, stopped = checkpoints.take_up(self, order)
            if stopped:
                return
        while e.n_iter_ < e.max_iter and not pressed.requested:
            count = self._undisturbed(steps)
            orders = shuffled(e._random_state, order, count, chained=True) if e.shuffle else np.tile(order, (count, 1))
            order = orders[-1]
            self.observers.begin_epoch()
            try:
                losses = steps.epochs(orders, self._rates(count), go_on if count > 1 else stop_if_pressed)
            except TrainingInterrupted:
                break
            except DivergenceError as error:
                if self.incremental or not e.early_stopping:
                    raise e._not_finite(self.rows) from error
                self._diverged(error)
                return
            stop = any(self._after_epoch(loss) for loss in losses)  # after the first that asks to, none is looked at
            if checkpoints is not None and (stop or e.n_iter_ >= e.max_iter or checkpoints.due()):
                checkpoints.write(self, stopped=stop)
            if stop or self.incremental:
                return
        if pressed.requested:
            return
        reached = f"Maximum iterations ({e.max_iter}) reached and the optimization hasn't converged yet."
        self.observers.later.append((f"Stochastic Optimizer: {reached}", ConvergenceWarning))

    def _diverged(self, error: DivergenceError) -> None:
        """End a fit that goes by scores, as one of NaN would: with the best weights, else those of the start."""
        e, watch = self.estimator, self.estimator._watch
        e.loss_ = np.nan
        e.n_iter_ += 1
        for curve in watch.curves():
            curve.append(np.nan)
        if watch.best is None:
            watch.best = self.start
        watch.over, self.state.optimizer = True, None  # whose means are those of the blow-up
        which = "best" if np.isfinite(watch.best_score) else "first"
        told = f"Stochastic Optimizer: epoch {e.n_iter_} diverged, and the {which} weights were put back. {error}"
        self.observers.later.append((told, ConvergenceWarning))

    def _undisturbed(self, steps: Steps) -> int:
        """Return how many epochs may be taken at once: what comes between them neither decides nor shows anything."""
        e = self.estimator
        changes = type(self.schedule).observe is not Schedule.observe or self.policy == "invscaling"
        if self.incremental or changes or self.held_out is not None or not self.observers.absent:
            return 1
        undecided = e.n_iter_no_change - e._watch.idle + 1  # an epoch adds one idle epoch at most
        return steps.together(int(min(undecided, e.max_iter - e.n_iter_)))

    def _rates(self, count: int) -> Array:
        """Return the learning rates of the steps of so many epochs."""
        n_steps, (first, epoch) = self.n_steps, self.state.progress
        total = n_steps * self.estimator.max_iter
        if isinstance(self.schedule, Constant):
            return self.optimizer.rates(first, n_steps * count, total, epoch)
        rates = [self.optimizer.rates(first + n_steps * k, n_steps, total, epoch + k) for k in range(count)]
        return np.concatenate(rates)

    def _after_epoch(self, loss: float) -> bool:
        """Take in a complete epoch of this loss, and return whether anything or anyone asks to stop."""
        e = self.estimator
        e.loss_ = loss
        first, epoch = self.state.progress
        self.state.progress = (first + self.n_steps, epoch + 1)
        e.n_iter_ += 1
        e.t_ += self.rows.n
        stop = self._decide()
        if self.observers.absent:
            return stop
        e._publish()
        return self.observers.end_epoch() or stop

    def _decide(self) -> bool:
        """Look at the epoch's loss or score, adapt the learning rate, and return whether to stop."""
        e, watch, optimizer = self.estimator, self.estimator._watch, self.optimizer
        watch.losses.append(e.loss_)
        e._say(f"Iteration {e.n_iter_}, loss = {e.loss_:.8f}")
        if self.held_out is not None:
            look(e, self.held_out)
        if not e.early_stopping:
            watch.see_loss(e.loss_, e.tol)
        what = "Validation score did not improve" if e.early_stopping else "Training loss did not improve"
        self.schedule.observe(watch.validation_losses[-1] if self.held_out is not None else e.loss_)
        if self.policy == "invscaling":
            optimizer.lr = float(e.learning_rate_init) / (e.t_ + 1) ** e.power_t
        if watch.idle <= e.n_iter_no_change:
            return False
        message = f"{what} more than tol={e.tol:f} for {e.n_iter_no_change} consecutive epochs."
        lr, message = next_rate(self.policy, optimizer.lr, message)
        e._say(message)
        if lr is None:
            watch.over = e.early_stopping
            if e.n_iter_ <= e.n_iter_no_change and not self.incremental:
                self._tell_of_earlier_fits(watch.idle)
            return True
        optimizer.lr, watch.idle = lr, 0
        return False
