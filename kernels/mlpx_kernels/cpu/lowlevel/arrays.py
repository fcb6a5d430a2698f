"""Arrays on their way into compiled code, which goes by the sizes of one of them: what does not fit is refused."""

import numpy as np

from mlpx_kernels import Unsupported

REALS = frozenset(map(np.dtype, ("float32", "float64")))
"""What the kernels are made for."""


def real_array(x, *, name):
    """Return a C-contiguous array of a float dtype the kernels are made for, or decline.

    Raises
    ------
    TypeError
        If ``x`` is no array of NumPy's.
    """
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name}: expected arrays of NumPy, got {type(x).__name__}.")
    if x.dtype not in REALS:
        raise Unsupported(f"{name}: dtype {x.dtype}; the CPU kernels are made for float32 and float64")
    return np.asarray(x, order="C")  # ascontiguousarray would give a scalar an axis


def flat(x, size, dtype, *, name):
    """Return an array of just so many numbers of a dtype, flat and C-contiguous.

    Raises
    ------
    TypeError
        If ``x`` is no array of NumPy's, or one of another dtype.
    ValueError
        If it has more numbers, or fewer.
    """
    if not isinstance(x, np.ndarray) or x.dtype != dtype:
        came = f"an array of {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"{name}: expected arrays of {np.dtype(dtype)}, got {came}.")
    if x.size != size:
        raise ValueError(f"{name}: has an array of shape {x.shape} where {size} numbers are wanted.")
    return np.asarray(x, order="C").reshape(-1)


def optional(x, size, dtype, *, name):
    """Return an array as `flat` does; for None an empty one, by which loops know that there is none."""
    return np.empty(0, dtype) if x is None else flat(x, size, dtype, name=name)


def class_numbers(x, size, *, name):
    """Return class numbers of any integer dtype, just so many, flat and as int64; errors as those of `flat`."""
    return flat(x, size, x.dtype, name=name).astype(np.int64, copy=False)
