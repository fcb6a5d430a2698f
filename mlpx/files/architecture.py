"""A network's architecture as data that JSON can hold, and back. No code, no pickle.

What is read is taken for hostile: only layer and loss classes that are registered are made, from data that their own
constructors check. Nothing of a weight's size is made here.
"""

import operator
from contextlib import suppress
from dataclasses import fields
from typing import Any

import numpy as np

from mlpx.backend import FLOATS
from mlpx.errors import check_count, unknown
from mlpx.initializers import Uniform
from mlpx.layers import Layer, TimeDistributed
from mlpx.losses import CustomLoss, Loss
from mlpx.network import Network
from mlpx.registry import registered_name


def architecture_of(net: Network, *, custom: bool = False) -> dict[str, Any]:
    """Return what a network is made of; ValueError for a custom loss, which is code, unless its name alone will do."""
    options = {} if custom and isinstance(net.loss, CustomLoss) else net.loss.config()
    return {
        "dtype": net.dtype,
        "seed": net.seed,
        "loss": {"kind": registered_name(Loss.kinds, type(net.loss)), **options},
        "layers": [layer_data(layer) for layer in net.layers],
    }


def layer_data(layer: Layer) -> dict[str, Any]:
    """Return a layer's class, by the name that it is registered under, and its fields."""
    return {"layer": registered_name(Layer.kinds, layer.saved_as or type(layer)), **layer.config()}


def plain(value: Any) -> Any:
    """Return a number of another kind, which may stand among the options, as Python's own; for ``json.dumps``."""
    if isinstance(value, np.bool_):
        return bool(value)
    with suppress(TypeError):
        return operator.index(value)
    with suppress(TypeError):
        return float(value)
    raise TypeError(f"expected numbers, names and lists among the options, got {value!r}")


def parts(architecture: Any) -> tuple[list[Layer], Loss, dict[str, Any]]:
    """Return (layers, loss, {"dtype", "seed"}) of what `architecture_of` returned."""
    layers = [layer_of(data) for data in _as_list(architecture["layers"])]
    loss = _loss(architecture["loss"])
    options = {"dtype": architecture["dtype"], "seed": check_count("seed", architecture["seed"], 0)}
    if options["dtype"] not in FLOATS:
        raise unknown("dtype", options["dtype"], FLOATS)
    return layers, loss, options


def put_back(net: Network, architecture: Any) -> None:
    """Give a network's layers and loss the settings of an architecture of the same layers; a custom loss stays."""
    layers = [layer_of(data) for data in _as_list(architecture["layers"])]
    for mine, other in zip(net.all_layers(), (inner for layer in layers for inner in layer.walk()), strict=True):
        for field in fields(other):  # type: ignore[arg-type]
            value = getattr(other, field.name)
            if not other.inner_layers() and getattr(mine, field.name) != value:
                setattr(mine, field.name, value)
    if architecture["loss"] != {"kind": CustomLoss.name}:
        loss = _loss(architecture["loss"])
        net.loss = net.loss if net.loss == loss else loss


def _as_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, got {type(value).__name__}")
    return value


def layer_of(data: Any) -> Layer:
    """Return the layer that some data describes; only classes of the library's register are made."""
    options = dict(data)
    kind = options.pop("layer")  # not "kind": that is a field of Activation
    if kind not in Layer.kinds:
        raise unknown("layer", kind, Layer.kinds)
    if kind == TimeDistributed.__name__:
        return TimeDistributed(*(layer_of(inner) for inner in _as_list(options["layers"])))
    for key, value in options.items():
        if isinstance(value, dict):
            low, high = value["uniform"]
            options[key] = Uniform(low, high)
        elif isinstance(value, list):
            options[key] = tuple(value)
    return Layer.kinds[kind](**options)


def _loss(data: Any) -> Loss:
    options = dict(data)
    kind = options.pop("kind")
    if kind not in Loss.kinds or kind == CustomLoss.name:
        raise unknown("loss", kind, Loss.kinds)
    return Loss.kinds[kind](**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})
