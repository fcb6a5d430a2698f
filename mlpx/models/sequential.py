"""What users hold: `Sequential`, a network that fits, saves, moves and copies itself."""

import copy
import os
from typing import Any, Self

from mlpx.backend import FLOATS, Backend, to_numpy, using_backend
from mlpx.errors import check_name
from mlpx.files import model_file
from mlpx.files.records import RECORDS
from mlpx.layers import Dense
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

    def copy(self, *, dtype: str | None = None, backend: str | Backend | None = None) -> Self:
        """Return an independent network with the same weights, if asked in another dtype or on another backend.

        It is of the same class, and has copies of all attributes but `precision`. So have those of `copy.deepcopy`, and
        of `pickle`, which names classes by their modules; what is unpickled comes on the backend in force.
        """
        dtype = self.dtype if dtype is None else check_name("dtype", dtype, FLOATS)
        return self._copied({}, dtype, self.backend if backend is None else backend)

    def __copy__(self) -> Self:
        """Return an independent network too: layers belong to one network."""
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return an independent network on the same backend."""
        return self._copied(memo, self.dtype, self.backend)

    def _copied(self, memo: dict[int, Any], dtype: str, backend: str | Backend) -> Self:
        made = memo[id(self)] = type(self).__new__(type(self))
        with using_backend(backend):
            made.__setstate__(copy.deepcopy(self.__getstate__(), memo) | {"dtype": dtype})
        return made

    def to(self, backend: str | Backend) -> Self:
        """Return a copy on another backend."""
        return self.copy(backend=backend)

    def astype(self, dtype: str) -> Self:
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
