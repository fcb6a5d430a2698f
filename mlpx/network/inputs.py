"""What a network takes: its inputs, masks and targets, checked and converted before anything is computed."""

from dataclasses import dataclass

from mlpx.backend import Backend
from mlpx.backend.conversion import as_flags, as_float_array, as_weights
from mlpx.backend.inspection import check_readable
from mlpx.layers import Layer, MaskedSoftmax
from mlpx.losses import Loss
from mlpx.network.batch import Batch, without_padding
from mlpx.network.host_rows import HostRows
from mlpx.typing import Array, ArrayLike, Shape


@dataclass(frozen=True)
class Inputs:
    """Checks and converts what one network is given; every error names the argument.

    Parameters
    ----------
    layers : tuple of Layer
    n_in, n_out : int or None
        Last axis of input and output; None where no layer fixes it.
    dtype : str
    backend : Backend
        What arrays become, and where they must lie.
    """

    layers: tuple[Layer, ...]
    n_in: int | None
    n_out: int | None
    dtype: str
    backend: Backend

    def rows(self, x: ArrayLike) -> Array:
        """Return inputs (..., n_in)."""
        if not isinstance(x, HostRows):
            x = as_float_array("x", x, self.dtype, self.backend)
        if x.ndim == 0 or (self.n_in is not None and x.shape[-1] != self.n_in):
            raise ValueError(
                f"x: has shape {tuple(x.shape)}; expected (n, {self.n_in}), rows of {self.n_in} features."
                + (" For one feature per row pass x[:, None]." if self.n_in == 1 else "")
            )
        return x

    def output_shape(self, x_shape: Shape) -> Shape:
        """Return the shape of the output for inputs of a shape."""
        return (*x_shape[:-1], x_shape[-1] if self.n_out is None else self.n_out)

    def masks(
        self, x_shape: Shape, mask: ArrayLike | None, valid: ArrayLike | None
    ) -> tuple[Array | None, Array | None]:
        """Return ``mask`` and ``valid`` as bools for inputs of a shape."""
        shape = self.output_shape(x_shape)
        if mask is None and isinstance(self.layers[-1], MaskedSoftmax):
            raise ValueError(
                f"mask: missing. This network ends in a masked softmax; pass mask of shape {shape}, True where a class "
                "is allowed."
            )
        if mask is not None:
            if not any(inner.uses_mask for layer in self.layers for inner in layer.walk()):
                raise ValueError(
                    "mask: no layer of this network uses one. For classes that are impossible in some rows end it in "
                    "a MaskedSoftmax: MLP(..., output='masked_softmax'). To leave out whole rows pass sample_weight."
                )
            mask = as_flags("mask", mask, shape, self.dtype, self.backend)
        if valid is not None:
            valid = as_flags("valid", valid, tuple(x_shape[:-1]), self.dtype, self.backend)
        return mask, valid

    def batch(
        self,
        loss: Loss,
        x: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        mask: ArrayLike | None,
        valid: ArrayLike | None,
    ) -> Batch:
        """Return rows with the targets of a loss; padded steps have weight 0."""
        x = self.rows(x)
        if x.ndim < 2:
            raise ValueError(f"x: has shape {tuple(x.shape)}; expected rows (n, {self.n_in}). For one row: x[None, :].")
        shape = self.output_shape(x.shape)
        mask, valid = self.masks(x.shape, mask, valid)
        check_readable("y", y)
        if valid is not None:
            y = without_padding(y, valid)
        target = loss.prepare(y, shape, self.dtype, self.backend)
        if sample_weight is not None:
            sample_weight = as_weights("sample_weight", sample_weight, shape[:-1], self.dtype, self.backend)
        if valid is not None:
            real = self.backend.xp.asarray(valid, dtype=x.dtype)
            sample_weight = real if sample_weight is None else sample_weight * real
        return Batch(x, target, mask, sample_weight, valid)
