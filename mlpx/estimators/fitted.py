"""The network that a fit left, and scikit-learn's attributes as views into it."""

from collections.abc import Mapping
from operator import is_
from typing import Any

from mlpx.backend import Backend, dtype_name
from mlpx.estimators.architecture import Architecture
from mlpx.estimators.devices import backend_for
from mlpx.layers import BatchNorm, Dense, LayerNorm
from mlpx.models.sequential import Sequential
from mlpx.typing import Array


def dense_layers(net: Sequential) -> list[Dense]:
    """Return the dense layers of a network."""
    return [layer for layer in net.all_layers() if isinstance(layer, Dense)]


def norm_arrays(net: Sequential) -> list[dict[str, Array]]:
    """Return views of the gain, shift and running statistics of each norm of a network, by their names."""
    norms = [layer for layer in net.all_layers() if isinstance(layer, BatchNorm | LayerNorm)]
    return [{name: p.value for name, p in (norm.parameters | norm.statistics).items()} for norm in norms]


def write(net: Sequential, coefs: list[Array], intercepts: list[Array], norms: list[dict[str, Array]]) -> None:
    """Copy arrays of the attributes into a network, from any backend and dtype."""
    backend, dtype = net.backend, net.dtype
    for layer, w, b in zip(dense_layers(net), coefs, intercepts, strict=True):
        layer.value("w")[...], layer.value("b")[...] = backend.asarray(w, dtype).T, backend.asarray(b, dtype)
    for there, here in zip(norm_arrays(net), norms, strict=False):
        for name in there.keys() & here.keys():
            there[name][...] = backend.asarray(here[name], dtype)


class FittedNetwork:
    """An architecture, and the network that predicts. Training never changes one: it ends with another.

    Copies and pickles hold the architecture alone: the weights are in the estimator's attributes, and its first
    prediction makes the network again.

    Parameters
    ----------
    architecture : Architecture
    net : Sequential, optional
    device : str
        The estimator's parameter when the network was made.
    by_hand : bool
        Whether nothing was fitted: the weights were put into the attributes, and the parameters say the rest.
    """

    def __init__(
        self, architecture: Architecture, net: Sequential | None = None, device: str = "auto", *, by_hand: bool = False
    ) -> None:
        self.architecture, self.device, self.by_hand = architecture, device, by_hand
        self._net = net
        layers = [] if net is None else dense_layers(net)
        self.coefs = [layer.value("w").T for layer in layers]
        self.intercepts = [layer.value("b") for layer in layers]
        self.norms = [] if net is None or architecture.norm is None else norm_arrays(net)
        self.arrays = [*self.coefs, *self.intercepts, *(array for norm in self.norms for array in norm.values())]

    def __reduce__(self) -> tuple[Any, ...]:
        return FittedNetwork, (self.architecture,)

    @property
    def net(self) -> Sequential:
        """The network; a copy of the estimator has none before its first prediction."""
        if self._net is None:
            raise RuntimeError("the network of a copy is made by its first prediction")
        return self._net

    def has(self, sizes: list[int], dtype: str, backend: Backend) -> bool:
        """Return whether the network has these widths, dtype and backend."""
        net = self._net
        if net is None or net.dtype != dtype or net.backend != backend:
            return False
        return sizes == [net.n_in, *(layer.n_out for layer in dense_layers(net))]

    def copied(self) -> "FittedNetwork":
        """Return another network of the same weights."""
        net = self.net
        sizes = [self.coefs[0].shape[0], *(w.shape[1] for w in self.coefs)]
        made = self.architecture.build(sizes, net.dtype, net.backend)
        made.parameters[...], made.buffers.statistics[...] = net.parameters, net.buffers.statistics
        return FittedNetwork(self.architecture, made, self.device)

    def attributes(self) -> dict[str, Any]:
        """Return what the estimator holds of it: views, so that writing to them changes the network."""
        shown = {"_fitted": self, "coefs_": list(self.coefs), "intercepts_": list(self.intercepts)}
        return shown | {"norms_": [dict(norm) for norm in self.norms]} if self.norms else shown

    def shows(self, attributes: Mapping[str, Any]) -> bool:
        """Return whether an estimator's attributes are those of this network, and not arrays of its user's."""
        arrays = [*attributes["coefs_"], *attributes["intercepts_"]]
        for norm in attributes.get("norms_", ()):
            arrays += norm.values()
        return (
            self._net is not None
            and len(arrays) == len(self.arrays)
            and all(map(is_, arrays, self.arrays))
            and attributes["device"] == self.device
        )

    @classmethod
    def of(cls, architecture: Architecture, attributes: Mapping[str, Any], *, by_hand: bool) -> "FittedNetwork":
        """Return a network of copies of the attributes' arrays, where the parameter ``device`` says."""
        coefs, intercepts = attributes["coefs_"], attributes["intercepts_"]
        sizes = [coefs[0].shape[0], *(w.shape[1] for w in coefs)]
        net = architecture.build(sizes, dtype_name(coefs[0]), backend_for(attributes["device"], coefs[0]))
        write(net, coefs, intercepts, attributes.get("norms_", []))
        return cls(architecture, net, attributes["device"], by_hand=by_hand)
