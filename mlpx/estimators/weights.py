"""The weights of an estimator: drawn, shown as scikit-learn's attributes, taken from them, copied."""

from collections.abc import Callable
from dataclasses import replace
from inspect import Parameter, signature
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator

from mlpx._version import __version__
from mlpx.backend import Backend, backend_name, dtype_name
from mlpx.backend.inspection import kind_of
from mlpx.errors import check_count, warn
from mlpx.estimators.architecture import NORMS, Architecture
from mlpx.estimators.devices import backend_for, copied, on_host
from mlpx.estimators.fitted import FittedNetwork, dense_layers, write
from mlpx.estimators.naming import entries
from mlpx.estimators.parameters import CONSTRAINTS, satisfied
from mlpx.layers.base import MOST_FEATURES
from mlpx.losses import Loss
from mlpx.models.sequential import Sequential
from mlpx.typing import Array

ARRAYS = ("coefs_", "intercepts_", "norms_")
"""The attributes that a network is made of."""


class Weights(BaseEstimator):  # type: ignore[misc]
    """The weights of an estimator.

    What a fit leaves is two objects, `FittedNetwork` and `TrainingState`, and attributes that show them. A fit works
    on an estimator apart, and one assignment of ``__dict__`` puts all of it in place: another thread that predicts
    meanwhile has the attributes of before or those of afterwards, never some of each.
    """

    _parameter_constraints: dict[str, Any] = CONSTRAINTS

    def _validate_params(self) -> None:
        """Raise as scikit-learn does for a parameter that cannot be."""
        if not satisfied(self):
            super()._validate_params()  # which finds the words

    # --- states: apart, pinned, in place ----------------------------------------------------------------------------

    def _apart(self) -> Self:
        """Return an estimator of the same attributes, for a fit to work on."""
        made: Self = object.__new__(type(self))
        made.__dict__.update(vars(self))
        return made

    def _pinned(self) -> Self:
        """Return the estimator as it is now, for several looks at it: a fit in another thread changes nothing of it."""
        made: Self = object.__new__(type(self))
        made.__dict__ = self.__dict__
        return made

    def _become(self, work: Self, before: dict[str, Any]) -> None:
        """Take over what a fit changed of ``work``, whose attributes were ``before``, in one assignment."""
        after, missing = vars(work), object()
        kept = {name: value for name, value in vars(self).items() if name in after or name not in before}
        changed = {name: value for name, value in after.items() if before.get(name, missing) is not value}
        self.__dict__ = kept | changed

    # --- the network ------------------------------------------------------------------------------------------------

    @property
    def _net(self) -> Sequential:
        """The network of the last fit, or of the one at work."""
        fitted: FittedNetwork = self._fitted
        return fitted.net

    @property
    def _masked(self) -> bool:
        """Whether the network was trained with a mask."""
        fitted = vars(self).get("_fitted")
        return fitted is not None and fitted.architecture.masked

    def _trained_loss(self) -> Loss:
        """Return the loss of the last fit, or of the one at work."""
        fitted: FittedNetwork = self._fitted
        return fitted.architecture.loss

    def _architecture(self, head: str, *, masked: bool = False) -> Architecture:
        """Return what the parameters say."""
        if self.batch_norm and self.layer_norm:
            raise ValueError("batch_norm and layer_norm are both True; a hidden layer has one norm or none.")
        norms = [name for name in NORMS if getattr(self, name)]
        given, loss = self.activation, self._loss(head)
        kinds = given if isinstance(given, str) else tuple(given)
        norm = norms[0] if norms else None
        return Architecture(kinds, norm, float(self.dropout), head, masked, loss, self._widths())

    def _widths(self) -> tuple[int, ...]:
        """Return the widths of the hidden layers that are asked for."""
        given = self.hidden_layer_sizes
        widths = entries("hidden_layer_sizes", given) if np.iterable(given) else [given]
        return tuple(check_count("hidden_layer_sizes", width, 1, MOST_FEATURES) for width in widths)

    def _start(self, architecture: Architecture, sizes: list[int], dtype: str, backend: Backend) -> FittedNetwork:
        """Return a network with initial weights, drawn in scikit-learn's order and from its bounds (Glorot's)."""
        net = architecture.build(sizes, dtype, backend)
        given = architecture.activation
        kinds = [*architecture.kinds(len(sizes) - 2), given if isinstance(given, str) else ""]
        for layer, kind in zip(dense_layers(net), kinds, strict=True):
            bound = np.sqrt((2.0 if kind in ("logistic", "sigmoid") else 6.0) / (layer.n_in + layer.n_out))
            w = self._random_state.uniform(-bound, bound, (layer.n_in, layer.n_out)).T
            layer.value("w")[...] = backend.asarray(w, dtype)
            layer.value("b")[...] = backend.asarray(self._random_state.uniform(-bound, bound, layer.n_out), dtype)
        return FittedNetwork(architecture, net, self.device)

    def _continue(self, architecture: Architecture) -> FittedNetwork:
        """Return a network to train, with the weights of the attributes: that of earlier calls, if it fits."""
        attributes = vars(self)
        now: FittedNetwork | None = attributes.get("_fitted")
        if now is not None and not now.by_hand:
            architecture.check_going_on(now.architecture, self.loss)
        if now is None or not now.shows(attributes):
            now = None
            self._check_arrays()
        sizes = [self.coefs_[0].shape[0], *(w.shape[1] for w in self.coefs_)]
        dtype = dtype_name(self.coefs_[0]) if self.dtype == "auto" else self.dtype
        backend = backend_for(self.device, self.coefs_[0])
        own: FittedNetwork | None = self._training.own
        usable = own is not None and own.architecture == architecture and own.has(sizes, dtype, backend)
        if now is not None and now.architecture == architecture and now.has(sizes, dtype, backend):
            if own is None or not usable:
                return now.copied()
            own.parameters[...], own.statistics[...] = now.parameters, now.statistics
            return own
        if own is None or not usable:
            own = FittedNetwork(architecture, architecture.build(sizes, dtype, backend), self.device)
        write(own.net, self.coefs_, self.intercepts_, attributes.get("norms_", []))
        return own

    def _show(self, fitted: FittedNetwork) -> None:
        """Let the attributes be those of a network."""
        self.__dict__.pop("norms_", None)
        self.__dict__.update(fitted.attributes())

    def _network(self) -> Sequential:
        """Return the network of the attributes' arrays."""
        return self._current().net

    def _current(self) -> FittedNetwork:
        """Return the network, with whatever arrays its user has put into the attributes."""
        attributes = self.__dict__  # looked up once: a fit in another thread puts another in its place
        fitted: FittedNetwork | None = attributes.get("_fitted")
        if fitted is None or fitted.by_hand:
            architecture, by_hand = self._architecture(attributes["out_activation_"]), True
        else:
            architecture, by_hand = fitted.architecture, False
            if attributes["out_activation_"] != architecture.head:
                architecture = replace(architecture, head=attributes["out_activation_"])
        if fitted is None or architecture != fitted.architecture or not fitted.shows(attributes):
            self._check_arrays()
            # Nobody sees it before it is complete; the update is one step for other threads, whose networks are alike.
            fitted = FittedNetwork.of(architecture, attributes, by_hand=by_hand)
            attributes.update(fitted.attributes())
        return fitted

    def _check_arrays(self) -> None:
        """Make ``coefs_`` and ``intercepts_`` arrays of floats, and raise ValueError where they fit no network."""
        self.coefs_: list[Array]
        self.intercepts_: list[Array]
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
        """Return the attributes that predictions need, with copies of the arrays that training changes."""
        attributes = {name: value for name, value in vars(self).items() if name != "_training"}
        return attributes | {name: _mapped(attributes[name], copied) for name in ARRAYS if name in attributes}

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__()) | {"_mlpx_version": __version__}
        # What was on a GPU loads without one.
        return state | {name: _mapped(state[name], on_host) for name in ARRAYS if name in state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of a pickle or copy; parameters that an older version had not get their defaults."""
        version = state.get("_mlpx_version", __version__)
        if version != __version__:
            warn(
                f"{type(self).__name__}: was pickled by mlpx {version}, and this is {__version__}, which may take it "
                "for something else; save() writes files that other versions read."
            )
        parameters = signature(type(self).__init__).parameters.values()
        defaults = {each.name: each.default for each in parameters if each.default is not Parameter.empty}
        super().__setstate__(defaults | {name: value for name, value in state.items() if name != "_mlpx_version"})


def _floats(x: Any) -> bool:
    """Return whether ``x`` is an array of floats, of any backend."""
    return backend_name(x) is not None and kind_of(x) == "f"


def _mapped(value: Any, function: Callable[[Array], Array]) -> Any:
    """Return the same structure with a function applied to every array on a device or the host inside it."""
    if isinstance(value, dict):
        return {name: _mapped(each, function) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(each, function) for each in value)
    return value if backend_name(value) is None else function(value)
