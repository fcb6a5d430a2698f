"""Names of arguments in the errors of those who check them: scikit-learn's and NumPy's words seldom hold one."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mlpx.errors import shown

FOREIGN = (TypeError, ValueError, OverflowError)
"""Kinds of the errors of a check."""


def named(argument: str, error: Exception) -> Exception:
    """Return an error with the argument's name before its words; the error itself where its first line has the name."""
    first = str(error).partition("\n")[0]
    if any(re.search(rf"\b{name}\b", first) for name in argument.split(", ")):
        return error
    made = (TypeError if isinstance(error, TypeError) else ValueError)(f"{argument}: {error}")
    made.__cause__ = error
    return made


@contextmanager
def naming(argument: str) -> Iterator[None]:
    """Let errors of the checks inside name an argument."""
    try:
        yield
    except FOREIGN as error:
        raise named(argument, error)  # noqa: B904  (its cause is set, or it is the same)


def passes(check: Callable[[], Any]) -> bool:
    """Return whether a check raises nothing."""
    try:
        check()
    except FOREIGN:
        return False
    return True


def entries(argument: str, value: Any) -> list[Any]:
    """Return the entries of a sequence or an array (k,); TypeError for what has no entries, or no order of them."""
    if isinstance(value, str | bytes | set | frozenset | dict) or not passes(lambda: len(value)):
        raise TypeError(f"{argument}: expected a sequence of numbers, got {shown(value)} ({type(value).__name__}).")
    return list(value)
