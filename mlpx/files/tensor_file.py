"""safetensors files with checksums: tensors behind a JSON header, read as untrusted input.

Two strings in the header's ``__metadata__`` guard a file: "sha256_tensors", the SHA-256 of each tensor, and "sha256",
that of the file's first bytes up to the tensors with zeros for its own digits. Other readers of safetensors pass over
them.
"""

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from mlpx.files.atomic_write import file_path, named_errors
from mlpx.typing import Array

DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
"""safetensors' names of what NumPy can hold."""
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
MAX_HEADER = 1 << 24
"""Bytes of a header at most: parsed JSON takes some twenty times its text."""
MAX_AXES = 64
ZEROS = "0" * 64


class Entry(NamedTuple):
    """Where a tensor lies in a file, in bytes from the file's begin, and what it is."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    stop: int


def chunks(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """Yield what a file of some host arrays is made of, its header first; no copy of contiguous arrays is made.

    Raises
    ------
    ValueError
        If names and metadata take more than `MAX_HEADER` bytes.
    """
    # Wide elements first, so that each tensor starts at a multiple of its elements' size.
    order = sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)
    arrays = {name: np.ascontiguousarray(tensors[name], tensors[name].dtype.newbyteorder("<")) for name in order}
    digests = {name: hashlib.sha256(_bytes(array)).hexdigest() for name, array in arrays.items()}
    given = {"sha256": ZEROS, "sha256_tensors": json.dumps(digests), **metadata}
    header: dict[str, Any] = {"__metadata__": given}
    offset = 0
    for name, array in arrays.items():
        stop = offset + array.nbytes
        header[name] = {"dtype": NAMES[array.dtype], "shape": tensors[name].shape, "data_offsets": [offset, stop]}
        offset = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ValueError(f"the file's header would take {len(text)} bytes; {MAX_HEADER} are allowed.")
    start = len(text).to_bytes(8, "little") + text
    digest = hashlib.sha256(start).hexdigest()
    yield start.replace(_quoted(ZEROS), _quoted(digest), 1)
    yield from (_bytes(array) for array in arrays.values())


class TensorFile:
    """A safetensors file that is open to be read: ``metadata``, ``entries``, and the tensors one by one.

    Opening reads the header alone, and refuses before anything that depends on what it declares. All faults of the
    content are plain ValueErrors that say what and where, in bytes from the file's begin.

    Parameters
    ----------
    argument : str
        What errors call ``path``.
    path : path

    Raises
    ------
    ValueError
        If it is no safetensors file, or the header was changed.
    OSError
        If it cannot be read.
    """

    def __init__(self, argument: str, path: object) -> None:
        self._name, self._argument = file_path(argument, path), argument
        with named_errors(argument, self._name):
            try:
                _check_kind(argument, self._name, os.stat(self._name))
            except FileNotFoundError:
                raise FileNotFoundError(f"{argument}: there is no file {self._name!r}.") from None
            # Opening a pipe, should one have replaced the file since, would block.
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            self._file = open(os.open(self._name, flags), "rb", buffering=0)  # noqa: SIM115  (closed by __exit__)
        try:
            status = os.fstat(self._file.fileno())
            _check_kind(argument, self._name, status)
            self._read_header(status.st_size)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._file.close()

    def _read_header(self, size: int) -> None:
        first = self._read(0, bytearray(min(8, size)))
        length = int.from_bytes(first, "little")
        if size < 8 or length > size - 8:
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        if length > MAX_HEADER:
            raise ValueError(f"a header of {length} bytes; {MAX_HEADER} are allowed")
        raw = bytes(self._read(8, bytearray(length)))
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_without_repeats)
        if not isinstance(header, dict):
            raise TypeError("the header is no JSON object")
        self.metadata: dict[str, str] = header.pop("__metadata__", {})
        if not isinstance(self.metadata, dict) or not all(isinstance(v, str) for v in self.metadata.values()):
            raise TypeError("the header's __metadata__ holds other than strings")
        self.entries = {name: _entry(name, data, 8 + length) for name, data in header.items()}
        end = 8 + length
        for name, entry in sorted(self.entries.items(), key=lambda item: item[1][2:]):
            if entry.start != end:
                raise ValueError(
                    f"tensor {name!r} starts at byte {entry.start}, not at {end} where the one before ends"
                )
            end = entry.stop
        if end != size:
            raise ValueError(f"the tensors end at byte {end} of {size}")
        self._digests: dict[str, Any] | None = None
        if "sha256" in self.metadata:
            self._check_header(bytes(first) + raw)

    def _check_header(self, start: bytes) -> None:
        digest = _quoted(self.metadata["sha256"])
        if (
            start.count(digest) != 1
            or hashlib.sha256(start.replace(digest, _quoted(ZEROS))).hexdigest() != (self.metadata["sha256"])
        ):
            raise ValueError(f"the header, bytes 0 to {len(start)}, is not what was written (its SHA-256 differs)")
        self._digests = json.loads(self.metadata["sha256_tensors"])
        if not isinstance(self._digests, dict) or self._digests.keys() != self.entries.keys():
            raise ValueError("sha256_tensors in __metadata__ does not name the tensors")

    @property
    def checked(self) -> bool:
        """Whether the file has checksums; files of version 0.1.0 have none."""
        return self._digests is not None

    def read(self, name: str) -> Array:
        """Return a tensor; ValueError if it was changed since it was written."""
        entry = self.entries[name]
        array = np.empty(entry.shape, entry.dtype)
        self.read_into(name, array)
        return array

    def read_into(self, name: str, array: Array) -> None:
        """Read a tensor into a C-contiguous array of its dtype and shape; where it fails the array holds anything."""
        entry = self.entries[name]
        self._read(entry.start, _bytes(array))
        if self._digests is not None and hashlib.sha256(_bytes(array)).hexdigest() != self._digests[name]:
            raise ValueError(
                f"tensor {name!r}, bytes {entry.start} to {entry.stop}, is not what was written (its SHA-256 differs)"
            )
        if entry.dtype == bool and array.size and int(array.view(np.uint8).max()) > 1:
            raise ValueError(f"tensor {name!r} holds bools other than 0 and 1")

    def _read(self, start: int, buffer: Any) -> Any:
        """Fill a buffer with the file's bytes from ``start`` on, and return it."""
        view, done = memoryview(buffer), 0
        with named_errors(self._argument, self._name):
            self._file.seek(start)
            while done < len(view):
                got = self._file.readinto(view[done:])
                if not got:
                    raise ValueError(f"the file ends at byte {start + done}, within what it is said to hold")
                done += got
        return buffer


def _check_kind(argument: str, name: str, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(f"{argument}: {name!r} is a folder; expected the name of a file.")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("a pipe, a device or the like, no file")


def _bytes(array: Array) -> memoryview:
    """Return the bytes of a C-contiguous array, of any size, 0 included."""
    return memoryview(array.reshape(-1).view(np.uint8)) if array.size else memoryview(bytearray())


def _quoted(digest: str) -> bytes:
    return b'"sha256":"' + digest.encode("ascii", "replace") + b'"'


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    given = dict(pairs)
    if len(given) != len(pairs):
        raise ValueError("a name stands in the header twice")
    return given


def _entry(name: str, data: Any, offset: int) -> Entry:
    dtype, shape, span = data["dtype"], data["shape"], data["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"tensor {name!r} has the dtype {dtype!r}; known are {', '.join(DTYPES)}")
    for numbers in (shape, span):
        if not isinstance(numbers, list) or len(numbers) > MAX_AXES:
            raise TypeError(f"tensor {name!r}: shape and data_offsets are lists of at most {MAX_AXES} numbers")
        if not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
            raise ValueError(f"tensor {name!r}: shape and data_offsets are whole numbers from 0 to 2^63")
    start, stop = span
    kind = np.dtype(DTYPES[dtype])
    if stop - start != math.prod(shape) * kind.itemsize:
        raise ValueError(f"tensor {name!r} of shape {tuple(shape)} and dtype {dtype} has {stop - start} bytes")
    return Entry(kind, tuple(shape), offset + start, offset + stop)
