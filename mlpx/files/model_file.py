"""Model files: what kind of model it is, its network, and what else it remembers, in one safetensors file.

The header's ``__metadata__`` holds JSON under "mlpx": the format, the library's version, the kind of model, the
network's architecture, and a "state" of plain values; the tensors are the weights, by the network's names for them, and
the arrays of the state. A file is taken for hostile: all that the header says is compared with itself and with the
file's size before anything of a tensor's size is allocated.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from mlpx._version import __version__
from mlpx.backend import to_numpy
from mlpx.errors import ModelFileError, shortened, unknown, warn
from mlpx.files.architecture import architecture_of, parts, plain
from mlpx.files.atomic_write import file_path, write
from mlpx.files.plain_values import Reader, Records, Writer
from mlpx.files.tensor_file import TensorFile, chunks
from mlpx.network import Network
from mlpx.typing import Array

FORMATS = ("mlpx-1", "mlpx-2")
"""Versions of the format, the newest last. Files of the first, which mlpx 0.1.0 wrote, hold a network alone and have no
checksums."""
STATE = "state."
"""What the names of the state's tensors begin with; those of weights begin with a number."""
BAD = (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError)
"""What hostile data makes constructors raise."""
NAMED = 5
"""Tensors that an error names at most: a hostile file may want millions."""
N = TypeVar("N", bound=Network)


def save(path: object, kind: str, net: Network, state: dict[str, Any], records: Records, *, code: bool = False) -> None:
    """Write a model file; it appears whole or not at all.

    Parameters
    ----------
    path : path
    kind : str
        What the model is: "network", "checkpoint", or the name of an estimator.
    net : Network
    state : dict
        What the model remembers beside its network, as `mlpx.files.plain_values` takes it.
    records : Records
        The classes that may stand in it.
    code : bool
        Whether the network may have a loss of the user's own; the file then fits into that network alone.

    Raises
    ------
    TypeError, ValueError
        If ``path`` is no name of a file, or there is code in the model, such as a loss of the user's own.
    OSError
        If the folder is not there or the file cannot be written, or ``path`` is a folder, a pipe or a device.
    """
    writer = Writer(records, STATE)
    header = {"format": FORMATS[-1], "library": __version__, "kind": kind, **architecture_of(net, custom=code)}
    header["state"] = {name: writer(value, name) for name, value in state.items() if value is not None}
    text = json.dumps(header, default=plain)
    written = json.loads(text)  # what could not be loaded is refused by now
    if not code:
        parts(written)
    _values(written, Reader(records, writer.tensors.__getitem__))
    weights = {name: to_numpy(a) for name, a in net.named_parameters().items()}
    write("path", path, chunks(weights | writer.tensors, {"mlpx": text}))


@contextmanager
def opened(path: object) -> Iterator["ModelFile"]:
    """Open a model file; whatever is wrong with its content, within the block too, is a `ModelFileError`.

    Raises
    ------
    ModelFileError
        If the file is not a model of this library, is damaged, or does not fit itself; the message says where.
    TypeError, ValueError
        If ``path`` is no name of a file.
    OSError
        If it cannot be read.
    """
    name, model = file_path("path", path), None
    try:
        with TensorFile("path", name) as file:
            model = ModelFile(file)
            yield model
            model.check_all_was_read()
    except BAD as error:
        reason = f"{error} is missing in it" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        other = model is not None and model.library != __version__
        by = (
            f" It was written by mlpx {shortened(str(model.library))}, this is {__version__}."
            if model and other
            else ""
        )
        raise ModelFileError(f"path: {name!r} is not a usable mlpx model file ({shortened(reason)}).{by}") from error


class ModelFile:
    """An open model file; see `opened`.

    Attributes
    ----------
    kind : str
        What the model is: "network", or the name of an estimator.
    library : str
        The version of mlpx that wrote it.
    """

    def __init__(self, file: TensorFile) -> None:
        if "mlpx" not in file.metadata:
            raise ValueError("a safetensors file of another program")
        self._file, self._header = file, json.loads(file.metadata["mlpx"])
        self._unread = set(file.entries)
        given = self._header["format"]
        if given not in FORMATS:
            raise unknown("format", given, FORMATS)
        if given != FORMATS[0] and not file.checked:
            raise ValueError("the checksums are missing")
        self.kind: Any = self._header.get("kind", "network")
        self.library: Any = self._header.get("library", "0.1.0")

    def network(self, make: Callable[..., N]) -> N:
        """Return the network, made by ``make(layers, loss, dtype=, seed=)``, which need not draw initial weights."""
        layers, loss, options = parts(self._header)
        everything = [inner for layer in layers for inner in layer.walk()]
        self._check_shapes(
            {
                f"{number}.{name}": p.shape
                for number, layer in enumerate(everything)
                for name, p in (layer.parameters | layer.statistics).items()
            }
        )
        net = make(layers, loss, **options)
        doubtful = [key for key, view in net.named_parameters().items() if not self._fill(net, view, key)]
        if doubtful and not self._file.checked:
            raise ValueError(f"tensor {doubtful[0]!r} holds NaN, infinity or what is infinite in {net.dtype}")
        if doubtful:
            warn(
                f"load: tensor {doubtful[0]!r} holds NaN or infinity, as it did when it was saved; so will predictions."
            )
        return net

    def architecture(self) -> dict[str, Any]:
        """Return the network's architecture, as `mlpx.files.architecture` reads it."""
        return {name: self._header[name] for name in ("dtype", "seed", "loss", "layers")}

    def weights(self) -> dict[str, Array]:
        """Return the weights and running statistics, by the names that the network has for them."""
        return {name: self._tensor(name) for name in self._file.entries if not name.startswith(STATE)}

    def pass_over(self) -> None:
        """Leave unread what has not been read."""
        self._unread.clear()

    def state(self, records: Records) -> dict[str, Any]:
        """Return what the model remembers beside its network."""
        return _values(self._header, Reader(records, self._tensor))

    def check_all_was_read(self) -> None:
        """Raise ValueError where the file holds more than the model takes."""
        if self._unread:
            raise ValueError(_odd(self._unread))

    def _check_shapes(self, wanted: Mapping[str, tuple[int, ...]]) -> None:
        entries = {name: entry for name, entry in self._file.entries.items() if not name.startswith(STATE)}
        if wanted.keys() != entries.keys():
            raise ValueError(_odd(wanted.keys() ^ entries.keys()))
        for key, shape in wanted.items():
            if entries[key].shape != tuple(shape) or entries[key].dtype.kind != "f":
                got = f"{entries[key].dtype} of shape {entries[key].shape}"
                raise ValueError(f"tensor {key!r} is {got}, the architecture wants floats of shape {shape}")

    def _fill(self, net: Network, view: Any, name: str) -> bool:
        """Copy a tensor to its place in a network; return whether all of it is finite."""
        with np.errstate(over="ignore"):
            if isinstance(view, np.ndarray) and view.dtype == self._file.entries[name].dtype:
                self._file.read_into(name, view)
                self._unread.discard(name)
            else:
                view[...] = net.backend.asarray(self._tensor(name), net.dtype)
        return bool(net.backend.xp.all(net.backend.xp.isfinite(view)))

    def _tensor(self, name: str) -> Array:
        """Return a tensor, once: a file could name one a million times."""
        if name not in self._unread:
            raise ValueError(f"tensor {shortened(name)!r} is missing, or stands in two places")
        self._unread.discard(name)
        return self._file.read(name)


def _values(header: dict[str, Any], reader: Reader) -> dict[str, Any]:
    state = header.get("state", {})
    if not isinstance(state, dict):
        raise TypeError("the state is no object")
    return {name: reader(value) for name, value in state.items()}


def _odd(names: set[str]) -> str:
    odd = sorted(names)
    more = f" and {len(odd) - NAMED} more" if len(odd) > NAMED else ""
    return f"tensors {', '.join(map(shortened, map(repr, odd[:NAMED])))}{more} are missing or left over"
