"""The network that a fit left, and scikit-learn's attributes as views into it."""

from collections.abc import Mapping
from operator import is_
from typing import Any

from mlpx.backend import Backend, dtype_name
from mlpx.estimators.architecture import Architecture
from mlpx.estimators.devices import backend_for
from mlpx.layers import INFERENCE, BatchNorm, Dense, LayerNorm
from mlpx.layers.passes import through
from mlpx.models.sequential import Sequential
from mlpx.network.batch import blocks
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

    Attributes
    ----------
    dtype, backend, n_in, n_out
        Those of the network.
    parameters, statistics : array (k,)
        Its flat buffers.
    arrays : list of array
        The views that the estimator's attributes show.
    """

    def __init__(
        self, architecture: Architecture, net: Sequential | None = None, device: str = "auto", *, by_hand: bool = False
    ) -> None:
        self.architecture, self.device, self.by_hand = architecture, device, by_hand
        self.arrays: list[Array] = []
        self._template = self._net = net
        self._compiled: dict[bool, Any] = {}  # by whether they go to the loss alone
        if net is not None:
            dense = dense_layers(net)
            self._sizes = [dense[0].n_in, *(layer.n_out for layer in dense)]
            self.dtype, self.backend, self.n_in, self.n_out = net.dtype, net.backend, self._sizes[0], self._sizes[-1]
            self._dense = [(layer.parameters["w"], layer.parameters["b"]) for layer in dense]
            norms = [layer for layer in net.all_layers() if isinstance(layer, BatchNorm | LayerNorm)]
            self._norms = [(norm.parameters.items(), norm.statistics.items()) for norm in norms]
            self._look_at(net.parameters, net.buffers.statistics)

    def _look_at(self, parameters: Array, statistics: Array) -> None:
        """Make views of flat buffers."""
        self.parameters, self.statistics = parameters, statistics
        self._coefs = [w.view(parameters).T for w, _ in self._dense]
        self._intercepts = [b.view(parameters) for _, b in self._dense]
        self._norm_arrays = [
            {name: p.view(parameters) for name, p in learnt} | {name: p.view(statistics) for name, p in running}
            for learnt, running in self._norms
        ]
        norms = (array for norm in self._norm_arrays for array in norm.values())
        self.arrays = [*self._coefs, *self._intercepts, *norms]

    def __reduce__(self) -> tuple[Any, ...]:
        return FittedNetwork, (self.architecture,)

    def copied(self) -> "FittedNetwork":
        """Return another one of the same weights; what only some predictions need is made by the first of them."""
        made = object.__new__(FittedNetwork)
        made.__dict__.update(self.__dict__)
        made._net, made._compiled = None, {}
        made._look_at(self._copy_of(self.parameters), self._copy_of(self.statistics))
        return made

    def _copy_of(self, buffer: Array) -> Array:
        made = self.backend.zeros(tuple(buffer.shape), self.dtype)
        made[...] = buffer
        return made

    @property
    def template(self) -> Sequential:
        """A network of the same layers, with these weights or others."""
        if self._template is None:
            raise RuntimeError("the network of a copy is made by its first prediction")
        return self._template

    @property
    def net(self) -> Sequential:
        """The network. Several threads may make one each, all over the same buffers."""
        if self._net is None:
            self._net = self.template.over(self.parameters, self.statistics)
        return self._net

    def predict(self, x: Array) -> Array:
        """Return the network's output for rows, without making a network where kernels are all it takes."""
        if self._net is not None:
            return self._net.predict(x)
        compiled = self._ready(to_the_loss=False)
        y: Array | None = None if compiled is None else compiled.plain(x)
        return self.net.predict(x) if y is None else y

    def logits(self, x: Array) -> Array:
        """Return what the output layer's softmax, sigmoid or exp is computed from; the output where there is none."""
        if self.architecture.head == "identity":
            return self.predict(x)
        template = self.template
        compiled = self._ready(to_the_loss=True) if template.loss.fuses(template.layers[-1]) else None
        if compiled is not None:
            z: Array | None = compiled.plain(x)
            z = compiled.of_any_shape(x, None) if z is None else z
            if z is not None:
                return z
        below = self.net.layers[:-1]
        parts = [through(below, x[rows, ...], INFERENCE)[0] for rows in blocks(x.shape[0])]
        return parts[0] if len(parts) == 1 else self.backend.xp.concat(parts, axis=0)

    def _ready(self, *, to_the_loss: bool) -> Any:
        """Return the compiled prediction over these weights, or None where there is none."""
        laid_out = self.template.predictor(to_the_loss=to_the_loss)
        if laid_out is None or self._net is self._template:
            return laid_out
        if to_the_loss not in self._compiled:
            self._compiled[to_the_loss] = laid_out.over(self.parameters, self.statistics)
        return self._compiled[to_the_loss]

    def has(self, sizes: list[int], dtype: str, backend: Backend) -> bool:
        """Return whether the network has these widths, dtype and backend."""
        return self._template is not None and (sizes, dtype, backend) == (self._sizes, self.dtype, self.backend)

    def attributes(self) -> dict[str, Any]:
        """Return what the estimator holds of it: views, so that writing to them changes the network."""
        shown = {"_fitted": self, "coefs_": list(self._coefs), "intercepts_": list(self._intercepts)}
        return shown | {"norms_": [dict(norm) for norm in self._norm_arrays]} if self._norm_arrays else shown

    def shows(self, attributes: Mapping[str, Any]) -> bool:
        """Return whether an estimator's attributes are those of this network, and not arrays of its user's."""
        arrays = [*attributes["coefs_"], *attributes["intercepts_"]]
        for norm in attributes.get("norms_", ()):
            arrays += norm.values()
        return (
            self._template is not None
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
