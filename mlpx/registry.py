"""The names by which model files know classes: the library's own, and those of a program."""

from typing import TypeVar

K = TypeVar("K", bound=type)
LIBRARY = "mlpx."
"""What the modules of built-in classes begin with."""


def register(kinds: dict[str, K], name: str, kind: K) -> None:
    """Enter a class under its name, or as ``"module.name"`` where a class of another module has that name.

    The plain name of a built-in class always means that class. Where only classes of a program share one, it means
    none of them, whichever comes first. A class of the same module replaces the one before, as a notebook's cell does
    that is run again.

    Parameters
    ----------
    kinds : dict
        Changed in place.
    name : str
    kind : type
    """
    others = [
        other
        for key, other in kinds.items()
        if key in (name, _with_module(other, name)) and other.__module__ != kind.__module__
    ]
    for other in others:
        if not other.__module__.startswith(LIBRARY):
            kinds.pop(name, None)
            kinds[_with_module(other, name)] = other
    kinds[_with_module(kind, name) if others else name] = kind


def registered_name(kinds: dict[str, K], kind: K) -> str:
    """Return the name under which a class was entered.

    Raises
    ------
    ValueError
        If it is not there, or another class has replaced it.
    """
    for name, other in kinds.items():
        if (other.__module__, other.__qualname__) == (kind.__module__, kind.__qualname__):
            return name
    raise ValueError(
        f"{kind.__module__}.{kind.__qualname__} cannot be saved: another class of its module has taken its "
        "name. Give each a name of its own."
    )


def _with_module(kind: type, name: str) -> str:
    return f"{kind.__module__}.{name}"
