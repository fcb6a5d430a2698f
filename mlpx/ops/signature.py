"""What an op takes: its arrays' shapes and dtypes and its options' kinds, declared once, checked on every call.

A declaration reads like a docstring: ``"x (..., i), w (o, i), b? (o) | (1, o)"``.

- A name, then the shapes it may have. Letters stand for sizes, the same wherever they stand; ``...`` for any number of
  leading axes, the same everywhere too; ``c>0`` for a size of at least 1.
- Arrays are floats, all of one dtype, unless ``int`` or ``bool`` stands before a shape.
- ``?`` marks an array that may be None, ``!`` one that the op writes to.

Kernels index memory by the sizes that they read from one array, so this is what keeps them inside the others.
"""

import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlpx.backend import Backend, backend_name, backend_of, kind_of
from mlpx.backend.inspection import plain
from mlpx.errors import check_count, check_flag, check_name, check_number, is_real, shown
from mlpx.typing import Array, Shape

MOST_SEEN = 512
"""Kinds of calls that a signature remembers to be right."""
LARGEST = sys.float_info.max
WORDS = {"f": "floats", "i": "integers", "b": "bools"}


# --- options ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """One option's kind.

    Attributes
    ----------
    check : callable
        ``check(argument, value)`` returns the plain value, or raises with the argument's name.
    plain : type, low, high : float, optional
        Values of just this type from ``low`` to ``high`` need no look from ``check``.
    """

    check: Callable[[str, Any], Any]
    plain: type | None = None
    low: float = -math.inf
    high: float = math.inf


def number(
    low: float = -math.inf, high: float = math.inf, *, open_low: bool = False, open_high: bool = False
) -> Option:
    """Return the kind of finite numbers of an interval."""

    def check(argument: str, value: Any) -> float:
        return check_number(argument, value, low, high, open_low=open_low, open_high=open_high)

    inside = max(low, -LARGEST), min(high, LARGEST)  # what is closed stays; infinity is never inside
    above = math.nextafter(low, math.inf) if open_low else inside[0]
    return Option(check, float, above, math.nextafter(high, -math.inf) if open_high else inside[1])


def unbounded(low: float = -math.inf) -> Option:
    """Return the kind of numbers of at least ``low``, infinity included."""

    def check(argument: str, value: Any) -> float:
        return float(value) if is_real(value) and value == math.inf else check_number(argument, value, low)

    return Option(check, float, low)


def count(low: int | None = None, high: int | None = None) -> Option:
    """Return the kind of whole numbers from ``low`` to ``high`` (None: any)."""
    limits = -math.inf if low is None else low, math.inf if high is None else high
    return Option(lambda argument, value: check_count(argument, value, limits[0], high), int, *limits)


def name_of(known: Iterable[str]) -> Option:
    """Return the kind of strings that are on a list."""
    names = frozenset(known)
    return Option(lambda argument, value: check_name(argument, value, names))


flag = Option(check_flag)
"""True and False."""


def several(each: Option) -> Option:
    """Return the kind of tuples and lists, every entry of a kind of its own."""

    def check(argument: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, tuple | list):
            raise TypeError(f"{argument}: expected a tuple, got {shown(value)} ({type(value).__name__}).")
        entries = tuple(each.check(argument, entry) for entry in value)
        same = type(value) is tuple and all(a is b for a, b in zip(entries, value, strict=True))
        return entries if not same else value  # type: ignore[return-value]

    return Option(check)


# --- arrays -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """A shape that an array may have, and the kind of its numbers: "f", "i" or "b"."""

    kind: str
    leading: bool
    axes: tuple[str, ...]

    def fits(self, shape: Shape, sizes: dict[str, Any]) -> dict[str, Any] | None:
        """Return the sizes that letters stand for, with those that this shape adds; None where it does not fit."""
        lead = len(shape) - len(self.axes)
        if lead < 0 or (lead and not self.leading):
            return None
        found = dict(sizes)
        if self.leading and found.setdefault("...", shape[:lead]) != shape[:lead]:
            return None
        for axis, size in zip(self.axes, shape[lead:], strict=True):
            letter, least, _ = axis.partition(">")
            wanted = int(letter) if letter.isdigit() else found.setdefault(letter, size)
            if size != wanted or (least and size == 0):
                return None
        return found

    def text(self, sizes: dict[str, Any]) -> str:
        """Return the shape as an error writes it, with the sizes that are known."""
        lead = sizes.get("...", ("...",)) if self.leading else ()
        axes = [str(part) for part in (*lead, *(sizes.get(axis.partition(">")[0], axis) for axis in self.axes))]
        return f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"


@dataclass(frozen=True)
class Operand:
    """One array: its name, the shapes it may have, whether it may be None, and whether the op writes to it."""

    name: str
    forms: tuple[Form, ...]
    optional: bool
    written: bool


OPERAND = re.compile(r"(\w+)([?!]?) ((?:(?:int |bool )?\([^)]*\)(?: \| )?)+)(?:, |$)")
FORM = re.compile(r"(int |bool )?\(([^)]*)\)")


def _operands(text: str) -> tuple[Operand, ...]:
    found = []
    for match in OPERAND.finditer(text):
        forms = []
        for kind, shape in FORM.findall(match[3]):
            axes = [axis for axis in shape.split(", ") if axis]
            forms.append(Form(kind[:1] or "f", "..." in axes, tuple(axis for axis in axes if axis != "...")))
        found.append(Operand(match[1], tuple(forms), match[2] == "?", match[2] == "!"))
    if "".join(match[0] for match in OPERAND.finditer(text)) != text:
        raise ValueError(f"arguments: cannot be read: {text!r}.")
    return tuple(found)


# --- both -------------------------------------------------------------------------------------------------------------


@dataclass
class Signature:
    """What an op takes. Made by `arguments`; `mlpx.ops.dispatch.Op` calls it."""

    operands: tuple[Operand, ...]
    options: Mapping[str, Option]
    hints: Mapping[str, str]
    name: str = ""
    limits: dict[str, tuple[Any, float, float]] = field(init=False)
    written: tuple[int, ...] = field(init=False)
    _seen: dict[tuple[Any, ...], Backend] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.limits = {n: (o.plain, o.low, o.high) for n, o in self.options.items() if o.plain is not None}
        self.written = tuple(place for place, operand in enumerate(self.operands) if operand.written)

    def known(self, args: Sequence[Any], options: Mapping[str, Any]) -> Backend | None:
        """Return the backend of a call like one that was right before; None for others.

        Alike: arrays of the same types, dtypes and shapes, numbers within their limits, other options the same.
        """
        try:
            key = self._key(args, options)
            return None if key is None else self._seen.get(key)
        except (AttributeError, TypeError):  # no array where one is wanted, or what has no hash
            return None

    def _key(self, args: Sequence[Any], options: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Return what calls that are alike have in common; None where a number is to be looked at."""
        key: list[Any] = []
        for array in args:
            if array is None:
                key.append(None)
            else:
                key.append(type(array))
                key.append(array.dtype)
                key.append(array.shape)
        for name, value in options.items():
            limits = self.limits.get(name)
            if limits is None:
                key.append(name)
                key.append(type(value))
                key.append(value)
                if type(value) is tuple:  # whose entries may be equal and yet of other types
                    key.append(tuple(map(type, value)))
            elif type(value) is not limits[0] or not limits[1] <= value <= limits[2]:
                return None
        return tuple(key)

    def check(self, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any], Backend]:
        """Return the arrays in order, the options as plain values, and the arrays' backend, or raise.

        Raises
        ------
        TypeError
            If an array or option is of another kind, missing or unknown, or arrays lie on two backends.
        ValueError
            If shapes do not fit, or an option is out of range.
        """
        arrays, given = self._by_name(args, options)
        backend = backend_of(*arrays, caller=self.name)
        sizes: dict[str, Any] = {}
        before: list[str] = []
        dtype: Array = None
        for operand, array in zip(self.operands, arrays, strict=True):
            if array is None:
                continue
            dtype, sizes = self._fit(operand, array, dtype, sizes, before)
            before.append(f"{operand.name} {tuple(array.shape)}")
        try:
            chosen = {name: self.options[name].check(name, value) for name, value in given.items()}
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.name}: {error}") from None
        as_given = all(a is b for a, b in zip(args, arrays, strict=False))
        if as_given and backend.device is None and all(chosen.get(name) is value for name, value in options.items()):
            self._remember(args, options, backend)
        return arrays, chosen, backend

    def _remember(self, args: tuple[Any, ...], options: dict[str, Any], backend: Backend) -> None:
        key = self._key(args, options)
        if len(self._seen) >= MOST_SEEN:
            self._seen.clear()
        if key is not None:
            self._seen[key] = backend

    def check_written(self, arrays: tuple[Any, ...]) -> None:
        """Raise ValueError unless the host's arrays that the op writes to can be written to."""
        for place in self.written:
            if not arrays[place].flags.writeable:
                raise ValueError(
                    f"{self.name}: {self.operands[place].name} is read-only, and the op writes to it. Pass a copy."
                )

    def _by_name(self, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return every array in order, by position or by name, and what is left: options."""
        if len(args) > len(self.operands):
            raise TypeError(f"{self.name}: expected up to {len(self.operands)} arrays, got {len(args)}.")
        given = dict(options)
        arrays = []
        for place, operand in enumerate(self.operands):
            twice = place < len(args) and operand.name in given
            missing = place >= len(args) and operand.name not in given and not operand.optional
            if twice or missing:
                raise TypeError(f"{self.name}: {operand.name} is {'given twice' if twice else 'missing'}.")
            array = args[place] if place < len(args) else given.pop(operand.name, None)
            arrays.append(self._array(operand, array))
        unknown = [name for name in given if name not in self.options]
        if unknown:
            raise TypeError(f"{self.name}: takes no {unknown[0]!r}. Known: {', '.join(sorted(self.options))}.")
        return tuple(arrays), given

    def _array(self, operand: Operand, array: Any) -> Any:
        if array is None and operand.optional:
            return None
        if backend_name(array) is None:
            raise TypeError(
                f"{self.name}: {operand.name}: expected an array, got {type(array).__name__}. Make one with "
                "mlpx.asarray(x)."
            )
        try:
            return plain(operand.name, array)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.name}: {error}") from None

    def _fit(
        self, operand: Operand, array: Array, dtype: Any, sizes: dict[str, Any], before: list[str]
    ) -> tuple[Any, dict[str, Any]]:
        """Return the float arrays' dtype and the letters' sizes, with what this array adds; or raise."""
        kind, shape = kind_of(array), tuple(array.shape)
        for form in operand.forms:
            right = kind == form.kind and (kind != "f" or dtype is None or array.dtype == dtype)
            found = form.fits(shape, sizes) if right else None
            if found is not None:
                return array.dtype if kind == "f" else dtype, found
        raise self._misfit(operand, array, dtype, sizes, before)

    def _misfit(
        self, operand: Operand, array: Array, dtype: Any, sizes: dict[str, Any], before: list[str]
    ) -> ValueError | TypeError:
        """Return the error for an array of another shape (ValueError) or dtype (TypeError)."""
        came, kinds = kind_of(array), {form.kind for form in operand.forms}
        right = came in kinds and (came != "f" or dtype is None or array.dtype == dtype)
        words = WORDS if dtype is None else WORDS | {"f": str(dtype)}
        alike = right and len(kinds) == 1  # then the dtype need not be told
        wanted = [form.text(sizes) if alike else f"{words[form.kind]} {form.text(sizes)}" for form in operand.forms]
        match = f", to match {', '.join(before)}" if before else ""
        shape, kind = f"shape {tuple(array.shape)}", f"dtype {array.dtype}"
        has = shape if alike else f"{shape} and {kind}" if right else kind
        message = f"{self.name}: {operand.name} has {has}; expected {' or '.join(wanted)}{match}."
        if right:
            return ValueError(f"{message} {self.hints.get(operand.name, '')}".rstrip())
        convert = f'Convert with mlpx.asarray({operand.name}, "{str(dtype or "float32").rpartition(".")[2]}").'
        return TypeError(f"{message} {f'Write {operand.name} != 0 to convert.' if kinds == {'b'} else convert}")


def arguments(arrays: str, hints: Mapping[str, str] | None = None, /, **options: Option) -> Signature:
    """Return a signature: arrays as the module's docstring shows, what to do where one does not fit, and options."""
    return Signature(_operands(arrays), options, hints or {})
