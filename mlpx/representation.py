"""The short ``repr`` of layers, losses, optimisers and schedules: what differs from the defaults."""

from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any


def short_repr(thing: Any) -> str:
    """Return the call that makes a dataclass's object, without the options that have their default.

    ``Dense(784, 256, activation='relu')``, ``Adam(lr=0.01)``, ``CrossEntropy()``. Fields without a default stand by
    position, the others by name. A class of a user's own that is no dataclass has Python's usual words.
    """
    if not is_dataclass(thing):
        return object.__repr__(thing)
    parts = []
    for field in fields(thing):
        if not (field.init and field.repr):
            continue
        value, default = getattr(thing, field.name), _default(field)
        if default is MISSING:
            parts.append(repr(value))
        elif not _same(value, default):
            parts.append(f"{field.name}={value!r}")
    return f"{type(thing).__name__}({', '.join(parts)})"


def _default(field: "Field[Any]") -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _same(value: Any, default: Any) -> bool:
    """Return whether a value is its default, or the object that a default name stands for: `Constant()`, "constant"."""
    if isinstance(default, str) and not isinstance(value, str):
        return repr(value).lower() == f"{default.replace('_', '')}()"
    return type(value) is type(default) and bool(value == default)
