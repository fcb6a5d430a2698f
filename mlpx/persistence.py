"""Models in one safetensors file: the tensors, and the architecture as JSON in the header. No code, no pickle.

A model file is taken for hostile: only layer and loss classes that are registered are made, from data that their own
constructors check, and the tensors must have exactly the shapes that the architecture wants, before any is made.
"""

import json
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import numpy as np

from mlpx.atomic_write import file_path, write
from mlpx.backend import FLOATS, to_numpy
from mlpx.errors import ModelFileError, check_count, shortened, unknown, warn
from mlpx.initializers import Uniform
from mlpx.layers import Layer, TimeDistributed
from mlpx.losses import CustomLoss, Loss
from mlpx.network import Network
from mlpx.tensor_file import Entry, TensorFile, chunks

FORMATS = ("mlpx-1", "mlpx-2")
"""Versions of the format, the newest last. Files of the first, which mlpx 0.1.0 wrote, have no checksums."""
BAD = (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError)
"""What hostile data makes constructors raise."""
NAMED = 5
"""Tensors that an error names at most: a hostile file may want millions."""
N = TypeVar("N", bound=Network)


def save(net: Network, path: str | os.PathLike[str]) -> None:
    """Write a network to ``path``; the file appears whole or not at all.

    Raises
    ------
    TypeError, ValueError
        If ``path`` is no name of a file. For a network with a custom loss: code is never saved.
    OSError
        If the folder is not there or the file cannot be written, or ``path`` is a folder, a pipe or a device.
    """
    architecture = {
        "format": FORMATS[-1],
        "dtype": net.dtype,
        "seed": net.seed,
        "loss": {"kind": net.loss.name, **net.loss.config()},
        "layers": [{"layer": type(layer).__name__, **layer.config()} for layer in net.layers],
    }
    text = json.dumps(architecture, default=_plain)
    _parts(json.loads(text))  # what could not be loaded is refused by now
    tensors = {name: to_numpy(a) for name, a in net.named_parameters().items()}
    write("path", path, chunks(tensors, {"mlpx": text}))


def _plain(value: Any) -> Any:
    """Return a number of another kind, which may stand among the options, as Python's own."""
    if isinstance(value, np.bool_):
        return bool(value)
    with suppress(TypeError):
        return operator.index(value)
    with suppress(TypeError):
        return float(value)
    raise TypeError(f"expected numbers, names and lists among the options, got {value!r}")


def load(path: str | os.PathLike[str], make: Callable[..., N]) -> N:
    """Return the network of a model file.

    The header is read first, and all that it says is compared with itself and the file's size before anything of a
    tensor's size is allocated.

    Parameters
    ----------
    path : path
    make : callable
        ``make(layers, loss, dtype=, seed=)`` returns a network whose weights are to be overwritten.

    Raises
    ------
    ModelFileError
        If the file is not a model of this library, is damaged, or does not fit itself; the message says where.
    TypeError, ValueError
        If ``path`` is no name of a file.
    OSError
        If it cannot be read.
    """
    name = file_path("path", path)
    with _damage_named(name), TensorFile("path", name) as file:
        if "mlpx" not in file.metadata:
            raise ValueError("a safetensors file of another program")
        layers, loss, options = _parts(json.loads(file.metadata["mlpx"]), checked=file.checked)
        _check_shapes(layers, file.entries)
        net = make(layers, loss, **options)
        doubtful = [key for key, view in net.named_parameters().items() if not _fill(net, view, file, key)]
    if doubtful:
        message = f"tensor {doubtful[0]!r} holds NaN or infinity"
        if not file.checked:
            raise ModelFileError(_unusable(name, f"{message}, or what is infinite in {net.dtype}"))
        warn(f"load: {message}, as it did when it was saved; predictions will too.")
    return net


def _fill(net: Network, view: Any, file: TensorFile, name: str) -> bool:
    """Copy a file's tensor to its place in a network; return whether all of it is finite."""
    with np.errstate(over="ignore"):
        if isinstance(view, np.ndarray) and view.dtype == file.entries[name].dtype and view.flags.c_contiguous:
            file.read_into(name, view)
        else:
            view[...] = net.backend.asarray(file.read(name), net.dtype)
    return bool(net.backend.xp.all(net.backend.xp.isfinite(view)))


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    """Let whatever bad content raises become a `ModelFileError` that names the file."""
    try:
        yield
    except KeyError as error:
        raise ModelFileError(_unusable(name, f"{error} is missing in its header")) from error
    except BAD as error:
        raise ModelFileError(_unusable(name, f"{type(error).__name__}: {error}")) from error


def _unusable(name: str, reason: str) -> str:
    return f"path: {name!r} is not a usable mlpx model file ({shortened(reason)})."


def _parts(architecture: Any, *, checked: bool = True) -> tuple[list[Layer], Loss, dict[str, Any]]:
    """Return (layers, loss, {"dtype", "seed"}) of an architecture as data."""
    if architecture["format"] not in FORMATS:
        raise unknown("format", architecture["format"], FORMATS)
    if architecture["format"] != FORMATS[0] and not checked:
        raise ValueError("the checksums are missing")
    layers = [layer_of(data) for data in _as_list(architecture["layers"])]
    loss = _loss(architecture["loss"])
    options = {"dtype": architecture["dtype"], "seed": check_count("seed", architecture["seed"], 0)}
    if options["dtype"] not in FLOATS:
        raise unknown("dtype", options["dtype"], FLOATS)
    return layers, loss, options


def _check_shapes(layers: Sequence[Layer], entries: dict[str, Entry]) -> None:
    everything = [inner for layer in layers for inner in layer.walk()]
    wanted = {
        f"{number}.{name}": p.shape
        for number, layer in enumerate(everything)
        for name, p in (layer.parameters | layer.statistics).items()
    }
    if wanted.keys() != entries.keys():
        odd = sorted(wanted.keys() ^ entries.keys())
        more = f" and {len(odd) - NAMED} more" if len(odd) > NAMED else ""
        raise ValueError(f"tensors {', '.join(map(shortened, map(repr, odd[:NAMED])))}{more} are missing or left over")
    for key, shape in wanted.items():
        if entries[key].shape != tuple(shape) or entries[key].dtype.kind != "f":
            got = f"{entries[key].dtype} of shape {entries[key].shape}"
            raise ValueError(f"tensor {key!r} is {got}, the architecture wants floats of shape {shape}")


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
