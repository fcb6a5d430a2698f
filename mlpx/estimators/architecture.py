"""What a network is built from beside its widths: what a fit decides, whatever parameters are set afterwards."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlpx.backend import Backend, using_backend
from mlpx.errors import unknown
from mlpx.estimators.parameters import ACTIVATIONS
from mlpx.estimators.sparse import FirstDense
from mlpx.layers import Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm, MaskedSoftmax, Softmax
from mlpx.losses import Loss
from mlpx.models.sequential import Sequential

HEADS = {"logistic": "sigmoid", "exp": "exp"}
"""scikit-learn's name of an output activation to the library's."""
NORMS = {"batch_norm": BatchNorm, "layer_norm": LayerNorm}
"""The parameter of a norm to its layer."""


@dataclass(frozen=True)
class Architecture:
    """The layers of a network, but for their widths, and its loss.

    Attributes
    ----------
    activation : str or tuple of str
        Of all hidden layers, or of each.
    norm : str, optional
        "batch_norm" or "layer_norm".
    dropout : float
    head : str
        The output activation: "identity", "logistic", "softmax" or "exp".
    masked : bool
        Whether the network was trained with a mask: a softmax is then a masked one.
    loss : Loss
    widths : tuple of int, optional
        ``hidden_layer_sizes`` when it was made.
    """

    activation: str | tuple[str, ...]
    norm: str | None
    dropout: float
    head: str
    masked: bool
    loss: Loss
    widths: tuple[int, ...] | None = None

    def build(self, sizes: Sequence[int], dtype: str, backend: Backend) -> Sequential:
        """Return a network of all zeros, with ``sizes`` from the input's to the output's."""
        layers: list[Layer] = []
        for (n_in, n_out), kind in zip(itertools.pairwise(sizes), [*self.kinds(len(sizes) - 2), None], strict=True):
            name, dense = "identity" if kind is None else ACTIVATIONS[kind], Dense if layers else FirstDense
            if kind is None or self.norm is None:
                layers.append(dense(n_in, n_out, name, init="zeros"))
            else:
                layers += [dense(n_in, n_out, init="zeros"), NORMS[self.norm](n_out), Activation(name)]
            if kind is not None and self.dropout:
                layers.append(Dropout(self.dropout))
        if self.head == "softmax":
            layers.append((MaskedSoftmax if self.masked else Softmax)())
        elif self.head != "identity":
            layers.append(Activation(HEADS[self.head]))
        with using_backend(backend):
            return Sequential(*layers, loss=self.loss, dtype=dtype)

    def check_going_on(self, before: "Architecture", loss: Any) -> None:
        """Raise ValueError unless the weights of a network of the architecture ``before`` can be trained on.

        What needs no other weights may change: activations, dropout, and losses of the same outputs.

        Parameters
        ----------
        before : Architecture
        loss : object
            The parameter, for the error.
        """
        on = "warm_start and partial_fit go on with its weights: set it back, or fit with warm_start=False."
        if self.head != before.head:
            raise ValueError(
                f"loss: {loss!r} wants outputs that are {self.head!r}; those of the network, fitted with "
                f"{before.loss!r}, are {before.head!r}, and {on}"
            )
        if None not in (self.widths, before.widths) and self.widths != before.widths:
            raise ValueError(
                f"hidden_layer_sizes: is {self.widths}; the network was made with {before.widths}, and {on}"
            )
        if self.norm != before.norm:
            name = self.norm or before.norm
            raise ValueError(
                f"{name}: is {self.norm == name}; the network was made with {before.norm or 'no norm'}, and {on}"
            )

    def kinds(self, n_hidden: int) -> list[str]:
        """Return the name of each hidden layer's activation."""
        given = self.activation
        kinds = [given] * n_hidden if isinstance(given, str) else list(given)
        if len(kinds) != n_hidden:
            raise ValueError(f"activation: has {len(kinds)} names for {n_hidden} hidden layers; expected one each.")
        for kind in kinds:
            if not isinstance(kind, str) or kind not in ACTIVATIONS:
                raise unknown("activation", kind, ACTIVATIONS)
        return kinds
