"""Checkpoints of an estimator's fit: at the end of an epoch its file, and what it takes to go on from there.

What a fit draws at random is drawn again, from the state that its generator had at the begin: initial weights, held-out
rows, and the orders of the epochs that are over. So no checkpoint grows with the number of rows.
"""

from typing import Any

import numpy as np
from scipy.sparse import issparse

from mlpx.backend import to_numpy
from mlpx.estimators.rows import Rows
from mlpx.estimators.saving import RECORDS, is_code, training_of
from mlpx.estimators.solvers import on_batches
from mlpx.files.named_arrays import joined
from mlpx.network.host_rows import HostRows
from mlpx.training.checkpoints import CheckpointFolder, digest, put_back, sampled
from mlpx.training.orders import shuffled
from mlpx.typing import Array

FREE = ("callbacks", "verbose", "progress_bar", "n_threads", "device")
"""Parameters that may be others in the fit that goes on."""


class FitCheckpoints(CheckpointFolder):
    """The checkpoints of an estimator's fit."""

    def __init__(self, folder: object, every: object, *, resume: object) -> None:
        super().__init__(folder, every, resume=resume, records=RECORDS)
        self._taken: tuple[dict[str, Any], dict[str, Array]] | None = None
        self._random = np.random.RandomState(0)

    def begin(self, estimator: Any, generator: np.random.RandomState) -> None:
        """Read the checkpoint, where there is one to go on from, and give the generator its state of then.

        Raises
        ------
        ValueError, OSError
            See `CheckpointFolder.read`; ValueError for a solver that sees all rows at once.
        """
        if not on_batches(estimator.solver):
            raise ValueError(
                f"checkpoint: solver={estimator.solver!r} sees all rows at once and keeps its state to itself; take "
                "one of mini-batches such as 'adam'."
            )
        parameters = estimator.get_params(deep=False)
        self.fit = {
            name: repr(value)
            for name, value in parameters.items()
            if name not in FREE and not is_code(value) and not isinstance(value, np.random.RandomState)
        }
        self._taken = self.read(type(estimator).__name__, lambda file, state: (state, file.weights()))
        if self._taken is not None:
            generator.set_state(self._taken[0]["random"].get_state())
        self._random.set_state(generator.get_state())

    def take_up(self, epochs: Any, order: Array) -> tuple[Array, bool]:
        """Put back what was read, or make the first checkpoint.

        Parameters
        ----------
        epochs : Epochs
            About to begin.
        order : array (n,)
            Of the rows, before the first shuffle.

        Returns
        -------
        order : array (n,)
            That of the last epoch that is over.
        stopped : bool
            Whether the fit had ended by itself.

        Raises
        ------
        ValueError
            If the data are others.
        """
        self.fit |= {"X and y": _rows_digest(epochs.rows), "held-out rows": _rows_digest(epochs.held_out)}
        if self._taken is None:
            self.write(epochs)
            return order, False
        (state, weights), self._taken = self._taken, None
        self.check_same(state["fit"])
        e, net = epochs.estimator, epochs.net
        flat, training = joined(net, weights, statistics=True), training_of(state["training"], net)
        stored = training.optimizer
        if stored is None or type(stored) is not type(epochs.optimizer):
            raise ValueError(f"checkpoint: {self.path!r} holds no state of the optimiser.")
        net.buffers.parameters[...], net.buffers.statistics[...] = map(net.backend.asarray, flat)
        put_back(epochs.optimizer, stored, stored.state, stored.steps, net)
        vars(epochs.state.watch).update(vars(training.watch))
        epochs.state.progress = training.progress
        vars(e).update(
            {name: state["attributes"][name] for name in ("n_iter_", "t_", "loss_") if name in state["attributes"]}
        )
        for _ in range(e.n_iter_ if e.shuffle else 0):
            order = shuffled(e._random_state, order, 1, chained=True)[-1]
        return order, bool(state["stopped"])

    def write(self, epochs: Any, *, stopped: bool = False) -> None:
        """Write a checkpoint, at the end of an epoch or before the first."""
        e = epochs.estimator
        e._publish()
        state = e._file_state(e._fitted, code=True) | {"random": self._random, "stopped": stopped}
        self.save(type(e).__name__, epochs.net, state, complete=stopped or e.n_iter_ >= e.max_iter)


def _rows_digest(rows: Rows | None) -> str | None:
    if rows is None:
        return None
    chosen = sampled(rows.x.shape)
    x = rows.x.on_host(chosen) if isinstance(rows.x, HostRows) else rows.x[chosen]
    others = (None if part is None else to_numpy(part)[chosen] for part in (rows.target, rows.weight, rows.mask))
    return digest(tuple(rows.x.shape), x.toarray() if issparse(x) else x, *others)


def fit_checkpoints(folder: object, every: object, resume: object) -> FitCheckpoints | None:
    """Return what arguments of ``fit`` ask for; None without a folder."""
    if folder is not None:
        return FitCheckpoints(folder, every, resume=resume)
    if resume:
        raise ValueError("resume: needs the folder of the checkpoint; pass checkpoint='folder' too.")
    return None
