"""Arrays that a call is given, as float arrays of a network's backend; errors name the argument."""

import numpy as np

from mlpx.backend import Backend, host_array
from mlpx.backend.inspection import backend_name, check_readable
from mlpx.typing import Array, ArrayLike, Shape

AS_NUMBERS = {
    "c": "Pass real and imaginary parts as features of their own.",
    "M": "Pass numbers, such as ({0} - {0}.min()) / numpy.timedelta64(1, 'D').",
    "m": "Pass numbers, such as {0} / numpy.timedelta64(1, 's').",
}
"""What to do with arrays of a kind that a plain conversion would spoil."""


def as_float_array(argument: str, x: ArrayLike, dtype: str, backend: Backend) -> Array:
    """Return ``x`` as a float array of ``backend``; integers and bools are converted.

    Raises
    ------
    TypeError
        If ``x`` holds objects, strings or complex numbers, lies on another backend's device, or is a tensor that
        records gradients.
    ValueError
        If nested sequences have ragged lengths, or values of a masked array are masked.
    """
    name = backend_name(x)
    given = type(x).__name__
    if name is None:
        x = host_array(argument, x)
    check_readable(argument, x)
    if isinstance(x, np.ndarray) and x.dtype.kind not in "fiub":
        came = given if x.dtype == object and x.ndim == 0 else f"dtype {x.dtype}"
        advice = AS_NUMBERS.get(x.dtype.kind, "Convert first, for example with numpy.asarray({0}, dtype={1!r}).")
        raise TypeError(
            f"{argument}: expected real numbers (floats, integers or bools), got {came}. "
            + advice.format(argument, dtype)
        )
    if name is not None and name != backend.name:
        raise TypeError(
            f"{argument}: lies on the backend {name}, the network on {backend.name}. Move it with mlpx.asarray(x) or "
            "mlpx.to_numpy(x), or move the network with net.to(...)."
        )
    # A number beyond the dtype becomes infinite there; fit refuses it by its place, so a warning would only add noise.
    with np.errstate(over="ignore"):
        return backend.asarray(x, dtype)


def as_flags(argument: str, given: ArrayLike, shape: Shape, dtype: str, backend: Backend) -> Array:
    """Return a bool array of exactly ``shape``; whole numbers 0 and 1 are taken for False and True.

    Raises
    ------
    ValueError
        If the shape is another, or a value is neither 0 nor 1.
    """
    flags = as_float_array(argument, given, dtype, backend)
    if tuple(flags.shape) != tuple(shape):
        raise ValueError(f"{argument}: has shape {tuple(flags.shape)}; expected {tuple(shape)}, bool.")
    if flags.size and not bool(backend.xp.all((flags == 0) | (flags == 1))):
        raise ValueError(f"{argument}: holds values other than 0 and 1; expected bools.")
    return flags != 0


def as_weights(argument: str, given: ArrayLike, shape: Shape, dtype: str, backend: Backend) -> Array:
    """Return finite weights of at least 0, of exactly ``shape``; ValueError for others."""
    weights = as_float_array(argument, given, dtype, backend)
    if tuple(weights.shape) != tuple(shape):
        raise ValueError(f"{argument}: has shape {tuple(weights.shape)}; expected {tuple(shape)}.")
    if weights.size and not bool(backend.xp.all((weights >= 0) & (weights < backend.xp.inf))):
        raise ValueError(f"{argument}: holds negative or non-finite values; expected at least 0.")
    return weights
