"""Checkpoints of a fit: all that it takes to end with the bits of one that nothing interrupted, in a file that is
replaced again and again.

They are made between two steps, in the middle of an epoch too. Where a fit cuts its steps into calls depends on the
clock and changes no bit, so neither does where a checkpoint was made.
"""

import glob
import hashlib
import os
import time
from contextlib import suppress
from dataclasses import fields
from typing import Any

import numpy as np

from mlpx.backend import to_numpy
from mlpx.callbacks import Callback, Run
from mlpx.callbacks.history import History
from mlpx.errors import check_count, check_flag, check_number
from mlpx.files import model_file
from mlpx.files.architecture import architecture_of
from mlpx.files.atomic_write import file_path, named_errors
from mlpx.files.named_arrays import joined, split
from mlpx.files.plain_values import Writer
from mlpx.files.records import RECORDS
from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.optimizers import Optimizer
from mlpx.steps.base import NOTHING
from mlpx.typing import Array

NAME = "checkpoint.safetensors"
SAMPLED = 1 << 20
"""Elements of the data, in rows from begin to end, by which a fit is known to go on with the same."""


class Checkpoints:
    """Where and how often a fit makes checkpoints, and the one from which it goes on.

    Parameters
    ----------
    folder : path
        Made if need be; one for each fit.
    every : float
        Seconds from one checkpoint to the next at least.
    resume : bool
        Whether to go on from the checkpoint in the folder, if there is one.
    """

    def __init__(self, folder: object, every: object, *, resume: object) -> None:
        self.folder = file_path("checkpoint", folder)
        self.every = check_number("every", every, 0.0)
        self.resume = check_flag("resume", resume)
        self.path = os.path.join(self.folder, NAME)
        self._last = time.monotonic()
        self._fit: dict[str, Any] = {}

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
        ValueError
            If the checkpoint is of another fit, or there is one and ``resume`` is False; of damage, `ModelFileError`.
        TypeError
            If there is code in what would have to be written, such as a schedule of the user's own.
        OSError
            If the folder cannot be made or written to.
        """
        self._fit = {name: _digest(each, run.net) if isinstance(each, Batch) else each for name, each in given.items()}
        self._fit["network"] = repr(architecture_of(run.net, custom=True))
        self._fit["optimizer"] = repr(Writer(RECORDS)(optimizer, "optimizer"))
        self._fit["callbacks"] = [type(callback).__name__ for callback in callbacks]
        with named_errors("checkpoint", self.folder):
            os.makedirs(self.folder, exist_ok=True)
            for left in glob.glob(".mlpx-*.tmp", root_dir=self.folder):  # by a write that was killed
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.folder, left))
        begun = None
        if os.path.lexists(self.path):
            begun = self._take_up(run, optimizer, generator, callbacks)
        if begun is None:
            begun = NOTHING
            self.write(run, optimizer, None if generator is None else generator.bit_generator.state, callbacks)
        return begun

    def due(self) -> bool:
        """Return whether it is time for another checkpoint."""
        return time.monotonic() - self._last >= self.every

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
        net = run.net
        state = {
            "fit": self._fit,
            "history": run.history,
            "stop": run.stop,
            "complete": complete,
            "generator": generator,
            "losses": losses,
            "optimizer": optimizer,
            "steps": optimizer.steps,
            "moments": [split(net, to_numpy(each)) for each in optimizer.state],
            "callbacks": [callback.state() for callback in callbacks],
        }
        model_file.save(self.path, "checkpoint", net, state, RECORDS, code=True)
        self._last = time.monotonic()

    def _take_up(
        self,
        run: Run,
        optimizer: Optimizer,
        generator: np.random.Generator | None,
        callbacks: list[Callback],
    ) -> Array | None:
        """Put back what the checkpoint in the folder holds; None where it is not to be gone on from."""
        with model_file.opened(self.path) as file:
            if file.kind != "checkpoint":
                raise ValueError(f"a model of the kind {file.kind!r}, and no checkpoint")
            state = file.state(RECORDS)
            fit, history, losses = state["fit"], state["history"], state["losses"]
            differing = [name for name in self._fit if fit.get(name) != self._fit[name]]
            if not self.resume or differing:
                file.pass_over()
            else:
                weights = file.weights(run.net)
                moments = [joined(run.net, each)[0] for each in state["moments"]]
                stored = _checked(state, len(optimizer.state))
        if not self.resume:
            if state.get("complete") is True:
                return None
            raise ValueError(
                f"checkpoint: {self.path!r} is of a fit that was not complete. Pass resume=True to go on with it, or "
                "remove it to start again."
            )
        if differing:
            raise ValueError(_other_fit(self.path, fit, self._fit, differing))
        backend, buffers = run.net.backend, run.net.buffers
        buffers.parameters[...], buffers.statistics[...] = (backend.asarray(each) for each in weights)
        for there, here in zip(optimizer.state, moments, strict=True):
            there[...] = backend.asarray(here)
        optimizer.steps = state["steps"]
        for field in fields(optimizer):
            if field.init and field.name != "schedule":  # a callback may have changed the learning rate, say
                setattr(optimizer, field.name, getattr(stored, field.name))
        vars(optimizer.schedule).update(vars(stored.schedule))
        if generator is not None:
            generator.bit_generator.state = state["generator"]
        vars(run.history).update(vars(history))
        run.stop = state["stop"]
        for callback, each in zip(callbacks, state["callbacks"], strict=True):
            callback.restore(run, each)
        return losses


def _checked(state: dict[str, Any], n_states: int) -> Optimizer:
    """Return the optimiser of a checkpoint's state, or raise for a state that cannot be."""
    optimizer, losses = state["optimizer"], state["losses"]
    if not isinstance(optimizer, Optimizer) or len(state["moments"]) != n_states:
        raise TypeError("the optimiser and its state do not fit")
    check_count("steps", state["steps"], 0)
    if not isinstance(state["history"], History) or not isinstance(state["stop"], str):
        raise TypeError("the history or the reason to stop is none")
    if not isinstance(losses, np.ndarray) or losses.dtype != np.float64 or losses.shape[:1] != (2,) or losses.ndim != 2:
        raise TypeError("the losses are no array (2, steps) of float64")
    return optimizer


def _other_fit(path: str, was: Any, now: dict[str, Any], differing: list[str]) -> str:
    short = [name for name in differing if len(repr(was.get(name))) + len(repr(now[name])) < 60]
    values = [f"{name} was {was.get(name)!r} and is {now[name]!r}" for name in short]
    others = [name for name in differing if name not in short]
    return (
        f"checkpoint: {path!r} is of another fit: {'; '.join([*values, *(f'{name} is another' for name in others)])}. "
        "Go on with the same, or choose another folder."
    )


def _digest(batch: Batch, net: Network) -> str:
    """Return the SHA-256 of shapes, dtypes and a sample of rows."""
    n = int(batch.x.shape[0])
    wide = max(1, int(np.prod(batch.x.shape[1:])))
    rows = np.unique(np.linspace(0, n - 1, max(1, min(n, SAMPLED // wide))).astype(np.int64))
    digest, arrays = hashlib.sha256(), vars(batch)
    sample = vars(batch.take(net.backend.asarray(rows)))
    for name, array in arrays.items():
        if array is not None:
            part = np.ascontiguousarray(to_numpy(sample[name]))
            digest.update(f"{name} {tuple(array.shape)} {part.dtype}".encode())
            digest.update(part.tobytes())
    return digest.hexdigest()
