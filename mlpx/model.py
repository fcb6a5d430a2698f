"""What users hold: `Sequential` and `MLP`, networks that fit, save, move and copy themselves."""

import copy
import os
from collections.abc import Callable, Iterable
from typing import Any

from mlpx import persistence, training
from mlpx.backend import FLOATS, Backend, to_numpy, using_backend
from mlpx.callbacks import Callback, Run
from mlpx.errors import unknown
from mlpx.fullbatch import FullBatch
from mlpx.history import History
from mlpx.layers import Dense, Layer
from mlpx.losses import Loss
from mlpx.network import Network
from mlpx.optimizers import Optimizer
from mlpx.steps import GradientHook
from mlpx.typing import Array, ArrayLike


class Sequential(Network):
    """Layers in a row, with a loss at the end.

    Parameters
    ----------
    *layers : Layer
        In order. A last layer `Softmax`, `MaskedSoftmax` or ``Activation("sigmoid")`` is fused with its loss.
    loss : str, Loss or callable, optional
        "cross_entropy", "binary_cross_entropy", "focal", "binary_focal", "hinge", "squared_error", "absolute_error",
        "huber", "quantile", "poisson", "gamma", an object of `mlpx.losses`, or ``function(prediction, target) -> (loss,
        gradient)``. Default: what suits the last layer (softmax: cross_entropy; sigmoid: binary_cross_entropy; exp:
        poisson; otherwise squared_error).
    dtype : str
        "float32" or "float64".
    seed : int
        Chooses the initial weights.

    Raises
    ------
    ValueError
        If two layers do not fit, or a name is unknown.
    """

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        epochs: int = 20,
        batch_size: int = 128,
        optimizer: str | Optimizer | FullBatch = "adam",
        validation: float | tuple[ArrayLike, ...] | None = None,
        mask: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        valid: ArrayLike | None = None,
        shuffle: bool = True,
        callbacks: Iterable[Callback | Callable[[Run], Any]] = (),
        progress: bool | str = "auto",
        seed: int = 0,
        n_threads: int | None = None,
        deterministic: bool = False,
        gradient_hook: GradientHook | None = None,
        precision: str | None = None,
    ) -> History:
        """Train the network in place.

        Parameters
        ----------
        x : array (n, ..., n_in)
            Finite numbers; at least one row.
        y : array
            Class numbers (n, ...) or probabilities (n, ..., n_out) for cross_entropy; otherwise the output's shape,
            whose last axis may be missing when it is 1.
        epochs : int
            Passes over the data; iterations for a full-batch optimiser. 0 checks the data and trains nothing.
        batch_size : int
            Rows per step; the last step of an epoch takes what is left.
        optimizer : str, Optimizer or FullBatch
            "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "adamw", "rprop"; all rows at
            once: "lbfgs", "conjugate_gradient", "levenberg_marquardt", "scaled_conjugate_gradient". Objects of
            `mlpx.optimizers` and `mlpx.fullbatch` carry learning rate, schedule, clipping and penalties.
        validation : float or tuple, optional
            A share in (0, 1) of the rows to hold out at random, or ``(x, y[, mask[, sample_weight[, valid]]])``.
        mask : array (n, ..., n_out), bool, optional
            For a masked softmax: True where a class is allowed.
        sample_weight : array (n, ...), optional
            At least 0; the loss is the weighted mean.
        valid : array (n, steps), bool, optional
            True for real steps of padded sequences.
        shuffle : bool
            Whether each epoch takes the rows in a new order.
        callbacks : iterable
            `mlpx.callbacks.Callback` objects, or functions called with the `Run` after each epoch; one that returns
            something true ends the fit.
        progress : bool or "auto"
            Whether to draw a progress bar; "auto" draws it on a terminal.
        seed : int
            Chooses shuffles, the held-out rows and dropout masks.
        n_threads : int, optional
            Threads to use; default: ``MLPX_NUM_THREADS``, else the cores this process may use. Small networks take
            one whatever it says.
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
        return training.fit(
            self,
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            validation=validation,
            mask=mask,
            sample_weight=sample_weight,
            valid=valid,
            shuffle=shuffle,
            callbacks=callbacks,
            progress=progress,
            seed=seed,
            n_threads=n_threads,
            deterministic=deterministic,
            gradient_hook=gradient_hook,
            precision=precision,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to one safetensors file; see `mlpx.load`. The file appears whole or not at all."""
        persistence.save(self, path)

    def copy(self, *, dtype: str | None = None, backend: str | Backend | None = None) -> "Sequential":
        """Return an independent network with the same weights, if asked in another dtype or on another backend."""
        if dtype is not None and dtype not in FLOATS:
            raise unknown("dtype", dtype, FLOATS)
        _, (layers, loss, kept, seed, parameters, statistics) = self.__reduce__()
        with using_backend(self.backend if backend is None else backend):
            return _restored(layers, loss, dtype or kept, seed, parameters, statistics)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let copies, and processes that networks are sent to, get one flat buffer with the layers' views into it."""
        layers = [_as_data(layer) for layer in self.layers]
        buffers = (to_numpy(self.buffers.parameters), to_numpy(self.buffers.statistics))
        return _restored, (layers, self.loss, self.dtype, self.seed, *buffers)

    def to(self, backend: str | Backend) -> "Sequential":
        """Return a copy on another backend."""
        return self.copy(backend=backend)

    def astype(self, dtype: str) -> "Sequential":
        """Return a copy in another dtype."""
        return self.copy(dtype=dtype)

    def with_bias_rows(self) -> list[Array]:
        """Return the dense layers as arrays (n_in + 1, n_out) whose last row is the bias, on the host.

        A common way to hold a network: with a column of ones beside x, ``z = [x, 1] @ v``. `MLP.from_bias_rows`
        goes the other way.
        """
        import numpy as np

        dense = [layer for layer in self.all_layers() if isinstance(layer, Dense)]
        return [
            np.concatenate(
                [
                    to_numpy(layer.value("w")).T,
                    to_numpy(layer.value("b"))[None, :] if layer.bias else np.zeros((1, layer.n_out), self.dtype),
                ]
            )
            for layer in dense
        ]


def _restored(
    layers: list[dict[str, Any]], loss: Loss, dtype: str, seed: int, parameters: Array, statistics: Array
) -> Sequential:
    """Return the network of some layers' data, on the backend in force, with given buffers."""
    net = Sequential(*(persistence.layer_of(data) for data in layers), loss=loss, dtype=dtype, seed=seed)
    for given, buffer in ((parameters, net.buffers.parameters), (statistics, net.buffers.statistics)):
        buffer[...] = net.backend.asarray(given, dtype)
    return net


def _as_data(layer: Layer) -> dict[str, Any]:
    """Return a layer's class and fields as data of its own."""
    return copy.deepcopy({"layer": type(layer).__name__, **layer.config()})


def load(path: str | os.PathLike[str]) -> Sequential:
    """Return the network of a model file, on the backend in force; a model saved on a GPU loads without one.

    Raises
    ------
    ValueError
        If the file is no usable model; the message says why. Nothing in it is ever executed.
    OSError
        If it cannot be read.
    """
    layers, loss, options, tensors = persistence.read(path)
    try:
        net = Sequential(*layers, loss=loss, **options)
    except persistence.BAD as error:
        raise persistence.unusable(path, error) from error
    persistence.load_into(net, tensors)
    return net
