"""Models in one safetensors file: the tensors, and the architecture as JSON in the header. No code, no pickle.

A model file is taken for hostile: only layer and loss classes of this library are made, from data that their own
constructors check, and the tensors must have exactly the shapes that the architecture wants.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlpx.backend import FLOATS, to_numpy
from mlpx.errors import check_count, unknown
from mlpx.initializers import Uniform
from mlpx.layers import Layer, TimeDistributed
from mlpx.losses import CustomLoss, Loss
from mlpx.network import Network
from mlpx.typing import Array

FORMAT = "mlpx-1"
BAD = (TypeError, ValueError, AttributeError, OverflowError, RecursionError)
"""What hostile data makes constructors raise."""
MAX_PARAMETERS = 2**31
"""Architectures beyond this are refused before anything is allocated."""
NAMED = 5
"""Tensors that an error names at most: a hostile file may want millions."""


def save(net: Network, path: str | os.PathLike[str]) -> None:
    """Write a network to ``path``; the file appears whole or not at all.

    Raises
    ------
    ValueError
        For a network with a custom loss: code is never saved.
    OSError
        If the folder is not there or cannot be written to, or ``path`` is a folder.
    """
    from safetensors.numpy import save as to_bytes

    architecture = {
        "format": FORMAT,
        "dtype": net.dtype,
        "seed": net.seed,
        "loss": {"kind": net.loss.name, **net.loss.config()},
        "layers": [{"layer": type(layer).__name__, **layer.config()} for layer in net.layers],
    }
    tensors = {name: np.ascontiguousarray(to_numpy(a)) for name, a in net.named_parameters().items()}
    data = to_bytes(tensors, metadata={"mlpx": json.dumps(architecture, default=_plain)})
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"path: {str(target)!r} is a folder; expected the name of a file.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"path: there is no folder {str(target.parent)!r}; make it first.")
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _plain(value: Any) -> Any:
    """Return a NumPy number, which may stand among the options, as Python's own."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected numbers, names and lists among the options, got {value!r}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read(path: str | os.PathLike[str]) -> tuple[list[Layer], Loss, dict[str, Any], dict[str, Array]]:
    """Return (layers, loss, {"dtype", "seed"}, tensors) of a model file.

    Raises
    ------
    ValueError
        If the file is not a model of this library, is damaged, or does not fit itself; the message says where.
    OSError
        If it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    name = os.fspath(path)
    if not Path(name).is_file():
        raise FileNotFoundError(f"path: there is no file {name!r}.")
    try:
        with safe_open(name, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
        architecture = json.loads(metadata["mlpx"])
        if architecture["format"] != FORMAT:
            raise ValueError(f"format {architecture['format']!r} is not {FORMAT!r}")
        layers = [layer_of(data) for data in _as_list(architecture["layers"])]
        loss = _loss(architecture["loss"])
        options = {"dtype": architecture["dtype"], "seed": check_count("seed", architecture["seed"], 0)}
        if options["dtype"] not in FLOATS:
            raise unknown("dtype", options["dtype"], FLOATS)
        _check_tensors(layers, tensors, options["dtype"])
    except (SafetensorError, KeyError, *BAD) as error:
        raise unusable(path, error) from error
    return layers, loss, options, tensors


def unusable(path: str | os.PathLike[str], error: BaseException) -> ValueError:
    """Return the error for a file that is no model, with the reason."""
    reason = f"{type(error).__name__}: {error}"
    return ValueError(f"path: {os.fspath(path)!r} is not a usable mlpx model file ({reason}).")


def load_into(net: Network, tensors: dict[str, Array]) -> None:
    """Copy tensors of a model file into a network of the same architecture."""
    for key, view in net.named_parameters().items():
        view[...] = net.backend.asarray(tensors[key], net.dtype)


def _check_tensors(layers: Sequence[Layer], tensors: dict[str, Array], dtype: str) -> None:
    everything = [inner for layer in layers for inner in layer.walk()]
    wanted = {
        f"{number}.{name}": p.shape
        for number, layer in enumerate(everything)
        for name, p in (layer.parameters | layer.statistics).items()
    }
    if sum(int(np.prod(shape, dtype=object)) for shape in wanted.values()) > MAX_PARAMETERS:
        raise ValueError(f"more than {MAX_PARAMETERS} parameters")
    if wanted.keys() != tensors.keys():
        odd = sorted(wanted.keys() ^ tensors.keys())
        more = f" and {len(odd) - NAMED} more" if len(odd) > NAMED else ""
        raise ValueError(f"tensors {', '.join(map(repr, odd[:NAMED]))}{more} are missing or left over")
    for key, shape in wanted.items():
        if tensors[key].shape != tuple(shape) or tensors[key].dtype.kind != "f":
            got = f"{tensors[key].dtype} of shape {tensors[key].shape}"
            raise ValueError(f"tensor {key!r} is {got}, the architecture wants floats of shape {shape}")
        with np.errstate(over="ignore"):
            finite = np.isfinite(tensors[key].astype(dtype, copy=False)).all()
        if not finite:
            raise ValueError(f"tensor {key!r} holds NaN, infinity or what is infinite in {dtype}")


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
