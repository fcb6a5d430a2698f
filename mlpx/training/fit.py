"""`fit`: its options and data, checked, and the training that they ask for."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from mlpx import optimizers
from mlpx.callbacks import Callback, Run, as_callback
from mlpx.callbacks.history import History
from mlpx.callbacks.progress import ProgressBar, wanted
from mlpx.errors import check_count, check_flag, check_name, shown, warn
from mlpx.layers import BatchNorm
from mlpx.losses import ClassLoss, LabelLoss
from mlpx.network import Network, check_precision
from mlpx.optimizers import Optimizer, full_batch
from mlpx.optimizers.full_batch import FullBatch
from mlpx.steps import GradientHook
from mlpx.training import loop
from mlpx.training.checkpoints import Checkpoints
from mlpx.training.data import batch_of, check_data, split
from mlpx.training.evaluation import Evaluation, accuracy, r2
from mlpx.typing import ArrayLike


class Trainable(Network):
    """A network that can be trained.

    Attributes
    ----------
    history : History or None
        The curves of the last complete fit; files and copies hold them too.
    """

    history: History | None = None

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        epochs: int = 20,
        batch_size: int = 128,
        optimizer: str | Optimizer | FullBatch = "adam",
        validation: float | tuple[ArrayLike | None, ...] | None = None,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        valid: ArrayLike | None = None,
        shuffle: bool = True,
        callbacks: Iterable[Callback | Callable[[Run], Any]] = (),
        progress: bool | str = "auto",
        seed: int = 0,
        n_threads: int | None = None,
        deterministic: bool = False,
        gradient_hook: GradientHook | None = None,
        precision: str | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        every: float = 60.0,
        resume: bool = False,
    ) -> History:
        """Train the network in place.

        Parameters
        ----------
        x : array (n, ..., n_in)
            Finite numbers; at least one row.
        y : array
            Class numbers (n, ...) or probabilities (n, ..., n_out) for cross_entropy, which sum to 1 in every row;
            otherwise the output's shape, whose last axis may be missing when it is 1.
        epochs : int
            Passes over the data; iterations for a full-batch optimiser. 0 checks the data and trains nothing.
        batch_size : int
            Rows per step; the last step of an epoch takes what is left.
        optimizer : str, Optimizer or FullBatch
            "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "adamw", "rprop"; all rows at
            once: "lbfgs", "conjugate_gradient", "levenberg_marquardt", "scaled_conjugate_gradient". Objects of
            `mlpx.optimizers` carry learning rate, schedule, clipping and penalties.
        validation : float or tuple, optional
            A share in (0, 1) of the rows to hold out at random, or ``(x, y[, sample_weight[, mask[, valid]]])``.
        sample_weight : array (n, ...), optional
            At least 0; the loss is the weighted mean.
        mask : array (n, ..., n_out), bool, optional
            For a masked softmax: True where a class is allowed.
        valid : array (n, steps), bool, optional
            True for real steps of padded sequences.
        shuffle : bool
            Whether each epoch takes the rows in a new order.
        callbacks : iterable
            `mlpx.callbacks.Callback` objects, or functions called with the `Run` after each epoch; one that returns
            something true ends the fit. What they change of layers, loss and optimiser holds from the next epoch on.
        progress : bool or "auto"
            Whether to draw a progress bar; "auto" draws it on a terminal.
        seed : int
            Chooses shuffles, the held-out rows and dropout masks.
        n_threads : int, optional
            Threads to use at most. More than the cores this process may run on are never used, nor more than
            `threadpoolctl.threadpool_limits` allows; small networks, and steps that more threads make slower, take one.
            Default: ``MLPX_NUM_THREADS``, else the ``nthreads`` of a Dask worker, else the least of
            ``OMP_NUM_THREADS`` and ``NUMBA_NUM_THREADS``, else the cores that affinity and CPU quota allow.
        deterministic : bool
            True makes the result independent of the number of threads, bit for bit, by cutting the work into a fixed
            number of blocks.
        gradient_hook : callable, optional
            Called with the flat gradient (k,), an array of the network's backend, between every backward pass and its
            update; what it changes in place is what the update sees. The seam for averaging gradients over several
            processes or GPUs: ``lambda g: communicator.allReduce(...)``. Not for full-batch optimisers.
        precision : str, optional
            What a GPU's tensor cores may round to, for networks of dtype float32; default: the network's `precision`.
            "tf32" rounds the factors of products to 10 bits, "bf16" keeps activations and their gradients in 8 bits.
            Sums, weights, biases and the loss stay float32. "float32" rounds nothing; a CPU never does.
        checkpoint : path, optional
            A folder, one for each fit, in which a file is replaced again and again by all that it takes to go on:
            weights, optimiser, generator, place in the epoch, curves, what callbacks remember. It is written at the
            begin, between two steps where it is time, on Ctrl-C and at the end, and always whole. Not for full-batch
            optimisers. `mlpx.load` gives the network in it.
        every : float
            Seconds from one checkpoint to the next at least: what a crash costs at most.
        resume : bool
            Whether to go on from the checkpoint in the folder, if there is one. The fit then ends with the bits of one
            that was never interrupted, given the same arguments, version, ``n_threads`` (or ``deterministic``) and
            machine. Data are compared by a sample of their rows.

        Returns
        -------
        History

        Raises
        ------
        ValueError, TypeError
            For data or options that cannot work; nothing was changed then.
        DivergenceError
            If a loss or gradient is not finite; the last good weights are in place.
        TrainingInterrupted
            On Ctrl-C; the weights are those of the last complete step.
        """
        chosen = _optimizer(optimizer)
        alone = isinstance(callbacks, Callback) or getattr(callbacks, "shape", None) == ()
        if alone or not isinstance(callbacks, Iterable):
            raise TypeError(f"callbacks: expected a list of Callback objects or functions, got {shown(callbacks)}.")
        watching = [as_callback(callback) for callback in callbacks]
        if wanted(progress):
            watching.append(ProgressBar())
        if gradient_hook is not None and not (callable(gradient_hook) and isinstance(chosen, Optimizer)):
            raise TypeError(
                f"gradient_hook: expected a function of the gradient, together with a mini-batch optimiser; got "
                f"{shown(gradient_hook)} and {type(chosen).__name__}."
            )
        seed = check_count("seed", seed, 0)
        precision = self.precision if precision is None else precision
        check_precision(precision, self.dtype)
        everything = batch_of(self, x, y, sample_weight, mask, valid)
        check_data(self, everything, "")
        train, held_out = split(self, everything, validation, seed)
        batch_size = check_count("batch_size", batch_size)
        normed = isinstance(chosen, Optimizer) and any(isinstance(layer, BatchNorm) for layer in self.all_layers())
        if normed and batch_size == 1 and train.x.ndim == 2:
            warn(
                "batch_size: is 1, and batch norm, which normalises over the rows of a step, makes the same of every "
                "single row: next to nothing is learnt. Take at least two rows a step, or LayerNorm."
            )
        job = loop.Job(
            net=self,
            train=train,
            validation=held_out,
            optimizer=chosen,
            epochs=check_count("epochs", epochs, 0),
            batch_size=min(batch_size, train.x.shape[0]),
            shuffle=check_flag("shuffle", shuffle),
            seed=seed,
            callbacks=watching,
            n_threads=None if n_threads is None else check_count("n_threads", n_threads),
            deterministic=check_flag("deterministic", deterministic),
            gradient_hook=gradient_hook,
            precision=precision,
            checkpoints=_checkpoints(checkpoint, every, resume, chosen),
        )
        self.history = loop.train(job)
        return self.history

    def evaluate(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        valid: ArrayLike | None = None,
    ) -> Evaluation:
        """Return ``(loss, accuracy)`` over rows, as predictions see them: no dropout, running statistics.

        Parameters
        ----------
        x, y, sample_weight, mask, valid
            As in `fit`; ``x`` and ``y`` are finite.

        Returns
        -------
        Evaluation
            ``loss`` (float, the network's loss, a weighted mean over rows) and ``accuracy`` (float in [0, 1]; None
            for losses of numbers and where no row counts).

        Raises
        ------
        ValueError, TypeError
            For data that do not fit; the message names the argument.
        """
        batch = batch_of(self, x, y, sample_weight, mask, valid)
        check_data(self, batch, "")
        loss, z = self.evaluate_batch(batch)
        return Evaluation(loss, accuracy(self, z, batch))

    def score(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        valid: ArrayLike | None = None,
    ) -> float:
        """Return one number that is 1 at best: accuracy for classes, else R² (coefficient of determination).

        Parameters
        ----------
        x, y, sample_weight, mask, valid
            As in `evaluate`.

        Returns
        -------
        float
            Accuracy in [0, 1], or ``1 - sum w (t - y)^2 / sum w (t - mean t)^2``, the mean over outputs, which has no
            lower bound. NaN where no row counts, and for R² below two rows.
        """
        batch = batch_of(self, x, y, sample_weight, mask, valid)
        check_data(self, batch, "")
        z = self.evaluate_batch(batch)[1]
        if not isinstance(self.loss, ClassLoss | LabelLoss):
            return r2(self, z, batch)
        share = accuracy(self, z, batch)
        return float("nan") if share is None else share


def _checkpoints(folder: object, every: object, resume: object, optimizer: Optimizer | FullBatch) -> Checkpoints | None:
    if folder is None:
        if check_flag("resume", resume):
            raise ValueError("resume: needs the folder of the checkpoint; pass checkpoint='folder' too.")
        return None
    if not isinstance(optimizer, Optimizer):
        raise ValueError(
            f"checkpoint: {type(optimizer).__name__} sees all rows at once and keeps its state to itself; take an "
            "optimiser of mini-batches such as 'adam'."
        )
    return Checkpoints(folder, every, resume=resume)


def _optimizer(optimizer: str | Optimizer | FullBatch) -> Optimizer | FullBatch:
    if isinstance(optimizer, Optimizer | FullBatch):
        return optimizer
    known = [*optimizers.OPTIMIZERS, *full_batch.FULL_BATCH]
    check_name("optimizer", optimizer, known)
    return full_batch.find(optimizer) if optimizer in full_batch.FULL_BATCH else optimizers.find(optimizer)
