"""What subclasses, and single objects, put in place of a class's methods: fused code cannot stand in for that."""

from functools import cache


def overridden(thing: object, base: type) -> set[str]:
    """Return the names of methods and properties of ``base`` that an object of it, or its class, has its own of.

    Of the special methods ``__call__`` alone counts: constructors, comparisons and ``repr`` compute nothing.
    """
    methods = _methods(base)
    own = set(methods.intersection(vars(thing)))
    kinds = type(thing).__mro__
    for kind in kinds[: kinds.index(base)]:
        own |= methods.intersection(vars(kind)) | {name for name in vars(kind) if _hides(kind, name, base)}
    return own


@cache
def _methods(base: type) -> frozenset[str]:
    return frozenset(name for name in dir(base) if _counts(name) and _acts(getattr(base, name)))


def _hides(kind: type, name: str, base: type) -> bool:
    """Return whether a class computes what is a plain value in ``base``, an option for instance."""
    return _counts(name) and name in getattr(base, "__dataclass_fields__", ()) and hasattr(vars(kind)[name], "__get__")


def _counts(name: str) -> bool:
    return name == "__call__" or not name.startswith("__")


def _acts(value: object) -> bool:
    """Return whether a class attribute is a method, a property or a function that the class is given."""
    return callable(value) or hasattr(value, "__get__")
