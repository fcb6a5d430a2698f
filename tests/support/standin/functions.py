"""The functions of the namespace ``cupy``, all of which are NumPy's under a rule: arrays of the device go in and come
out, numbers may come from the host, arrays of the host may not. A name that is not here is an `AttributeError`; that
all of them are CuPy's is tested where CuPy is installed."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from standin.array import NUMBERS, ndarray, unsupported, view
from standin.device import device
from standin.host import copy_in
from standin.streams import current


def _names(text: str) -> list[str]:
    return text.split()


UFUNCS = _names("""
    abs absolute add arctan arctan2 bitwise_and bitwise_or bitwise_xor cbrt ceil copysign cos cosh divide equal exp
    exp2 expm1 fabs floor floor_divide fmax fmin greater greater_equal hypot invert isfinite isinf isnan left_shift
    less less_equal log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor maximum minimum
    mod multiply negative not_equal positive power reciprocal remainder right_shift rint sign signbit sin sinh sqrt
    square subtract tan tanh true_divide trunc
""")
OTHERS = _names("""
    all allclose amax amin any argmax argmin argsort array_equal broadcast_to clip concat concatenate count_nonzero
    cumprod cumsum diff expand_dims flip full_like hstack isclose max mean median min moveaxis nan_to_num nanmax
    nanmin ones_like outer prod ravel repeat reshape roll searchsorted sort split squeeze stack std sum swapaxes
    take take_along_axis tile transpose tril triu var vstack zeros_like
""")
PRODUCTS = ["dot", "einsum", "inner", "matmul", "tensordot", "vdot"]
"""What CuPy hands to cuBLAS."""
NUMPYS = _names("""
    dtype float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool_ pi e inf nan newaxis finfo
    iinfo result_type promote_types can_cast ndim isscalar
""")
"""What CuPy takes from NumPy as it is."""
METHODS = _names("""
    all any argmax argmin argsort astype clip copy cumprod cumsum dot flatten max mean min prod ravel repeat reshape
    round squeeze std sum swapaxes take transpose var
""")
OPERATORS = _names("""
    add sub mul truediv floordiv mod pow and or xor lshift rshift
""")
COMPARISONS = ["lt", "le", "gt", "ge", "eq", "ne"]
PLAIN = (type, np.dtype, str, slice, type(None), type(Ellipsis))


def host(x: Any, found: list[ndarray]) -> Any:
    """Return an argument as NumPy takes it; arrays of the device are collected, those of the host refused."""
    if isinstance(x, ndarray):
        found.append(x)
        return x._host
    if isinstance(x, (*NUMBERS, *PLAIN)):
        return x
    if isinstance(x, (tuple, list)):
        return type(x)(host(i, found) for i in x)
    raise unsupported(x)


def launch(work: Callable[[], Any], reads: Sequence[ndarray], result: Any) -> ndarray:
    """Return a new array that some work fills, now or when the capture is replayed; ``result`` has its shape."""
    device.check_compiler()
    made = ndarray(np.shape(result), np.asarray(result).dtype, order="F" if np.isfortran(result) else "C")
    device.counters.others += 1
    target = made._host  # recorded work holds the bytes, as a graph holds addresses, but not the allocation

    def fill() -> None:
        with np.errstate(all="ignore"):
            target[...] = work()

    current().run(fill, [a._memory for a in reads], [made._memory])
    return made


def write(target: ndarray, work: Callable[[], Any], reads: Sequence[ndarray]) -> None:
    """Change an array in place."""
    device.check_compiler()
    device.counters.others += 1

    def change() -> None:
        with np.errstate(all="ignore"):
            work()

    current().run(change, [a._memory for a in reads], [target._memory])


def call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], product: bool = False) -> Any:
    """Run a function of NumPy on arrays of the device."""
    out = kwargs.pop("out", None)
    if out is not None and not isinstance(out, ndarray):
        raise unsupported(out)
    found: list[ndarray] = []
    args, kwargs = host(args, found), {k: host(v, found) for k, v in kwargs.items()}
    if product and current().is_capturing():
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    if out is not None:
        with np.errstate(all="ignore"):
            shape = np.shape(function(*args, **kwargs)) if product else None
        if shape is not None and shape != out.shape:
            raise ValueError(f"Output array has wrong shape: {out.shape}, expected {shape}")
        target = out._host
        write(out, lambda: np.copyto(target, function(*args, **kwargs), casting="same_kind"), found)
        result: Any = out
    else:
        with np.errstate(all="ignore"):
            value = function(*args, **kwargs)
        result = _wrap(value, lambda: function(*args, **kwargs), found)
    if product:
        device.counters.others -= 1
        device.counters.products += 1
    return result


def _wrap(value: Any, work: Callable[[], Any], found: list[ndarray]) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_wrap(v, lambda i=i: work()[i], found) for i, v in enumerate(value))
    if isinstance(value, np.ndarray):
        for a in found:
            if value.size and np.may_share_memory(value, a._host):
                return view(a, value)
    return launch(work, found, value) if isinstance(value, (np.ndarray, *NUMBERS)) else value


def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False) -> ndarray:
    """Return an array of the device: the same one, a conversion, or a copy from the host."""
    if isinstance(a, ndarray):
        same = dtype is None or np.dtype(dtype) == a.dtype
        kept = order in (None, "K", "A") or (a.flags.f_contiguous if order == "F" else a.flags.c_contiguous)
        if same and kept and not copy:
            return a
        source = a._host
        return launch(lambda: source, [a], np.empty(a.shape, dtype or a.dtype, order="F" if order == "F" else "C"))
    if isinstance(a, (list, tuple)) and any(isinstance(i, ndarray) for i in a):
        return NAMESPACE["stack"]([asarray(i) for i in a]).astype(dtype or a[0].dtype)
    values = np.array(a, dtype=dtype, order=order)
    if values.dtype.kind not in "biufc" and values.dtype.itemsize != 2:
        raise ValueError(f"Unsupported dtype {values.dtype}")
    made = ndarray(values.shape, values.dtype, order="F" if np.isfortran(values) else "C")
    copy_in(made, values if values is a or not isinstance(a, np.ndarray) else np.asarray(a, dtype), current())
    return made


def full(shape: Any, value: Any, dtype: Any = None) -> ndarray:
    """Return an array of one value."""
    return launch(lambda: value, [], np.empty(shape, dtype or np.asarray(value).dtype))


def arange(*args: Any, dtype: Any = None) -> ndarray:
    """Return evenly spaced numbers."""
    value = np.arange(*args, dtype=dtype)
    return launch(lambda: value, [], value)


def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    """Choose by a mask; of the mask alone, how many are true is only known on the device."""
    if x is None and y is None:
        current().forbid("nonzero")
        device.counters.synchronisations += 1
        return call(np.nonzero, (condition,), {})
    return call(np.where, (condition, x, y), {})


def copyto(dst: ndarray, src: Any, casting: str = "same_kind", where: Any = None) -> None:
    """Copy within the device."""
    found: list[ndarray] = []
    value, mask = host(src, found), True if where is None else host(where, found)
    target = dst._host
    write(dst, lambda: np.copyto(target, value, casting=casting, where=mask), found)  # type: ignore[arg-type]


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> Any:
    """Return an array on the host."""
    return a.get(stream, order, out, blocking) if isinstance(a, ndarray) else np.asarray(a)


def get_array_module(*args: Any) -> Any:
    """Return ``cupy`` if one of the arguments is its array, else ``numpy``."""
    import cupy

    return cupy if any(isinstance(a, ndarray) for a in args) else np


def _plain(function: Callable[..., Any], product: bool = False) -> Callable[..., Any]:
    return lambda *args, **kwargs: call(function, args, kwargs, product)


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: call(function, (self, *args), kwargs)


NAMESPACE: dict[str, Any] = {name: _plain(getattr(np, name)) for name in (*UFUNCS, *OTHERS)}
NAMESPACE |= {name: _plain(getattr(np, name), product=True) for name in PRODUCTS}
NAMESPACE |= {
    "ndarray": ndarray,
    "asarray": asarray,
    "array": lambda a, dtype=None, copy=True, order="K": asarray(a, dtype, order, copy=copy),
    "ascontiguousarray": lambda a, dtype=None: asarray(a, dtype, "C"),
    "asfortranarray": lambda a, dtype=None: asarray(a, dtype, "F"),
    "copy": lambda a, order="K": a.copy(order),
    "empty": lambda shape, dtype=float, order="C": ndarray(shape, dtype, order=order),
    "empty_like": lambda a, dtype=None: ndarray(a.shape, dtype or a.dtype),
    "zeros": lambda shape, dtype=float, order="C": full(shape, 0, dtype),
    "ones": lambda shape, dtype=float, order="C": full(shape, 1, dtype),
    "full": full,
    "arange": arange,
    "eye": lambda n, m=None, k=0, dtype=float: launch(lambda: np.eye(n, m, k), [], np.eye(n, m, k, dtype)),
    "where": where,
    "nonzero": where,
    "copyto": copyto,
    "asnumpy": asnumpy,
    "get_array_module": get_array_module,
    "shares_memory": lambda a, b: a._memory is b._memory and np.shares_memory(a._host, b._host),
    "may_share_memory": lambda a, b: a._memory is b._memory and np.may_share_memory(a._host, b._host),
}
NAMESPACE |= {name: getattr(np, name) for name in NUMPYS}


def _operator(name: str) -> None:
    symbol = getattr(operator, f"__{name}__")

    def forward(self: ndarray, other: Any) -> Any:
        return call(symbol, (self, other), {})

    def reflected(self: ndarray, other: Any) -> Any:
        return call(symbol, (other, self), {})

    def in_place(self: ndarray, other: Any) -> Any:
        found: list[ndarray] = []
        value, change, target = host(other, found), getattr(operator, f"__i{name}__"), self._host
        write(self, lambda: change(target, value), [self, *found])
        return self

    setattr(ndarray, f"__{name}__", forward)
    if name not in COMPARISONS:
        setattr(ndarray, f"__r{name}__", reflected)
        setattr(ndarray, f"__i{name}__", in_place)


for _name in (*OPERATORS, *COMPARISONS):
    _operator(_name)
for _name in ("neg", "pos", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", _method(getattr(operator, f"__{_name}__")))
for _name in METHODS:
    setattr(ndarray, _name, (lambda n: _method(lambda a, *args, **kw: getattr(a, n)(*args, **kw)))(_name))
ndarray.__matmul__ = lambda self, other: call(np.matmul, (self, other), {}, product=True)  # type: ignore[attr-defined]
ndarray.__rmatmul__ = lambda self, other: call(np.matmul, (other, self), {}, product=True)  # type: ignore[attr-defined]
ndarray.fill = lambda self, value: write(self, functools.partial(self._host.fill, value), [])  # type: ignore[attr-defined]
ndarray.nonzero = lambda self: where(self)  # type: ignore[attr-defined]
