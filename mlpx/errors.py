"""The errors of the library's own, and the helpers that word the others and warn."""

import inspect
import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import numpy as np

PASSED_OVER = ("mlpx.", "sklearn.", "joblib.", "scipy.")
"""Whose lines no warning names: those of whoever called them tell more."""

LONGEST = 500
"""Characters of what came that an error quotes at most."""


class BackendError(RuntimeError):
    """A backend was asked for that this machine cannot run; the message says what is missing."""


class DivergenceError(ArithmeticError):
    """Training met a loss or a gradient that is not finite, and stopped with the last good weights in place.

    Attributes
    ----------
    step : int
        The step that failed, counted from 0 over the whole fit.
    epoch : int
        The epoch of that step, counted from 0.
    layer : str
        The first layer whose output (else: whose gradient) is not finite, such as ``"layers[2] Dense"``.
    largest : dict[str, float]
        The largest magnitudes met: ``"input"``, ``"weight"``, ``"activation"``, ``"gradient"``.
    history : History
        The curves up to the failure.
    """

    def __init__(self, message: str, *, step: int, epoch: int, layer: str, largest: dict[str, float]) -> None:
        super().__init__(message)
        self.step = step
        self.epoch = epoch
        self.layer = layer
        self.largest = largest
        self.history: Any = None


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C stopped ``fit`` between two steps; the weights are those of the last complete step.

    Attributes
    ----------
    history : History
        The curves up to the interruption.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.history: Any = None


class ModelFileError(ValueError):
    """A file is no model of this library, or was damaged since it was saved; the message says what and where."""


class GradientError(AssertionError):
    """An analytic gradient and its central differences disagree."""


def shortened(text: str, most: int = LONGEST) -> str:
    """Return a text of which an error can quote the whole: its begin alone where it is long."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def shown(value: object, most: int = 80) -> str:
    """Return what an error quotes of a value: its repr, shortened, or its type's name where repr fails."""
    try:
        return shortened(repr(value), most)
    except Exception:  # a value of the user's own, or an int of too many digits
        return f"<{type(value).__name__}>"


def unknown(argument: str, name: object, known: Iterable[str]) -> ValueError:
    """Return the error for a name that is not on a list; it names the list and the nearest entry."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5) if isinstance(name, str) and len(name) <= LONGEST else []
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(f"{argument}: unknown name {shown(name, LONGEST)}.{hint} Known: {', '.join(names)}.")


def check_name(argument: str, value: object, known: Iterable[str]) -> str:
    """Return ``value`` if it is a string of a list, or raise ValueError that names the list and the nearest entry."""
    if not isinstance(value, str) or value not in known:
        raise unknown(argument, value, known)
    return str(value)


def check_number(
    argument: str,
    value: object,
    low: float = float("-inf"),
    high: float = float("inf"),
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return ``value`` as a float, or raise unless it is a finite real number within the interval.

    Numbers of NumPy, of `decimal` and of `fractions`, and arrays without axes, are taken for what they are worth.

    Raises
    ------
    TypeError
        If ``value`` is no real number (a bool is none).
    ValueError
        If it is NaN, infinite or outside the interval, which the message states.
    """
    number = float("nan")
    if type(value) is float:
        number = value
    elif not is_real(value):
        raise TypeError(f"{argument}: expected a number, got {shown(value)} ({type(value).__name__}).")
    else:
        try:
            number = float(value)  # type: ignore[arg-type]
        except OverflowError:
            number = float("inf")
        except Exception as error:
            raise TypeError(
                f"{argument}: expected a number, got {shown(value)} ({type(value).__name__}: {error})."
            ) from None
    inside = (low < number if open_low else low <= number) and (number < high if open_high else number <= high)
    if not inside or number in (float("inf"), float("-inf")):
        interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
        raise ValueError(f"{argument}: expected a finite number in {interval}, got {shown(value)}.")
    return number


def is_real(value: object) -> bool:
    """Return whether a value is one real number: no bool, complex number or date, and no array with axes."""
    kind = getattr(getattr(value, "dtype", None), "kind", "f")
    return (
        hasattr(type(value), "__float__")
        and not isinstance(value, bool | complex)
        and kind in "fiu"
        and tuple(getattr(value, "shape", ())) == ()
    )


def check_count(argument: str, value: object, low: float = 1, high: int | None = None) -> int:
    """Return ``value`` as an int, or raise unless it is a whole number from ``low`` to ``high`` (None: any)."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = int(value.__index__())  # type: ignore[attr-defined]
    except Exception:
        raise TypeError(f"{argument}: expected a whole number, got {shown(value)} ({type(value).__name__}).") from None
    if number < low or (high is not None and number > high):
        limit = f"at least {low}" if number < low else f"at most {high}"
        raise ValueError(f"{argument}: expected a whole number of {limit}, got {shown(value)}.")
    return number


def check_flag(argument: str, value: object) -> bool:
    """Return ``value`` as a bool, or raise TypeError unless it is one; "no" and 0.1 would else count as True."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{argument}: expected True or False, got {shown(value)} ({type(value).__name__}).")
    return bool(value)


Later = list[tuple[str, type[Warning]]]
"""Warnings, each with its category, that wait until a fit is complete: a program may make errors of them."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, at the line of the program that called the library, through functions of scikit-learn's or not; in a
    worker's thread or process, where that line is not to be seen, at one of whoever runs the worker.
    """
    frame, level = inspect.currentframe(), 1
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(PASSED_OVER):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
