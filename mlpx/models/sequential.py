"""What users hold: `Sequential`, a network that fits, saves, moves and copies itself."""

import copy
import os
from typing import Any

from mlpx.backend import FLOATS, Backend, to_numpy, using_backend
from mlpx.errors import check_name
from mlpx.files import architecture, model_file
from mlpx.files.records import RECORDS
from mlpx.layers import Dense, Layer
from mlpx.losses import Loss
from mlpx.training.fit import Trainable
from mlpx.typing import Array


class Sequential(Trainable):
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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network, and the curves of its last fit, to one safetensors file; see `mlpx.load`.

        The file appears whole or not at all.

        Raises
        ------
        TypeError, ValueError
            If ``path`` is no name of a file. For a network with a custom loss: code is never saved.
        OSError
            If the folder is not there or the file cannot be written, or ``path`` is a folder, a pipe or a device.
        """
        model_file.save(path, "network", self, {"history": self.history}, RECORDS)

    def copy(self, *, dtype: str | None = None, backend: str | Backend | None = None) -> "Sequential":
        """Return an independent network with the same weights, if asked in another dtype or on another backend."""
        dtype = None if dtype is None else check_name("dtype", dtype, FLOATS)
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
    net = Sequential.undrawn([architecture.layer_of(data) for data in layers], loss, dtype=dtype, seed=seed)
    for given, buffer in ((parameters, net.buffers.parameters), (statistics, net.buffers.statistics)):
        buffer[...] = net.backend.asarray(given, dtype)
    return net


def _as_data(layer: Layer) -> dict[str, Any]:
    """Return a layer's class and fields as data of its own."""
    return copy.deepcopy({"layer": type(layer).__name__, **layer.config()})
