"""The only file that imports CuPy: choose a backend, tell it from arrays, move arrays in and out."""

import importlib.util
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from mlpx.backend.inspection import backend_name, check_readable, dtype_name, kind_of, read
from mlpx.errors import BackendError, unknown
from mlpx.typing import Array, ArrayLike, Namespace

__all__ = [
    "FLOATS",
    "NUMPY",
    "Backend",
    "asarray",
    "backend_name",
    "backend_of",
    "current_backend",
    "dtype_name",
    "erf",
    "get_backend",
    "gpu_problem",
    "host_array",
    "kind_of",
    "resolve",
    "set_backend",
    "to_numpy",
    "using_backend",
]

NAMES = ("auto", "numpy", "cupy")
FLOATS = ("float32", "float64")


@dataclass(frozen=True)
class Backend:
    """An array module and, where the module has several, the device its new arrays go to.

    Parameters
    ----------
    name : str
        What errors and reports call it. Fused kernels are looked up by this name.
    xp : module
        The array module. Any module that follows the array API standard runs the reference ops.
    device : object, optional
        Passed to ``xp.asarray`` and ``xp.zeros``; None leaves the choice to ``xp``.
    """

    name: str
    xp: Namespace
    device: Any = None

    def asarray(self, x: ArrayLike, dtype: Any = None) -> Array:
        """Return ``x`` as an array of this backend, without a copy where the layout allows."""
        check_readable("x", x)
        if self.name == "numpy":
            return np.asarray(to_numpy(x), dtype=dtype)
        if self.name == "cupy":
            # CuPy takes its own arrays, __cuda_array_interface__ and DLPack on the device without a copy.
            return self.xp.asarray(x if hasattr(x, "__cuda_array_interface__") else to_numpy(x), dtype=dtype)
        dtype = getattr(self.xp, str(np.dtype(dtype))) if isinstance(dtype, str) else dtype
        if backend_name(x) == self.name:
            return self.xp.asarray(x, dtype=dtype)
        # array-api modules take NumPy arrays only through DLPack or lists; a host copy is read-only at times.
        host = np.array(to_numpy(x))
        return self.xp.asarray(self.xp.from_dlpack(host), dtype=dtype, device=self.device, copy=True)

    def zeros(self, shape: int | tuple[int, ...], dtype: str) -> Array:
        """Return zeros on this backend's device; a one-dimensional buffer of NumPy starts on 64 bytes."""
        if self.name == "numpy":
            return _aligned_zeros(shape, dtype)
        return self.xp.zeros(shape, dtype=getattr(self.xp, dtype), **self._placement())

    def arange(self, n: int, dtype: str = "int64") -> Array:
        """Return 0, 1, …, n - 1 on this backend's device."""
        return self.xp.arange(n, dtype=getattr(self.xp, dtype), **self._placement())

    def _placement(self) -> dict[str, Any]:
        return {} if self.device is None else {"device": self.device}

    def synchronize(self) -> None:
        """Wait until the device has finished all that was asked of it; at once on a CPU."""
        if self.name == "cupy":
            self.xp.cuda.get_current_stream().synchronize()


NUMPY = Backend("numpy", np)


def _aligned_zeros(shape: int | tuple[int, ...], dtype: str, alignment: int = 64) -> Array:
    """Return zeros whose first byte lies on a cache line, so that vector loads never cross one."""
    itemsize = np.dtype(dtype).itemsize
    size = shape if isinstance(shape, int) else math.prod(shape)
    raw = np.zeros(size * itemsize + alignment, dtype=np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + size * itemsize].view(dtype).reshape(shape)


# --- which backend new arrays go to ---------------------------------------------------------------------------

_default: Backend | None = None
_override: ContextVar[Backend | None] = ContextVar("mlpx_backend", default=None)


@cache
def gpu_problem() -> str | None:
    """Return why CuPy cannot be used here, or None when a GPU answers. Asked once a process."""
    if importlib.util.find_spec("cupy") is None:
        return (
            "CuPy is not installed. With an NVIDIA driver for CUDA 12: pip install 'mlpx[cuda12]'; "
            "for CUDA 13: pip install 'mlpx[cuda13]'"
        )
    try:
        import cupy

        if cupy.cuda.runtime.getDeviceCount() == 0:
            return "CuPy is installed but finds no GPU. Look at what nvidia-smi lists"
        cupy.arange(2).sum().get()  # a sum is compiled, so this finds a missing NVRTC too
    except Exception as error:  # a broken driver, wheel or device must not break the CPU path
        return (
            f"CuPy is installed but does not work ({type(error).__name__}: {error}). The CuPy wheel must match the "
            "driver: see nvidia-smi for its CUDA version, then install 'mlpx[cuda12]' or 'mlpx[cuda13]'"
        )
    return None


@cache
def _cupy() -> Backend:
    problem = gpu_problem()
    if problem:
        raise BackendError(f"backend 'cupy': {problem}. The backend 'numpy' works without a GPU.")
    import cupy

    return Backend("cupy", cupy)


def resolve(backend: "str | Backend") -> Backend:
    """Return the `Backend` of a name: "auto" is CuPy where a GPU works, otherwise NumPy."""
    if isinstance(backend, Backend):
        return backend
    if backend == "numpy" or (backend == "auto" and gpu_problem()):
        return NUMPY
    if backend in NAMES:
        return _cupy()
    raise unknown("backend", backend, NAMES)


def set_backend(backend: str | Backend) -> None:
    """Choose where new arrays and networks live: "auto", "numpy" or "cupy".

    The first use without a choice reads the environment variable ``MLPX_BACKEND`` and else takes "auto".
    Calls on arrays that exist follow the arrays.

    Raises
    ------
    BackendError
        If "cupy" is asked for and no GPU works; the message says what is missing and how to install it.
    ValueError
        If the name is unknown.
    """
    global _default
    _default = resolve(backend)


def current_backend() -> Backend:
    """Return the backend in force here, as an object."""
    override = _override.get()
    if override is not None:
        return override
    if _default is None:
        wanted = os.environ.get("MLPX_BACKEND") or "auto"  # an empty variable says nothing
        if wanted not in NAMES:
            raise unknown("MLPX_BACKEND", wanted, NAMES)
        set_backend(wanted)
    assert _default is not None  # noqa: S101  (tells the type checker what set_backend did)
    return _default


def get_backend() -> str:
    """Return the name of the backend in force: "numpy" or "cupy"."""
    return current_backend().name


@contextmanager
def using_backend(backend: str | Backend) -> Iterator[None]:
    """Choose a backend for a ``with`` block, in this thread or task alone."""
    token = _override.set(resolve(backend))
    try:
        yield
    finally:
        _override.reset(token)


# --- which backend arrays are on --------------------------------------------------------------------------------


def backend_of(*values: object, caller: str = "mlpx") -> Backend:
    """Return the backend of the arrays among ``values``; everything else is passed over.

    Raises
    ------
    TypeError
        If arrays of two backends meet (both are named), or if there is no array at all.
    """
    found: str | None = None
    array: Any = None
    for value in values:
        name = backend_name(value)
        if name is not None and name != found:
            if found is not None:
                raise TypeError(
                    f"{caller}: arrays of two backends met, {found} and {name}. Move one of them with "
                    "mlpx.asarray(x) or mlpx.to_numpy(x)."
                )
            found, array = name, value
    if found == "numpy":
        return NUMPY
    if found == "cupy":
        return _cupy()
    if found is None:
        raise TypeError(f"{caller}: expected arrays, got {', '.join(type(v).__name__ for v in values) or 'none'}.")
    return Backend(found, array.__array_namespace__(), getattr(array, "device", None))


# --- in and out ---------------------------------------------------------------------------------------------------


def asarray(x: ArrayLike, dtype: Any = None) -> Array:
    """Return ``x`` as an array of the backend in force.

    Objects with ``__array_interface__``, ``__cuda_array_interface__`` or DLPack come in without a copy where their
    device, dtype and layout allow. What cannot come in gets the errors of `to_numpy`.
    """
    return current_backend().asarray(x, dtype)


def to_numpy(x: ArrayLike) -> Array:
    """Return ``x`` as a NumPy array on the host; a view of ``x`` where it already lies there.

    Raises
    ------
    TypeError
        If it is a tensor that records gradients, or nothing that NumPy can read; the message says what to do.
    ValueError
        If nested sequences have ragged lengths, or values of a masked array are masked.
    """
    return host_array("x", x)


def host_array(argument: str, x: ArrayLike) -> Array:
    """Return ``x`` as `to_numpy` does; errors name ``argument``."""
    if backend_name(x) == "cupy":
        return x.get()
    check_readable(argument, x)
    if hasattr(x, "__cuda_array_interface__"):
        return _cupy().xp.asarray(x).get()
    return read(argument, x)


def erf(x: Array, xp: Namespace) -> Array:
    """Return the error function of every element; no array module but SciPy and cupyx has it."""
    if xp is np:
        from scipy.special import erf as host_erf

        return host_erf(x)
    backend = backend_of(x, caller="erf")
    if backend.name == "cupy":
        from cupyx.scipy.special import erf as device_erf

        return device_erf(x)
    return backend.asarray(erf(to_numpy(x), np))
