"""A network behind scikit-learn's attributes: initial weights, views of them, copies."""

import itertools
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from mlpx.backend import using_backend
from mlpx.errors import unknown
from mlpx.estimators.parameters import ACTIVATIONS, CONSTRAINTS
from mlpx.estimators.stopping import Watch
from mlpx.layers import Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm, MaskedSoftmax, Softmax
from mlpx.model import Sequential
from mlpx.typing import Array

HEADS = {"logistic": "sigmoid", "exp": "exp"}
"""scikit-learn's name of an output activation to the library's."""


class Weights(BaseEstimator):  # type: ignore[misc]
    """The weights of an estimator."""

    _parameter_constraints: dict[str, Any] = CONSTRAINTS
    _masked = False
    """Whether the network was trained with a mask: it then ends in a masked softmax."""

    def _build(self, sizes: list[int], dtype: str) -> Sequential:
        """Return a network of all zeros."""
        if self.batch_norm and self.layer_norm:
            raise ValueError("batch_norm and layer_norm are both True; a hidden layer has one norm or none.")
        norm = BatchNorm if self.batch_norm else LayerNorm if self.layer_norm else None
        layers: list[Layer] = []
        for (n_in, n_out), kind in zip(itertools.pairwise(sizes), [*self._kinds(len(sizes) - 2), None], strict=True):
            name = "identity" if kind is None else ACTIVATIONS[kind]
            if kind is None or norm is None:
                layers.append(Dense(n_in, n_out, name, init="zeros"))
            else:
                layers += [Dense(n_in, n_out, init="zeros"), norm(n_out), Activation(name)]
            if kind is not None and self.dropout:
                layers.append(Dropout(self.dropout))
        if self.out_activation_ != "identity":
            softmax = MaskedSoftmax if self._masked else Softmax
            head = softmax() if self.out_activation_ == "softmax" else Activation(HEADS[self.out_activation_])
            layers.append(head)
        with using_backend("numpy"):
            return Sequential(*layers, loss=self._loss(), dtype=dtype)

    def _kinds(self, n_hidden: int) -> list[str]:
        """Return the name of each hidden layer's activation."""
        given = self.activation
        kinds = [given] * n_hidden if isinstance(given, str) else list(given)
        if len(kinds) != n_hidden:
            raise ValueError(f"activation: has {len(kinds)} names for {n_hidden} hidden layers; expected one each.")
        for kind in kinds:
            if not isinstance(kind, str) or kind not in ACTIVATIONS:
                raise unknown("activation", kind, ACTIVATIONS)
        return kinds

    def _start(self, sizes: list[int], dtype: str) -> None:
        """Draw the initial weights, in scikit-learn's order and from its bounds (Glorot's)."""
        self.n_iter_ = self.t_ = 0
        self.n_layers_ = len(sizes)
        self.out_activation_ = self._out_activation()
        self._net = self._build(sizes, dtype)
        kinds = [*self._kinds(len(sizes) - 2), self.activation if isinstance(self.activation, str) else ""]
        for layer, kind in zip(self._dense(), kinds, strict=True):
            bound = np.sqrt((2.0 if kind in ("logistic", "sigmoid") else 6.0) / (layer.n_in + layer.n_out))
            layer.value("w")[...] = self._random_state.uniform(-bound, bound, (layer.n_in, layer.n_out)).T
            layer.value("b")[...] = self._random_state.uniform(-bound, bound, layer.n_out)
        self._show()
        self._watch = Watch()
        self._publish()

    def _dense(self) -> list[Dense]:
        return [layer for layer in self._net.all_layers() if isinstance(layer, Dense)]

    def _norms(self) -> list[dict[str, Array]]:
        """Return views of the gain, shift and running statistics of each norm, by their names."""
        norms = [layer for layer in self._net.all_layers() if isinstance(layer, BatchNorm | LayerNorm)]
        return [{name: p.value for name, p in (norm.parameters | norm.statistics).items()} for norm in norms]

    def _show(self) -> None:
        """Let the attributes be views of the network's weights, so that writing to either changes both."""
        self.coefs_ = [layer.value("w").T for layer in self._dense()]
        self.intercepts_ = [layer.value("b") for layer in self._dense()]
        self.__dict__.pop("norms_", None)
        if self.batch_norm or self.layer_norm:
            self.norms_ = self._norms()
        self._shown = self._arrays()
        self._built_for = self._options()

    def _arrays(self) -> list[Array]:
        """Return every array of the attributes that a network is made of."""
        norms = [array for norm in vars(self).get("norms_", ()) for array in norm.values()]
        return [*self.coefs_, *self.intercepts_, *norms]

    def _options(self) -> tuple[Any, ...]:
        """Return what a network is built from beside its widths."""
        given = self.activation
        kinds = given if isinstance(given, str) else tuple(given)
        layers = kinds, self.out_activation_, self.dropout, self.batch_norm, self.layer_norm, self._masked
        return *layers, *self._loss_options()

    def _network(self) -> Sequential:
        """Return the network, with whatever arrays its user has put into the attributes."""
        arrays = self._arrays()
        shown = vars(self).get("_shown")
        same = shown is not None and len(shown) == len(arrays) and all(map(lambda a, b: a is b, arrays, shown))
        if not same or self._built_for != self._options():
            sizes = [self.coefs_[0].shape[0], *(w.shape[1] for w in self.coefs_)]
            self._net = self._build(sizes, np.dtype(self.coefs_[0].dtype).name)
            for layer, w, b in zip(self._dense(), self.coefs_, self.intercepts_, strict=True):
                layer.value("w")[...], layer.value("b")[...] = w.T, b
            for now, before in zip(self._norms(), vars(self).get("norms_", ()), strict=False):
                for name in now.keys() & before.keys():
                    now[name][...] = before[name]
            self._show()
        net: Sequential = self._net
        return net

    def _frozen(self) -> dict[str, Any]:
        """Return copies of the arrays that a network is made of, by the names of the attributes."""
        state: dict[str, Any] = {name: [w.copy() for w in getattr(self, name)] for name in ("coefs_", "intercepts_")}
        if hasattr(self, "norms_"):
            state["norms_"] = [{name: array.copy() for name, array in norm.items()} for norm in self.norms_]
        return state

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        for name in ("_net", "_shown", "_built_for"):
            state.pop(name, None)
        return state
