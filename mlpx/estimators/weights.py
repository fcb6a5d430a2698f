"""A network behind scikit-learn's attributes: initial weights, views of them, copies."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from mlpx.arrays import kind_of
from mlpx.backend import NUMPY, Backend, backend_name, dtype_name, to_numpy, using_backend
from mlpx.errors import unknown
from mlpx.estimators.devices import backend_for, copied
from mlpx.estimators.parameters import ACTIVATIONS, CONSTRAINTS, satisfied
from mlpx.estimators.stopping import Watch
from mlpx.layers import Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm, MaskedSoftmax, Softmax
from mlpx.model import Sequential
from mlpx.optimizers import Optimizer
from mlpx.typing import Array

ARRAYS = ("coefs_", "intercepts_", "norms_")
"""The attributes that a network is made of."""
HEADS = {"logistic": "sigmoid", "exp": "exp"}
"""scikit-learn's name of an output activation to the library's."""


class Weights(BaseEstimator):  # type: ignore[misc]
    """The weights of an estimator."""

    _parameter_constraints: dict[str, Any] = CONSTRAINTS
    _masked = False
    """Whether the network was trained with a mask: it then ends in a masked softmax."""

    def _validate_params(self) -> None:
        """Raise as scikit-learn does for a parameter that cannot be."""
        if not satisfied(self):
            super()._validate_params()  # which finds the words

    def _build(self, sizes: list[int], dtype: str, backend: Backend) -> Sequential:
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
        with using_backend(backend):
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

    def _start(self, sizes: list[int], dtype: str, backend: Backend) -> None:
        """Draw the initial weights, in scikit-learn's order and from its bounds (Glorot's)."""
        self.n_iter_ = self.t_ = 0
        self.n_layers_ = len(sizes)
        self.out_activation_ = self._out_activation()
        self._net = self._build(sizes, dtype, backend)
        kinds = [*self._kinds(len(sizes) - 2), self.activation if isinstance(self.activation, str) else ""]
        layers = self._dense()
        for layer, kind in zip(layers, kinds, strict=True):
            bound = np.sqrt((2.0 if kind in ("logistic", "sigmoid") else 6.0) / (layer.n_in + layer.n_out))
            w = self._random_state.uniform(-bound, bound, (layer.n_in, layer.n_out)).T
            layer.value("w")[...] = backend.asarray(w, dtype)
            layer.value("b")[...] = backend.asarray(self._random_state.uniform(-bound, bound, layer.n_out), dtype)
        self._show(layers)
        self._watch = Watch()
        self._publish()

    def _dense(self) -> list[Dense]:
        return [layer for layer in self._net.all_layers() if isinstance(layer, Dense)]

    def _norms(self) -> list[dict[str, Array]]:
        """Return views of the gain, shift and running statistics of each norm, by their names."""
        norms = [layer for layer in self._net.all_layers() if isinstance(layer, BatchNorm | LayerNorm)]
        return [{name: p.value for name, p in (norm.parameters | norm.statistics).items()} for norm in norms]

    def _show(self, layers: list[Dense]) -> None:
        """Let the attributes be views of the network's weights, so that writing to either changes both."""
        self.coefs_ = [layer.value("w").T for layer in layers]
        self.intercepts_ = [layer.value("b") for layer in layers]
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
        return *layers, self.device, *self._loss_options()

    def _network(self) -> Sequential:
        """Return the network, with whatever arrays its user has put into the attributes."""
        arrays = self._arrays()
        shown = vars(self).get("_shown")
        same = shown is not None and len(shown) == len(arrays) and all(map(lambda a, b: a is b, arrays, shown))
        if not same or self._built_for != self._options():
            self._check_arrays()
            sizes = [self.coefs_[0].shape[0], *(w.shape[1] for w in self.coefs_)]
            dtype, backend = dtype_name(self.coefs_[0]), backend_for(self.device, self.coefs_[0])
            self._net = self._build(sizes, dtype, backend)
            layers = self._dense()
            for layer, w, b in zip(layers, self.coefs_, self.intercepts_, strict=True):
                layer.value("w")[...], layer.value("b")[...] = backend.asarray(w).T, backend.asarray(b)
            for now, before in zip(self._norms(), vars(self).get("norms_", ()), strict=False):
                for name in now.keys() & before.keys():
                    now[name][...] = backend.asarray(before[name])
            self._show(layers)
        net: Sequential = self._net
        return net

    def _check_arrays(self) -> None:
        """Make ``coefs_`` and ``intercepts_`` arrays of floats, and raise ValueError where they fit no network."""
        self.coefs_, self.intercepts_ = (
            [x if _floats(x) else np.asarray(x, np.float64) for x in arrays]
            for arrays in (self.coefs_, self.intercepts_)
        )
        if len(self.coefs_) != len(self.intercepts_):
            raise ValueError(
                f"coefs_: holds {len(self.coefs_)} arrays, and intercepts_ {len(self.intercepts_)}; expected one "
                "each for every layer."
            )
        width = vars(self).get("n_features_in_")  # None where arrays were put there by hand and nothing was fitted
        for layer, (w, b) in enumerate(zip(self.coefs_, self.intercepts_, strict=True)):
            if w.ndim != 2 or width not in (None, w.shape[0]) or tuple(b.shape) != (w.shape[1],):
                raise ValueError(
                    f"coefs_[{layer}]: has shape {tuple(w.shape)}, and intercepts_[{layer}] {tuple(b.shape)}; expected "
                    f"({width or 'n_in'}, n_out) and (n_out,)."
                )
            width = w.shape[1]
        if width != self.n_outputs_:
            raise ValueError(f"coefs_[-1]: has {width} columns; expected {self.n_outputs_}, one for each output.")

    def _frozen(self) -> dict[str, Any]:
        """Return copies of the arrays that a network is made of, by the names of the attributes."""
        return {name: _mapped(vars(self)[name], copied) for name in ARRAYS if name in vars(self)}

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        net = state.get("_net")
        for name in ("_net", "_shown", "_built_for", "_kept"):
            state.pop(name, None)
        if "_optimizer" in state:
            state["_optimizer"] = copy.copy(state["_optimizer"])
            state["_optimizer"]._owner = None  # the weights, which are there already
        if net is not None and net.backend is not NUMPY:  # what was on a GPU loads without one
            for name in (*ARRAYS, "_optimizer", "_watch"):
                if name in state:
                    state[name] = _mapped(state[name], to_numpy)
        return state


def _floats(x: Any) -> bool:
    """Return whether ``x`` is an array of floats, of any backend."""
    return backend_name(x) is not None and kind_of(x) == "f"


def _mapped(value: Any, function: Callable[[Array], Array]) -> Any:
    """Return the same structure with a function applied to every array on a device or the host inside it."""
    if isinstance(value, dict):
        return {name: _mapped(each, function) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(each, function) for each in value)
    if isinstance(value, Optimizer | Watch):
        made = copy.copy(value)
        vars(made).update(_mapped(vars(value), function))
        return made
    return value if backend_name(value) is None else function(value)
