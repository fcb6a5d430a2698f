"""Values as JSON and tensors, and back: built-in types, arrays and generators of NumPy, and classes that are listed.

What JSON has stands for itself: None, bools, numbers, strings, lists. Everything else is an object of one entry whose
name says what it is: ``{"tuple": [...]}``, ``{"dict": [[key, value], ...]}``, ``{"float": "inf"}``, ``{"array": name}``
with the name of a tensor, and so on. Types, dtypes and every bit come back. Nothing is ever looked up by a name of the
file but among `Records` and the kinds of this module.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from mlpx.errors import shown
from mlpx.files.tensor_file import NAMES
from mlpx.typing import Array

FEW = 8
"""Lists of so many floats stand in the JSON; longer ones, such as curves, are tensors."""
NUMBERS = {dtype.name: dtype for dtype in NAMES}
"""The kinds of numbers that scalars may be of, by NumPy's names; a long double, which no file has, becomes a double."""
DATE = re.compile(r"[mM]8(\[\d{0,6}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?")
"""NumPy's names of dates and spans of time."""


class Record(NamedTuple):
    """How objects of a class are written: as plain values, from which another is made."""

    kind: type
    state: Callable[[Any], dict[str, Any]]
    """Returns what an object consists of."""
    made: Callable[[dict[str, Any]], Any]
    """Returns an object of that; raises for values that cannot be."""


Records = Mapping[str, Record]
"""The classes that may stand in a file, by name."""


class Writer:
    """Turn values into JSON; arrays gather in ``tensors``.

    Parameters
    ----------
    records : mapping of str to Record
    prefix : str
        What the names of tensors begin with.
    """

    def __init__(self, records: Records, prefix: str = "") -> None:
        self.tensors: dict[str, Array] = {}
        self._prefix = prefix
        self._records = {record.kind: (name, record) for name, record in records.items()}

    def __call__(self, value: Any, place: str) -> Any:
        """Return a value as JSON.

        Parameters
        ----------
        value : object
        place : str
            What errors call it, and what its tensors are named after.

        Raises
        ------
        TypeError
            If there is something in it that no file can hold, such as a function; the message says where.
        """
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if type(value) is list:
            return self._list(value, place)
        if type(value) is tuple:
            return {"tuple": [self(each, f"{place}.{i}") for i, each in enumerate(value)]}
        if type(value) is dict:
            return {"dict": [self._pair(key, each, i, place) for i, (key, each) in enumerate(value.items())]}
        if type(value) in (np.ndarray, np.memmap):
            return self._array(np.asarray(value), place)
        if isinstance(value, np.generic):
            return self._scalar(value, place)
        if type(value) is np.random.RandomState:
            state = value.get_state(legacy=False)
            if state["bit_generator"] == "MT19937":
                twister = [state["state"]["key"], state["state"]["pos"], state["has_gauss"], state["gauss"]]
                return {"random_state": self(twister, place)}
        if type(value) in self._records:
            name, record = self._records[type(value)]
            state = record.state(value)
            return {"record": [name, {key: self(each, f"{place}.{key}") for key, each in state.items()}]}
        raise TypeError(
            f"{place}: {shown(value)} ({type(value).__name__}) cannot be saved; files hold numbers, strings, "
            "arrays, lists, dicts, and objects of the library, never code."
        )

    def _pair(self, key: Any, value: Any, i: int, place: str) -> list[Any]:
        """Return an entry of a dict; its key may be of any kind, as those of class weights are."""
        inside = f"{place}.{key if isinstance(key, str) else i}"
        return [self(key, f"{inside}.key"), self(value, inside)]

    def _list(self, value: list[Any], place: str) -> Any:
        if len(value) > FEW and all(type(each) is float for each in value):
            return {"floats": self._tensor(np.array(value), place)}
        return [self(each, f"{place}.{i}") for i, each in enumerate(value)]

    def _array(self, value: Array, place: str) -> Any:
        value = value.astype(value.dtype.newbyteorder("="), copy=False)
        if value.dtype.newbyteorder("<") in NAMES:
            return {"array": self._tensor(value, place)}
        if value.dtype.kind in "mM":
            return {"dated": [value.dtype.str.lstrip("<>="), self._tensor(value.view(np.int64), place)]}
        if value.dtype.kind == "U":
            text = np.ascontiguousarray(value).reshape(-1)
            width = value.dtype.itemsize // 4
            codes = text.view(np.uint32) if width else np.zeros(0, np.uint32)
            return {"text": [width, list(value.shape), self._tensor(codes, place)]}
        if value.dtype.kind == "O":
            flat = value.reshape(-1).tolist()
            if flat and all(type(each) is str for each in flat):
                return {"strings": [list(value.shape), *self._strings(flat, place)]}
            return {"objects": [list(value.shape), [self(each, f"{place}.{i}") for i, each in enumerate(flat)]]}
        raise TypeError(f"{place}: an array of dtype {value.dtype} cannot be saved.")

    def _strings(self, values: list[str], place: str) -> list[str]:
        parts = [each.encode("utf-8", "surrogatepass") for each in values]
        joined = np.frombuffer(b"".join(parts), np.uint8)
        lengths = np.array([len(part) for part in parts], np.int64)
        return [self._tensor(joined, f"{place}.bytes"), self._tensor(lengths, f"{place}.lengths")]

    def _scalar(self, value: Any, place: str) -> Any:
        if isinstance(value, np.str_):
            return {"scalar": ["str", str(value)]}
        if value.dtype.kind in "mM":
            return {"scalar": [value.dtype.str.lstrip("<>="), int(value.astype(np.int64))]}
        if value.dtype.kind == "f" and value.dtype.name not in NUMBERS:  # a long double
            value = np.float64(value)
        if value.dtype.name not in NUMBERS:
            raise TypeError(f"{place}: {value!r} ({value.dtype}) cannot be saved.")
        return {"scalar": [value.dtype.name, self(value.item(), place)]}

    def _tensor(self, array: Array, place: str) -> str:
        name = self._prefix + place
        while name in self.tensors:  # for keys such as "a" with an entry "b", and "a.b"
            name += "'"
        self.tensors[name] = array
        return name


class Reader:
    """Turn what `Writer` made into values again; whatever is no such thing is a ValueError or TypeError.

    Parameters
    ----------
    records : mapping of str to Record
    tensor : callable
        ``tensor(name)`` returns a tensor of the file.
    """

    def __init__(self, records: Records, tensor: Callable[[str], Array]) -> None:
        self._records, self._tensor = records, tensor
        self._kinds: dict[str, Callable[[Any], Any]] = {
            "float": _special_float,
            "tuple": lambda data: tuple(self._each(data)),
            "dict": lambda data: {self(k): self(v) for k, v in _list_of(data)},
            "floats": self._floats,
            "array": self._numbers,
            "dated": self._dated,
            "text": self._text,
            "strings": self._strings,
            "objects": self._objects,
            "scalar": self._scalar,
            "random_state": self._random_state,
            "record": self._record,
        }

    def __call__(self, data: Any) -> Any:
        """Return the value of some JSON."""
        if isinstance(data, list):
            return self._each(data)
        if not isinstance(data, dict):
            return data
        ((kind, inside),) = data.items()
        return self._kinds[kind](inside)

    def _each(self, data: Any) -> list[Any]:
        return [self(each) for each in _list_of(data)]

    def _numbers(self, name: Any) -> Array:
        return self._tensor(_name(name))

    def _floats(self, name: Any) -> list[float]:
        values = self._numbers(name)
        if values.dtype != np.float64 or values.ndim != 1:
            raise ValueError(f"tensor {name!r} is {values.dtype} of shape {values.shape}; expected float64 (n,)")
        numbers: list[float] = values.tolist()
        return numbers

    def _dated(self, data: Any) -> Array:
        kind, name = data
        return _integers(self._numbers(name), np.int64).view(_date_kind(kind))

    def _text(self, data: Any) -> Array:
        width, shape, name = data
        codes = _integers(self._numbers(name), np.uint32)
        if codes.size and int(codes.max()) > 0x10FFFF:
            raise ValueError(f"tensor {name!r} holds what is no character")
        if type(width) is not int or width < 1:
            raise ValueError("a text of width 0")
        return codes.view(f"<U{width}").reshape(_shape(shape))

    def _strings(self, data: Any) -> Array:
        shape, joined, lengths = data
        raw = _integers(self._numbers(joined), np.uint8).tobytes()
        sizes = _integers(self._numbers(lengths), np.int64)
        if (sizes < 0).any() or (sizes.size and int(sizes.max()) > len(raw)) or int(sizes.sum()) != len(raw):
            raise ValueError(f"tensor {lengths!r} does not add up to the {len(raw)} bytes of tensor {joined!r}")
        ends = np.cumsum(sizes).tolist()
        texts = [
            raw[end - size : end].decode("utf-8", "surrogatepass")
            for end, size in zip(ends, sizes.tolist(), strict=True)
        ]
        return _object_array(texts, shape)

    def _objects(self, data: Any) -> Array:
        shape, values = data
        return _object_array(self._each(values), shape)

    def _scalar(self, data: Any) -> Any:
        kind, value = data
        if kind == "str":
            return np.str_(_name(value))
        if isinstance(kind, str) and kind[:1] in "mM":
            if type(value) is not int:
                raise TypeError("a date is a whole number")
            return np.array(value, np.int64).view(_date_kind(kind))[()]
        number = self(value)
        if type(number) not in (bool, int, float):
            raise TypeError(f"expected a number, got {type(number).__name__}")
        return NUMBERS[_name(kind)].type(number)

    def _random_state(self, data: Any) -> np.random.RandomState:
        key, place, has_gauss, gauss = self(data)
        # NumPy looks at none of it: a place beyond the key would be read from whatever lies there.
        if type(place) is not int or not 0 <= place <= 624 or getattr(key, "shape", None) != (624,):
            raise ValueError("no state of a Mersenne twister")
        made = np.random.RandomState()
        made.set_state(("MT19937", _integers(key, np.uint32), place, int(bool(has_gauss)), float(gauss)))
        return made

    def _record(self, data: Any) -> Any:
        name, state = data
        if not isinstance(state, dict):
            raise TypeError(f"the state of {name!r} is no object")
        return self._records[name].made({key: self(each) for key, each in state.items()})


def _list_of(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise TypeError(f"expected a list, got {type(data).__name__}")
    return data


def _name(data: Any) -> str:
    if not isinstance(data, str):
        raise TypeError(f"expected a name, got {type(data).__name__}")
    return data


def _shape(data: Any) -> tuple[int, ...]:
    if not isinstance(data, list) or not all(type(n) is int and n >= 0 for n in data):
        raise TypeError("a shape is a list of whole numbers of at least 0")
    return tuple(data)


def _integers(values: Array, dtype: type) -> Array:
    if values.dtype != dtype:
        raise TypeError(f"expected a tensor of {np.dtype(dtype)}, got {values.dtype}")
    return values


def _date_kind(name: Any) -> np.dtype[Any]:
    if not DATE.fullmatch(_name(name)):
        raise ValueError(f"{name!r} is no kind of date")
    kind: np.dtype[Any] = np.dtype(name)
    return kind


def _object_array(values: Iterable[Any], shape: Any) -> Array:
    flat = list(values)
    made = np.empty(len(flat), object)
    for place, each in enumerate(flat):  # at once, NumPy would look into them
        made[place] = each
    return made.reshape(_shape(shape))


def _special_float(name: Any) -> float:
    if name not in ("inf", "-inf", "nan"):
        raise ValueError(f"{name!r} is no number")
    return float(name)
