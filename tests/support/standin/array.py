"""``cupy.ndarray`` on NumPy: as strict as CuPy about what comes from the host, and silent about what is slow.

Looked up in CuPy 14.2: no ``__array_namespace__``, ``__index__``, ``__contains__`` nor ``flags.writeable``; reductions
and single elements are 0-d arrays; numbers come to the host by ``float``, ``int``, ``bool``, ``item`` and ``get``.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np

from standin.device import Memory, device
from standin.streams import current

NUMBERS = (bool, int, float, complex, np.generic)


def unsupported(x: object) -> TypeError:
    """Return CuPy's error for what is on the host."""
    return TypeError(f"Unsupported type {type(x)}")


class MemoryPointer:
    """``cupy.cuda.MemoryPointer``: an address within an allocation."""

    def __init__(self, memory: Memory, ptr: int) -> None:
        self.mem, self.ptr, self.device_id = memory, ptr, 0


class ndarray:
    """An array in the stand-in's memory."""

    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]
    _host: Any
    _memory: Memory

    def __init__(
        self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: str = "C"
    ) -> None:
        dtype = np.dtype(dtype)
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        size = int(np.prod(shape, dtype=np.int64))
        if memptr is None:
            self._memory = Memory(size * dtype.itemsize)
            data, offset = self._memory.bytes, 0
        else:
            self._memory = memptr.mem
            data, offset = memptr.mem.bytes, memptr.ptr - memptr.mem.bytes.ctypes.data
        self._host = np.ndarray(shape, dtype, data, offset, strides, order=order)

    # --- what there is to know

    dtype = property(lambda self: self._host.dtype)
    shape = property(lambda self: self._host.shape)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    data = property(lambda self: MemoryPointer(self._memory, self._host.ctypes.data))
    device = property(lambda self: SimpleNamespace(id=0))
    T = property(lambda self: view(self, self._host.T))
    mT = property(lambda self: view(self, self._host.mT))

    @property
    def flags(self) -> Any:
        """Contiguity; CuPy's flags know nothing of ``writeable``."""
        flags = self._host.flags
        return SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=True)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self._host.__array_interface__, "version": 3, "stream": 1}

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    # --- to and from the host

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> Any:
        """Return a copy on the host; not ``blocking``, it is not complete before the stream is synchronised."""
        stream = stream or current()
        stream.forbid("cudaMemcpyAsync to pageable memory")
        stream.order([self._memory], [])
        device.counters.to_host += 1
        if blocking:
            device.counters.synchronisations += 1
            stream.host_waits()
        result = np.array(self._host, order=order)
        if out is None:
            return result
        out[...] = result
        return out

    def set(self, arr: Any, stream: Any = None) -> None:
        """Copy from the host."""
        if not isinstance(arr, np.ndarray):
            raise TypeError(f"Only numpy.ndarray can be set to cupy.ndarray: {type(arr)}")
        if arr.dtype != self.dtype or arr.shape != self.shape:
            raise ValueError(
                f"{arr.dtype} array of shape {arr.shape} cannot be set to {self.dtype} array of {self.shape}"
            )
        from standin import host

        host.copy_in(self, arr, stream or current())

    def item(self, *args: Any) -> Any:
        """Return one element as a Python number."""
        return self.get().item(*args)

    def tolist(self) -> Any:
        """Return nested lists."""
        return self.get().tolist()

    def tobytes(self, order: str = "C") -> bytes:
        """Return the bytes."""
        return self.get().tobytes(order)

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())

    def __format__(self, form: str) -> str:
        return format(self.item() if self.ndim == 0 else self.get(), form)

    def __repr__(self) -> str:
        return repr(self.get())

    def __str__(self) -> str:
        return str(self.get())

    def __reduce__(self) -> Any:
        from standin.functions import asarray

        return asarray, (self.get(),)

    # --- indices

    def __getitem__(self, index: Any) -> Any:
        from standin.functions import launch

        key, masks, arrays = _index(index)
        source = self._host
        if masks:  # how many there are is only known on the device
            current().forbid("boolean indexing")
            device.counters.synchronisations += 1
            current().host_waits()
        result = source[key]
        if np.may_share_memory(result, source) and not arrays:
            return view(self, result)
        return launch(lambda: source[key], [self, *arrays], result)

    def __setitem__(self, index: Any, value: Any) -> None:
        from standin.functions import write

        key, _, arrays = _index(index)
        target = self._host
        if isinstance(value, ndarray):
            values = value._host
            write(self, lambda: target.__setitem__(key, values), [*arrays, value])
        elif isinstance(value, NUMBERS):
            write(self, lambda: target.__setitem__(key, value), arrays)
        else:
            raise unsupported(value)

    def view(self, dtype: Any = None) -> Any:
        """Return the same memory, with another dtype if one is given."""
        return view(self, self._host.view() if dtype is None else self._host.view(dtype))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from standin.functions import NAMESPACE

        if method != "__call__" or ufunc.__name__ not in NAMESPACE:
            return NotImplemented
        if "out" in kwargs and isinstance(kwargs["out"], tuple):
            (kwargs["out"],) = kwargs["out"]
        return NAMESPACE[ufunc.__name__](*inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from standin.functions import NAMESPACE

        if function.__name__ not in NAMESPACE:
            return NotImplemented
        return NAMESPACE[function.__name__](*args, **kwargs)

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()


ndarray.__module__ = "cupy"


def view(owner: ndarray, host: Any) -> ndarray:
    """Return an array over memory that another owns."""
    made: ndarray = object.__new__(ndarray)
    made._host, made._memory = host, owner._memory
    return made


def _index(index: Any) -> tuple[Any, bool, list[ndarray]]:
    """Return an index for NumPy, whether masks are in it, and the arrays in it. Lists and host arrays are refused:
    CuPy would copy them to the device each time."""
    parts = index if isinstance(index, tuple) else (index,)
    arrays = [p for p in parts if isinstance(p, ndarray)]
    for p in parts:
        if isinstance(p, (list, np.ndarray)):
            raise unsupported(p)
    key = tuple(p._host if isinstance(p, ndarray) else p for p in parts)
    return key if isinstance(index, tuple) else key[0], any(a.dtype == bool for a in arrays), arrays
