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


def unknown(argument: str, name: object, known: Iterable[str]) -> ValueError:
    """Return the error for a name that is not on a list; it names the list and the nearest entry."""
    names, given = sorted(known), shortened(repr(name))
    near = get_close_matches(name, names, n=1, cutoff=0.5) if isinstance(name, str) and len(name) <= LONGEST else []
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(f"{argument}: unknown name {given}.{hint} Known: {', '.join(names)}.")


def shortened(text: str) -> str:
    """Return a text of which an error can quote the whole: its begin alone where it is long."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def check_number(
    argument: str,
    value: object,
    low: float = float("-inf"),
    high: float = float("inf"),
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Raise unless ``value`` is a finite real number within the interval; the message states the interval.

    Raises
    ------
    TypeError
        If ``value`` is no real number (a bool is none).
    ValueError
        If it is NaN, infinite or outside the interval.
    """
    no_number = isinstance(value, bool | str | complex) or getattr(value, "shape", ()) != ()
    if no_number or not hasattr(value, "__float__"):
        raise TypeError(f"{argument}: expected a number, got {value!r} ({type(value).__name__}).")
    number = float(value)
    inside = (low < number if open_low else low <= number) and (number < high if open_high else number <= high)
    if not inside or number in (float("inf"), float("-inf")):
        interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
        raise ValueError(f"{argument}: expected a finite number in {interval}, got {value!r}.")


def check_count(argument: str, value: object, low: int = 1) -> int:
    """Return ``value`` as an int, or raise unless it is a whole number of at least ``low``."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = value.__index__()  # type: ignore[attr-defined]
    except (AttributeError, TypeError):
        raise TypeError(f"{argument}: expected a whole number, got {value!r} ({type(value).__name__}).") from None
    if number < low:
        raise ValueError(f"{argument}: expected a whole number of at least {low}, got {value!r}.")
    return int(number)


def check_flag(argument: str, value: object) -> bool:
    """Return ``value`` as a bool, or raise TypeError unless it is one; "no" and 0.1 would else count as True."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{argument}: expected True or False, got {value!r} ({type(value).__name__}).")
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
