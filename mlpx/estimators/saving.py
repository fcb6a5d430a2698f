"""Estimators as files: what `save` writes, and an estimator made of it again."""

import os
from dataclasses import fields
from typing import Any, Self

import numpy as np
import sklearn
from sklearn.utils.validation import check_is_fitted

from mlpx.backend import NUMPY, to_numpy
from mlpx.errors import check_count, check_flag
from mlpx.estimators.architecture import Architecture
from mlpx.estimators.fitted import FittedNetwork, dense_layers
from mlpx.estimators.prediction import Predicting
from mlpx.estimators.solvers import fits
from mlpx.estimators.stopping import Watch
from mlpx.estimators.training_state import TrainingState
from mlpx.files import model_file
from mlpx.files.architecture import layer_data
from mlpx.files.model_file import ModelFile
from mlpx.files.named_arrays import joined, split
from mlpx.files.records import RECORDS as LIBRARY
from mlpx.files.records import of_fields
from mlpx.layers import Dense, Layer
from mlpx.losses import CustomLoss, Loss
from mlpx.models.sequential import Sequential
from mlpx.optimizers import Optimizer

RECORDS = {**LIBRARY, "Architecture": of_fields(Architecture)}
COUNTS = ("n_features_in_", "n_outputs_", "n_layers_", "n_iter_", "t_")
NUMBERS = ("loss_", "best_loss_", "best_validation_score_")
CURVES = {"loss_curve_": "losses", "validation_scores_": "scores", "validation_loss_curve_": "validation_losses"}
"""The attributes that show curves, and their names in the `Watch`."""
ATTRIBUTES = (*COUNTS, *NUMBERS, "out_activation_", "stopped_", "feature_names_in_")
"""What a fit leaves beside weights, curves and classes."""
ROUTED = ("fit", "partial_fit", "predict", "predict_proba", "predict_log_proba", "decision_function", "score")
"""Methods of which scikit-learn's routing may be told what they take."""


class Saving(Predicting):
    """The part of an estimator that writes it to a file."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to one safetensors file; `mlpx.load` gives it back.

        The file holds the parameters, the weights, the classes, the names of features, the curves, and the state of
        training: a loaded estimator predicts the same bits, and ``partial_fit`` goes on as it would have, the
        optimiser's state included. It appears whole or not at all. Nothing in it is ever executed. Attributes of your
        own, and the held-out rows of a fit, are not in it; what was on a GPU loads without one.

        Parameters
        ----------
        path : path

        Raises
        ------
        TypeError, ValueError
            If ``path`` is no name of a file, or there is code in the estimator: callbacks, a loss that is a function,
            a class of your own.
        OSError
            If the folder is not there or the file cannot be written, or ``path`` is a folder, a pipe or a device.
        sklearn.exceptions.NotFittedError
            If there is nothing to save yet.
        """
        check_is_fitted(self)
        now = self._pinned()
        now._check_saveable()
        now._network()
        fitted: FittedNetwork = vars(now)["_fitted"]
        model_file.save(path, type(self).__name__, fitted.net, now._file_state(fitted), RECORDS)

    def _file_state(self, fitted: FittedNetwork, *, code: bool = False) -> dict[str, Any]:
        """Return what a file holds beside the network; with ``code`` without parameters and a loss that are code."""
        attributes = vars(self)
        training: TrainingState | None = attributes.get("_training")
        parameters, architecture = self.get_params(deep=False), fitted.architecture
        if code:
            parameters = {name: value for name, value in parameters.items() if not is_code(value)}
            parameters["callbacks"] = None
        return {
            "parameters": parameters,
            "attributes": {name: attributes[name] for name in ATTRIBUTES if name in attributes},
            "curves": [name for name in CURVES if attributes.get(name) is not None],
            "without": [name for name in CURVES if name in attributes and attributes[name] is None],
            "architecture": None if code and isinstance(architecture.loss, CustomLoss) else architecture,
            "by_hand": fitted.by_hand,
            "training": None if training is None else _training_state(training, fitted.net),
            "requests": self._routing_requests() or None,
            **self._learnt(),
        }

    def _check_saveable(self) -> None:
        """Raise for what cannot be written, or could not be loaded."""
        if not type(self).__module__.startswith("mlpx."):
            raise TypeError(
                f"save: {type(self).__name__} is a class of your own, which no file holds; save an estimator of mlpx."
            )
        if is_code(self.loss):
            raise ValueError(
                "loss: a function of your own is code, which no file holds. Fit with a named loss, or write the "
                "predictions down with export_numpy."
            )
        if self.callbacks or vars(self).get("_skl_callbacks"):
            raise TypeError("callbacks: are code, which no file holds; drop them with set_params(callbacks=None).")
        self._validate_params()

    def _learnt(self) -> dict[str, Any]:
        """Return what a kind of estimator remembers beside what all have."""
        return {}

    def _take_learnt(self, state: dict[str, Any]) -> None:
        """Set what `_learnt` returned, or raise ValueError or TypeError for what does not fit the estimator."""

    def _routing_requests(self) -> dict[str, dict[str, Any]]:
        requests = vars(self).get("_metadata_request")
        if requests is None:
            return {}
        each = {method: dict(getattr(requests, method).requests) for method in ROUTED if hasattr(requests, method)}
        return {method: given for method, given in each.items() if given}

    @classmethod
    def _from_file(cls, file: ModelFile) -> Self:
        """Return the estimator of an open file."""
        state = file.state(RECORDS)
        architecture: Any = state["architecture"]
        if not isinstance(architecture, Architecture):
            raise TypeError("the architecture is none")

        def build(layers: list[Layer], loss: Loss, *, dtype: str, seed: int) -> Sequential:
            widths = [(layer.n_in, layer.n_out) for layer in layers if isinstance(layer, Dense)]
            made = architecture.build([widths[0][0], *(n_out for _, n_out in widths)], dtype, NUMPY)
            if [*map(layer_data, made.layers)] != [*map(layer_data, layers)] or made.loss != loss:
                raise ValueError("layers and architecture are not of the same network")
            return made

        net = file.network(build)
        made = cls(**state["parameters"])
        made._validate_params()
        attributes = state["attributes"]
        if not attributes.keys() <= set(ATTRIBUTES):
            raise ValueError(f"attributes {sorted(attributes.keys() - set(ATTRIBUTES))} are left over")
        _check_attributes(attributes, net)
        made.__dict__.update(attributes)
        by_hand = check_flag("by_hand", state["by_hand"])
        # What goes to a GPU is made there, by the first prediction, of the attributes, as it is of an unpickled one.
        shown = FittedNetwork(architecture, net, made.device, by_hand=by_hand)
        made._show(shown)
        if made.device == "cuda":
            made._fitted = FittedNetwork(architecture, by_hand=by_hand)
        training = state.get("training")
        if training is not None:
            made._training = training_of(training, net)
            curves = {name: getattr(made._training.watch, CURVES[name]) for name in state["curves"]}
            made.__dict__.update(curves | {name: None for name in state["without"] if name in CURVES})
        made._take_learnt(state)
        with sklearn.config_context(enable_metadata_routing=True):
            for method in ROUTED:
                if given := state.get("requests", {}).get(method):
                    getattr(made, f"set_{method}_request")(**given)
        return made


def is_code(value: Any) -> bool:
    """Return whether a parameter is a function of the user's, and no loss of the library's, which can be called too."""
    return callable(value) and (isinstance(value, CustomLoss) or not isinstance(value, Loss))


def _training_state(training: TrainingState, net: Sequential) -> dict[str, Any]:
    """Return a state of training as plain values; arrays that belong to another network than this one are left out."""
    watch, optimizer = training.watch, training.optimizer
    best = watch.best if watch.best is not None and watch.best[0].shape == net.parameters.shape else None
    state = {field.name: getattr(watch, field.name) for field in fields(Watch) if field.name != "best"}
    state |= {name: [float(each) for each in state[name]] for name in CURVES.values()}
    state |= {name: float(state[name]) for name in ("best_loss", "best_score")}
    kept = optimizer is not None and fits(optimizer, net)
    return {
        "watch": state,
        "best": None if best is None else split(net, to_numpy(best[0]), to_numpy(best[1])),
        "optimizer": optimizer if kept else None,
        "steps": optimizer.steps if optimizer is not None and kept else 0,
        "moments": [split(net, to_numpy(each)) for each in optimizer.state] if optimizer is not None and kept else [],
        "progress": tuple(training.progress),
    }


def training_of(state: Any, net: Sequential) -> TrainingState:
    """Return the state of training that some plain values describe, or raise for what cannot be."""
    watch = Watch(**state["watch"])
    for curve in watch.curves():
        if type(curve) is not list or not all(type(each) is float for each in curve):
            raise TypeError("a curve is a list of floats")
    if type(watch.best_loss) is not float or type(watch.best_score) is not float:
        raise TypeError("best_loss and best_score are floats")
    watch.idle, watch.over = check_count("idle", watch.idle, 0), check_flag("over", watch.over)
    watch.of_fit = check_flag("of_fit", watch.of_fit)
    watch.scored = None if watch.scored is None else check_flag("scored", watch.scored)
    watch.best = None if state["best"] is None else joined(net, state["best"], statistics=True)
    optimizer = state["optimizer"]
    if optimizer is not None:
        if not isinstance(optimizer, Optimizer) or len(state["moments"]) != optimizer.n_states:
            raise TypeError("the optimiser and its state do not fit")
        optimizer.state = [joined(net, each)[0] for each in state["moments"]]
        optimizer.steps = check_count("steps", state["steps"], 0)
    steps, epochs = state["progress"]
    return TrainingState(watch, optimizer, (check_count("progress", steps, 0), check_count("progress", epochs, 0)))


def _check_attributes(attributes: dict[str, Any], net: Sequential) -> None:
    """Raise ValueError or TypeError for attributes that do not fit a network, or are of another kind."""
    widths = {"n_features_in_": net.n_in, "n_outputs_": net.n_out, "n_layers_": len(dense_layers(net)) + 1}
    for name in COUNTS:
        if name in attributes and check_count(name, attributes[name], 0) != widths.get(name, attributes[name]):
            raise ValueError(f"{name} is {attributes[name]}; the network has {widths[name]}")
    for name in NUMBERS:
        if not isinstance(attributes.get(name), float | int | np.floating | None):
            raise TypeError(f"{name} is no number")
    if not isinstance(attributes.get("out_activation_"), str):
        raise TypeError("out_activation_ is no name")
    if "stopped_" in attributes:
        check_flag("stopped_", attributes["stopped_"])
    names = attributes.get("feature_names_in_")
    if names is not None and (not isinstance(names, np.ndarray) or names.shape != (net.n_in,) or names.dtype != object):
        raise ValueError(f"feature_names_in_ does not name the network's {net.n_in} features")
