"""Checkpoints of a fit: all that it takes to end with the bits of one that nothing interrupted, in a file that is
replaced again and again.

They are made between two steps, in the middle of an epoch too. Where a fit cuts its steps into calls depends on the
clock and changes no bit, so neither does where a checkpoint was made.
"""

import glob
import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

from mlpx.backend import to_numpy
from mlpx.callbacks import Callback, Run
from mlpx.callbacks.history import History
from mlpx.errors import check_count, check_flag, check_number
from mlpx.files import architecture, model_file
from mlpx.files.atomic_write import file_path, named_errors
from mlpx.files.model_file import ModelFile
from mlpx.files.named_arrays import joined, split
from mlpx.files.plain_values import Records, Writer
from mlpx.files.records import RECORDS
from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.optimizers import Optimizer
from mlpx.steps.base import NOTHING
from mlpx.typing import Array

T = TypeVar("T")
NAME = "checkpoint.safetensors"
SAMPLED = 1 << 20
"""Elements of the data, in rows from begin to end, by which a fit is known to go on with the same."""


class CheckpointFolder:
    """Where and how often a fit makes checkpoints, and whether it goes on from the one that is there.

    Parameters
    ----------
    folder : path
        Made if need be; one for each fit.
    every : float
        Seconds from one checkpoint to the next at least.
    resume : bool
        Whether to go on from the checkpoint in the folder, if there is one.
    records : Records
        The classes that may stand in it.

    Attributes
    ----------
    fit : dict
        What must be the same for a fit to go on.
    """

    def __init__(self, folder: object, every: object, *, resume: object, records: Records = RECORDS) -> None:
        self.folder = file_path("checkpoint", folder)
        self.every = check_number("every", every, 0.0)
        self.resume = check_flag("resume", resume)
        self.path = os.path.join(self.folder, NAME)
        self.fit: dict[str, Any] = {}
        self._last = time.monotonic()
        self._records = records

    def due(self) -> bool:
        """Return whether it is time for another checkpoint."""
        return time.monotonic() - self._last >= self.every

    def read(self, kind: str, take: Callable[[ModelFile, dict[str, Any]], T]) -> T | None:
        """Make the folder, and return what ``take(file, state)`` makes of the checkpoint in it, or None.

        Raises
        ------
        ValueError
            If the checkpoint is of another fit, or of one that was not complete and ``resume`` is False; of damage, or
            another ``kind``, `ModelFileError`.
        OSError
            If the folder cannot be made or written to.
        """
        with named_errors("checkpoint", self.folder):
            os.makedirs(self.folder, exist_ok=True)
            for left in glob.glob(".mlpx-*.tmp", root_dir=self.folder):  # by a write that was killed
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.folder, left))
        if not os.path.lexists(self.path):
            return None
        taken = None
        with model_file.opened(self.path) as file:
            state = file.state(self._records)
            if file.kind != kind or "fit" not in state:
                raise ValueError(f"a model of the kind {file.kind!r}, and no checkpoint of this kind of fit")
            if self.resume and not self._differing(state["fit"]):
                taken = take(file, state)
            else:
                file.pass_over()
        if self.resume:
            self.check_same(state["fit"])
        elif state.get("complete") is not True:
            raise ValueError(
                f"checkpoint: {self.path!r} is of a fit that was not complete. Pass resume=True to go on with it, or "
                "remove it to start again."
            )
        return taken

    def save(self, kind: str, net: Network, state: dict[str, Any], *, complete: bool) -> None:
        """Write a checkpoint; ``complete`` says that the fit is over."""
        state = {"fit": self.fit, "complete": complete, **state}
        model_file.save(self.path, kind, net, state, self._records, code=True)
        self._last = time.monotonic()

    def check_same(self, was: dict[str, Any]) -> None:
        """Raise ValueError where a checkpoint is of another fit; the message says what differs."""
        if not (differing := self._differing(was)):
            return
        short = [name for name in differing if len(repr(was.get(name))) + len(repr(self.fit[name])) < 60]
        values = [f"{name} was {was.get(name)!r} and is {self.fit[name]!r}" for name in short]
        others = [f"{name} is another" for name in differing if name not in short]
        raise ValueError(
            f"checkpoint: {self.path!r} is of another fit: {'; '.join([*values, *others])}. Go on with the same, or "
            "choose another folder."
        )

    def _differing(self, was: dict[str, Any]) -> list[str]:
        return [name for name, value in self.fit.items() if was.get(name) != value]


class Checkpoints(CheckpointFolder):
    """The checkpoints of a network's fit."""

    def begin(
        self,
        run: Run,
        optimizer: Optimizer,
        generator: np.random.Generator | None,
        callbacks: list[Callback],
        given: dict[str, Any],
    ) -> Array:
        """Put back what a checkpoint holds, or make the first one; what cannot be written is an error by now.

        Parameters
        ----------
        run : Run
        optimizer : Optimizer
            Started.
        generator : Generator, optional
            Of the rows' orders.
        callbacks : list of Callback
            Started.
        given : dict
            What must be the same for the fit to go on, by the names of its parameters; batches count by their rows.

        Returns
        -------
        array (2, steps)
            The losses of the steps that were taken in the epoch under way.

        Raises
        ------
        ValueError, OSError
            See `CheckpointFolder.read`.
        TypeError
            If there is code in what would have to be written, such as a schedule of the user's own.
        """
        net = run.net
        self.fit = {name: _digest(each, net) if isinstance(each, Batch) else each for name, each in given.items()}
        self.fit["network"] = repr(architecture.architecture_of(net, custom=True))
        self.fit["optimizer"] = repr(Writer(RECORDS)(optimizer, "optimizer"))
        self.fit["callbacks"] = [type(callback).__name__ for callback in callbacks]

        def take(file: ModelFile, state: dict[str, Any]) -> tuple[dict[str, Any], Any, list[Array], dict[str, Any]]:
            _check(state, optimizer)
            moments = [joined(net, each)[0] for each in state["moments"]]
            return state, joined(net, file.weights(), statistics=True), moments, file.architecture()

        taken = self.read("checkpoint", take)
        if taken is None:
            self.write(run, optimizer, None if generator is None else generator.bit_generator.state, callbacks)
            return NOTHING
        state, weights, moments, settings = taken
        architecture.put_back(net, settings)  # which callbacks may have changed
        net.buffers.parameters[...], net.buffers.statistics[...] = map(net.backend.asarray, weights)
        put_back(optimizer, state["optimizer"], moments, state["steps"], net)
        if generator is not None:
            generator.bit_generator.state = state["generator"]
        vars(run.history).update(vars(state["history"]))
        run.stop = state["stop"]
        for callback, each in zip(callbacks, state["callbacks"], strict=True):
            callback.restore(run, each)
        return state["losses"]

    def write(
        self,
        run: Run,
        optimizer: Optimizer,
        generator: Any,
        callbacks: list[Callback],
        losses: Array = NOTHING,
        *,
        complete: bool = False,
    ) -> None:
        """Write a checkpoint.

        Parameters
        ----------
        generator : dict, optional
            The generator's state when the epoch began.
        losses : array (2, steps)
            Of the steps of the epoch under way.
        complete : bool
            Whether the fit is over.
        """
        state = {
            "history": run.history,
            "stop": run.stop,
            "generator": generator,
            "losses": losses,
            "optimizer": optimizer,
            "steps": optimizer.steps,
            "moments": [split(run.net, to_numpy(each)) for each in optimizer.state],
            "callbacks": [callback.state() for callback in callbacks],
        }
        self.save("checkpoint", run.net, state, complete=complete)


def put_back(optimizer: Optimizer, stored: Optimizer, moments: list[Array], steps: int, net: Network) -> None:
    """Let an optimiser that was started for a network be as the stored one, with these arrays for its state."""
    for there, here in zip(optimizer.state, moments, strict=True):
        there[...] = net.backend.asarray(here)
    optimizer.steps = steps
    for field in fields(optimizer):
        if field.init and field.name != "schedule":  # the learning rate may have been changed, by a callback say
            setattr(optimizer, field.name, getattr(stored, field.name))
    if type(optimizer.schedule) is type(stored.schedule):
        vars(optimizer.schedule).update(vars(stored.schedule))
    else:
        optimizer.schedule = stored.schedule


def _check(state: dict[str, Any], optimizer: Optimizer) -> None:
    """Raise TypeError or ValueError for a state that cannot be."""
    losses = state["losses"]
    if type(state["optimizer"]) is not type(optimizer) or len(state["moments"]) != len(optimizer.state):
        raise TypeError("the optimiser and its state do not fit")
    check_count("steps", state["steps"], 0)
    if not isinstance(state["history"], History) or not isinstance(state["stop"], str):
        raise TypeError("the history or the reason to stop is none")
    if not isinstance(losses, np.ndarray) or losses.dtype != np.float64 or losses.shape[:1] != (2,) or losses.ndim != 2:
        raise TypeError("the losses are no array (2, steps) of float64")


def _digest(batch: Batch, net: Network) -> str:
    """Return the SHA-256 of shapes, dtypes and a sample of rows."""
    sample = batch.take(net.backend.asarray(sampled(batch.x.shape)))
    return digest(tuple(batch.x.shape), *vars(sample).values())


def sampled(shape: tuple[int, ...]) -> Array:
    """Return the numbers of some rows, from the first to the last."""
    n, wide = int(shape[0]), max(1, int(np.prod(shape[1:])))
    return np.unique(np.linspace(0, n - 1, max(1, min(n, SAMPLED // wide))).astype(np.int64))


def digest(*parts: Any) -> str:
    """Return the SHA-256 of arrays, of what they say of themselves, and of anything else by its words."""
    made = hashlib.sha256()
    for part in parts:
        array = None if isinstance(part, tuple | None) else np.ascontiguousarray(to_numpy(part))
        made.update(repr(part if array is None else (array.dtype.str, array.shape)).encode())
        made.update(b"" if array is None else array.tobytes())
    return made.hexdigest()
