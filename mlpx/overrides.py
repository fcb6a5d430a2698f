"""What subclasses, and single objects, put in place of a class's methods: fused code cannot stand in for that."""

from functools import lru_cache
from typing import Any

NONE: frozenset[str] = frozenset()


def overridden(thing: object, base: type, asked: frozenset[str] = NONE) -> frozenset[str]:
    """Return the names of methods and properties of ``base`` that an object of it, or its class, has its own of.

    Those in ``asked`` do not count; of the special methods ``__call__`` alone does: constructors, comparisons and
    ``repr`` compute nothing. Classes are looked at once.
    """
    kind: Any = type(thing)  # which mypy takes for nothing that can be hashed
    own, methods = _overridden(kind, base, asked)
    inside = vars(thing)
    return own if methods.isdisjoint(inside) else own | methods.intersection(inside)


@lru_cache(maxsize=512)
def _overridden(kind: type, base: type, asked: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return what a class has its own of, and the methods of ``base`` that count."""
    methods = frozenset(name for name in dir(base) if _counts(name) and _acts(getattr(base, name))) - asked
    above = kind.__mro__[: kind.__mro__.index(base)]
    own = {name for each in above for name in vars(each) if name in methods or _hides(each, name, base)}
    return frozenset(own), methods


def _hides(kind: type, name: str, base: type) -> bool:
    """Return whether a class computes what is a plain value in ``base``, an option for instance."""
    return _counts(name) and name in getattr(base, "__dataclass_fields__", ()) and hasattr(vars(kind)[name], "__get__")


def _counts(name: str) -> bool:
    return name == "__call__" or not name.startswith("__")


def _acts(value: object) -> bool:
    """Return whether a class attribute is a method, a property or a function that the class is given."""
    return callable(value) or hasattr(value, "__get__")
