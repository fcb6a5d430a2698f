"""What arrays tell of themselves, and reading what comes from elsewhere: NumPy's array of it, or why there is none."""

from functools import lru_cache
from typing import NoReturn

import numpy as np

from mlpx.typing import Array, ArrayLike

_by_type: dict[type, str | None] = {np.ndarray: "numpy"}


def backend_name(x: object) -> str | None:
    """Return the name of the backend that ``x`` is an array of, or None when it is no array."""
    kind = type(x)
    try:
        return _by_type[kind]
    except KeyError:
        if isinstance(x, np.ndarray):
            name: str | None = "numpy"
        else:
            name = kind.__module__.partition(".")[0]
            # CuPy's arrays do not name their namespace (CuPy 14).
            mark = "__cuda_array_interface__" if name == "cupy" else "__array_namespace__"
            if isinstance(x, np.generic | type) or not hasattr(x, mark):
                name = None
        _by_type[kind] = name
        return name


def dtype_name(x: Array) -> str:
    """Return the dtype of an array as a plain name: "float32"."""
    return _numpy_name(x.dtype) if isinstance(x.dtype, np.dtype) else str(x.dtype).rpartition(".")[2]


_numpy_name = lru_cache(maxsize=64)(str)  # NumPy makes a name anew each time


def kind_of(x: Array) -> str:
    """Return the kind of an array's numbers: "f" for floats, "i" for integers, "b" for bools, else another letter."""
    kind = getattr(x.dtype, "kind", None)
    if kind is None:  # not every array module's dtypes tell
        kind = np.dtype(dtype_name(x)).kind
    return "i" if kind == "u" else str(kind)


# --- what comes from elsewhere ------------------------------------------------------------------------------------


def check_readable(argument: str, x: ArrayLike) -> None:
    """Raise for what would lose something by being read: a tensor's record of gradients, an array's mask."""
    if type(x) is np.ndarray:
        return
    if getattr(x, "requires_grad", False) is True:
        raise TypeError(
            f"{argument}: is a {type(x).__name__} that records gradients, which end here. Pass {argument}.detach()."
        )
    if isinstance(x, np.ndarray) and isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        count = int(np.ma.getmaskarray(x).sum())
        raise ValueError(
            f"{argument}: is a masked array with {count} of {x.size} values masked; masks of missing "
            f"values are not kept. Fill them, for example with {argument}.filled(0), or drop such rows. Classes that a "
            "row forbids are told by mask=, padded steps by valid=."
        )


def plain(argument: str, x: Array) -> Array:
    """Return an array of a subclass of NumPy's as NumPy's own: its arithmetic may be another. Others as they are."""
    check_readable(argument, x)
    return np.asarray(x) if isinstance(x, np.ndarray) else x


def read(argument: str, x: ArrayLike) -> Array:
    """Return what lies on the host as a NumPy array; a view of ``x`` where its layout allows.

    Raises
    ------
    TypeError
        If NumPy cannot read it, such as a sparse matrix or a tensor of bfloat16; the message says what to do.
    ValueError
        If nested sequences have ragged lengths.
    """
    if isinstance(x, np.ndarray):
        return x
    if hasattr(x, "toarray"):
        raise TypeError(f"{argument}: is a sparse {type(x).__name__}; expected dense rows. Pass {argument}.toarray().")
    try:
        if hasattr(x, "__dlpack__") and not (hasattr(x, "__array_interface__") or hasattr(x, "__array__")):
            return np.from_dlpack(x)
        return np.asarray(x)
    except (RuntimeError, TypeError, ValueError, BufferError) as error:
        if hasattr(x, "to_device"):  # array-api-strict's fake devices forbid it, as a GPU would
            return np.asarray(x.to_device(x.__array_namespace__().Device("CPU_DEVICE")))
        _refuse(argument, x, error)


def _refuse(argument: str, x: ArrayLike, error: Exception) -> NoReturn:
    if "inhomogeneous" in str(error):
        raise ValueError(
            f"{argument}: its rows differ in length or depth; expected a rectangle of numbers. Pad sequences of "
            "different lengths and tell the real steps by valid=."
        ) from error
    kind = f" of {x.dtype}" if hasattr(x, "dtype") else ""
    hint = f" Convert it first, for example with {argument}.float()." if "bfloat16" in kind else ""
    raise TypeError(f"{argument}: this {type(x).__name__}{kind} cannot be read as an array ({error}).{hint}") from error
