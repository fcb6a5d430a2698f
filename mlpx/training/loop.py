"""The training loop: shuffle, step, watch, and leave nothing half done."""

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpx.callbacks import Callback, Run
from mlpx.callbacks.history import History
from mlpx.errors import TrainingInterrupted, shown
from mlpx.layers import Context
from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.network.divergence import diagnose
from mlpx.ops.dispatch import declined
from mlpx.optimizers import Optimizer
from mlpx.optimizers.full_batch import FullBatch
from mlpx.plan.threads import on_threads
from mlpx.schedules import Schedule, find
from mlpx.steps import GradientHook, LayerSteps
from mlpx.steps.base import NOTHING
from mlpx.steps.fused import changed, fused_steps, read_once
from mlpx.training import interrupt
from mlpx.training.checkpoints import Checkpoints
from mlpx.training.evaluation import accuracy
from mlpx.training.objective import Objective
from mlpx.training.orders import shuffled
from mlpx.typing import Array
from mlpx_kernels import Unsupported

if TYPE_CHECKING:
    from mlpx.steps.cpu import PlanSteps
    from mlpx.steps.gpu import GraphSteps


@dataclass
class Job:
    """A fit's checked ingredients."""

    net: Network
    train: Batch
    validation: Batch | None
    optimizer: Optimizer | FullBatch
    epochs: int
    batch_size: int
    shuffle: bool
    seed: int
    callbacks: list[Callback]
    n_threads: int | None
    deterministic: bool
    gradient_hook: GradientHook | None
    precision: str
    checkpoints: Checkpoints | None = None


def train(job: Job) -> History:
    """Train a network in place; see `mlpx.Sequential.fit`."""
    run = Run(job.net, History(), job.epochs, validated=job.validation is not None)
    started: list[Callback] = []
    try:
        for callback in job.callbacks:
            started.append(callback)
            callback.on_start(run)
        with interrupt.Interrupt() as pressed:
            if isinstance(job.optimizer, Optimizer):
                on_threads(job.n_threads, _fit_batches, job, run, job.optimizer, pressed)
            else:
                on_threads(job.n_threads, _fit_full, job, run, job.optimizer, pressed)
        if pressed.requested:
            raise TrainingInterrupted("fit: interrupted when it was complete; the weights are those of the whole fit.")
        run.history.stopped = run.stop or run.history.stopped
    except (ArithmeticError, KeyboardInterrupt) as error:
        error.history = run.history  # type: ignore[union-attr]
        raise
    finally:
        for callback in reversed(started):
            callback.on_end(run)
    return run.history


# --- mini-batches ---------------------------------------------------------------------------------------------------


def _fit_batches(job: Job, run: Run, optimizer: Optimizer, pressed: interrupt.Interrupt) -> None:
    net = job.net
    optimizer.start(net)
    schedule = _started(optimizer)
    rows = np.arange(job.train.x.shape[0])
    rng = np.random.default_rng(job.seed) if job.shuffle else None
    checkpoints, drawn, begun = job.checkpoints, None, NOTHING
    if checkpoints is not None:
        begun = checkpoints.begin(run, optimizer, rng, job.callbacks, _given(job))
        schedule = find(optimizer.schedule)
    steps, read = _steps(job, optimizer), read_once(net, optimizer) if job.callbacks else []

    def over() -> bool:
        return run.history.epochs >= job.epochs or bool(run.stop)

    def keep() -> None:
        """Make a checkpoint."""
        if checkpoints is None:
            return
        done = run.history.steps - run.history.epochs * steps.steps_per_epoch
        losses = np.concatenate([begun, steps.losses[:, : done - begun.shape[1]]], axis=1) if done else NOTHING
        generator = drawn if done or rng is None else rng.bit_generator.state
        checkpoints.write(run, optimizer, generator, job.callbacks, losses, complete=over() and not done)

    def stop_if_pressed() -> None:
        if pressed.requested:
            keep()
            raise TrainingInterrupted(
                f"fit: interrupted after step {run.history.steps - 1}, with {run.history.epochs} epochs complete; the "
                "weights are those of that complete step. Nothing else was lost: fit again to go on."
            )

    def after(taken: int) -> None:
        run.history.steps += taken
        if checkpoints is not None and checkpoints.due():
            keep()
        stop_if_pressed()

    unseen = not job.callbacks and job.validation is None and type(schedule).observe is Schedule.observe
    while not over():
        if job.callbacks:  # which may have changed anything
            optimizer.start(net)
            now = read_once(net, optimizer)
            if changed(now, read):
                steps, read = _steps(job, optimizer, steps.good), now
            schedule = schedule if optimizer.schedule is schedule else _started(optimizer)
        epoch, began = run.history.epochs, time.perf_counter()
        count = steps.together(job.epochs - epoch) if unseen else 1
        if checkpoints is not None and rng is not None:
            drawn = rng.bit_generator.state
        orders = np.tile(rows, (count, 1)) if rng is None else shuffled(rng, rows, count, chained=False)
        for loss, lr in steps.epochs(epoch, orders, run.history.steps - begun.shape[1], after, begun):
            run.history.loss.append(loss)
            run.history.seconds.append((time.perf_counter() - began) / count)
            _after_epoch(job, run, lr)
            schedule.observe(run.history.monitored())
        begun = NOTHING
        if checkpoints is not None and (over() or checkpoints.due()):
            keep()
        stop_if_pressed()  # now, since after the last epoch no step would see it


def _given(job: Job) -> dict[str, Any]:
    """Return what a fit must have in common with one whose checkpoint it goes on from."""
    names = ("epochs", "batch_size", "shuffle", "seed", "deterministic", "validation")
    return {"x and y": job.train} | {name: getattr(job, name) for name in names}


def _started(optimizer: Optimizer) -> Schedule:
    schedule = optimizer.schedule
    assert isinstance(schedule, Schedule)  # noqa: S101  (a name was replaced by its object)
    schedule.start()
    return schedule


def _steps(job: Job, optimizer: Optimizer, good: Array | None = None) -> "LayerSteps | PlanSteps | GraphSteps":
    """Return the fastest way of taking this fit's steps: fused where that can be had, else layer by layer.

    In the middle of a fit with the parameters ``good`` of before its last step, which may show in the next one to have
    gone wrong.
    """
    steps = _new_steps(job, optimizer)
    if good is not None:
        steps.good[...] = good
    return steps


def _new_steps(job: Job, optimizer: Optimizer) -> "LayerSteps | PlanSteps | GraphSteps":
    net, given = job.net, (job.net, job.train, job.batch_size, optimizer)
    n_steps = -(-job.train.x.shape[0] // job.batch_size) * job.epochs
    net.plan_declined = ""
    try:
        return fused_steps(
            *given,
            seed=job.seed,
            n_steps=n_steps,
            n_threads=job.n_threads,
            deterministic=job.deterministic,
            gradient_hook=job.gradient_hook,
            precision=job.precision,
        )
    except Unsupported as reason:
        net.plan_declined = declined(reason)
    return LayerSteps(*given, seed=job.seed, n_steps=n_steps, gradient_hook=job.gradient_hook)


def _after_epoch(job: Job, run: Run, lr: float) -> None:
    run.epoch = run.history.epochs - 1
    run.history.learning_rate.append(lr)
    if job.validation is not None:
        loss, z = job.net.evaluate_batch(job.validation)
        run.history.validation_loss.append(loss)
        score = accuracy(job.net, z, job.validation)
        if score is not None:
            run.history.validation_accuracy.append(score)
    for callback in job.callbacks:
        callback.on_epoch(run)
        if run.history.epochs != run.epoch + 1:
            raise ValueError(
                f"callbacks: {shown(callback)} left {run.history.epochs} entries in history.loss after epoch "
                f"{run.epoch}; fit goes by their number. Copy the curves, and leave them as they are."
            )


# --- all rows at once -------------------------------------------------------------------------------------------------


def _fit_full(job: Job, run: Run, optimizer: FullBatch, pressed: interrupt.Interrupt) -> None:
    net, buffers, copied = job.net, job.net.buffers, job.net.backend.xp.asarray
    optimizer.check(net)
    if not job.epochs:
        return
    batch = job.train
    context = Context(True, job.seed, 0, batch.mask, batch.valid, need_dx=False)
    objective = Objective(net, batch, context, optimizer.l2, job.n_threads, deterministic=job.deterministic)
    start = best = objective.weights()
    good = copied(buffers.parameters, copy=True), copied(buffers.statistics, copy=True)
    began = time.perf_counter()

    def reached(w: Array) -> None:
        nonlocal best, began, good
        best = np.array(w)
        objective.leave(best)
        good = copied(buffers.parameters, copy=True), copied(buffers.statistics, copy=True)
        run.history.loss.append(objective.loss)
        run.history.seconds.append(time.perf_counter() - began)
        _after_epoch(job, run, 1.0)
        began = time.perf_counter()

    def report(w: Array) -> bool:
        run.history.steps += 1
        reached(w)
        if job.callbacks:
            objective.look_again()
        if run.history.epochs >= job.epochs:
            run.stop = run.stop or "epochs"
        return bool(run.stop) or pressed.requested

    try:
        with np.errstate(over="ignore", invalid="ignore"):  # of points tried and given up
            first, gradient = objective(start)
            if not (math.isfinite(first) and np.isfinite(gradient).all()):
                raise diagnose(net, batch, context, 0, 0)
            if start.size:  # a network with nothing to learn is at its minimum
                best = optimizer.run(objective, job.epochs, report)
        objective.leave(best if np.isfinite(best).all() else start)
        if not run.history.epochs:  # no iteration led anywhere; the curve has the point where it all began
            objective(start)
            reached(start)
    except BaseException:  # in the middle of a trial: back to the point that was reached last
        buffers.parameters[...], buffers.statistics[...] = good
        raise
    if pressed.requested:
        raise TrainingInterrupted(
            f"fit: interrupted after iteration {run.history.epochs}; the weights are the best ones found so far."
        )
    if not run.stop:
        run.stop = objective.stopped
