"""The one tolerance rule, and what else must hold of a kernel's results. Every helper raises; none returns a bool.

With ``true`` the reference in float64 and k the longest reduction::

    err(fused) <= 2 err(reference in the same dtype) + sqrt(k) eps(dtype) max|true|

and then: same shape, same dtype, non-finite values in the same places, inputs bit-identical afterwards, outputs that
share no memory with an input.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cases_kit import Case

from mlpx.ops.dispatch import Op

Result = Any
"""An array, None, or a tuple of them."""

SENTINEL = 777.0
MARGIN = 3
"""Elements of `SENTINEL` around every array of an update: a kernel that writes past an end is seen, and none can
count on alignment."""


def parts(result: Result) -> list[Any]:
    """Return an op's result as a list of arrays and Nones."""
    return list(result) if isinstance(result, tuple) else [result]


def as_exact(array: Any) -> Any:
    """Return a float array in the next wider dtype (float64, or the processor's extended one); else as it is."""
    if not (isinstance(array, np.ndarray) and array.dtype.kind == "f"):
        return array
    return array.astype(np.float64 if array.dtype == np.float32 else np.longdouble)


def as_float64(array: Any) -> Any:
    """Return a float array in float64; anything else as it is."""
    return array.astype(np.float64) if isinstance(array, np.ndarray) and array.dtype.kind == "f" else array


def exact_result(reference: Callable[..., Any], args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    """Return the reference's result in wider arithmetic; in float64 where SciPy's erf knows no wider one."""
    try:
        return reference(np, *map(as_exact, args), **params)
    except TypeError:
        return reference(np, *map(as_float64, args), **params)


def check_close(name: str, fused: Result, reference: Result, true: Result, k: int) -> None:
    """Raise unless ``fused`` is as good as ``reference`` by the rule of this module."""
    f, r, t = parts(fused), parts(reference), parts(true)
    if not len(f) == len(r) == len(t):
        raise AssertionError(f"{name}: {len(f)} results; the reference has {len(r)}.")
    for number, (one, other, exact) in enumerate(zip(f, r, t, strict=True)):
        _check_one(f"{name}, result {number}", one, other, exact, k)


def _check_one(name: str, fused: Any, reference: Any, true: Any, k: int) -> None:
    if reference is None or fused is None:
        if fused is not reference:
            raise AssertionError(f"{name}: is {type(fused).__name__}; the reference is {type(reference).__name__}.")
        return
    if np.shape(fused) != np.shape(reference):
        raise AssertionError(f"{name}: has shape {np.shape(fused)}; the reference {np.shape(reference)}.")
    if np.asarray(fused).dtype != np.asarray(reference).dtype:
        raise AssertionError(
            f"{name}: has dtype {np.asarray(fused).dtype}; the reference {np.asarray(reference).dtype}."
        )
    check_same_places(name, fused, reference)
    # Where float32 overflowed and float64 did not, there is no error to measure; the places have been compared.
    finite = np.isfinite(reference) & np.isfinite(true)
    exact = np.asarray(true)[finite]
    if exact.size == 0:
        return
    error = float(np.max(np.abs(np.asarray(fused)[finite] - exact)))
    allowed = 2.0 * float(np.max(np.abs(np.asarray(reference)[finite] - exact)))
    allowed += float(np.sqrt(k) * np.finfo(np.asarray(reference).dtype).eps * np.max(np.abs(exact)))
    if not error <= allowed:  # NaN fails too
        raise AssertionError(f"{name}: is off by {error:.3g}; the rule allows {allowed:.3g} (k = {k}).")


def check_same_places(name: str, one: Any, other: Any) -> None:
    """Raise unless NaN, inf and -inf stand in the same places."""
    for what, test in (("NaN", np.isnan), ("inf", np.isposinf), ("-inf", np.isneginf)):
        if not np.array_equal(test(one), test(other)):
            where = tuple(int(i[0]) for i in np.nonzero(np.atleast_1d(test(one) != test(other))))
            raise AssertionError(f"{name}: {what} in other places than the reference, first at {where}.")


def snapshot(arrays: Sequence[Any]) -> list[Any]:
    """Return the bytes of every array, to be handed to `check_unchanged` later."""
    return [a.tobytes() if isinstance(a, np.ndarray) else a for a in arrays]


def check_unchanged(name: str, arrays: Sequence[Any], before: list[Any]) -> None:
    """Raise unless every array holds the very bytes it held before."""
    for number, (a, bytes_before) in enumerate(zip(arrays, before, strict=True)):
        if isinstance(a, np.ndarray) and a.tobytes() != bytes_before:
            raise AssertionError(f"{name}: wrote to its argument {number}.")


def check_no_alias(name: str, result: Result, arguments: Sequence[Any], allowed: Sequence[int] = ()) -> None:
    """Raise if a result shares memory with an argument; ``allowed`` numbers the results that may."""
    for number, out in enumerate(parts(result)):
        for place, a in enumerate(arguments):
            arrays = isinstance(out, np.ndarray) and isinstance(a, np.ndarray)
            if arrays and number not in allowed and np.may_share_memory(out, a):
                raise AssertionError(f"{name}: result {number} shares memory with argument {place}.")


def check_kernel(op: Op[..., Any], kernel: Callable[..., Any], case: Case) -> None:
    """Raise unless ``kernel`` may stand in for the op's reference on a case."""
    if op.name.endswith("_inplace"):
        _check_update(op, kernel, case)
        return
    name = f"{op.name}[{case.id}]"
    with np.errstate(all="ignore"):
        true = exact_result(op.reference, case.args, case.params)
        reference = op.reference(np, *case.args, **case.params)
    before = snapshot(case.args)
    result = kernel(*case.args, **case.params)
    check_unchanged(name, case.args, before)
    check_no_alias(name, result, case.args, case.may_alias)
    check_close(name, result, reference, true, case.k)


def _check_update(op: Op[..., Any], kernel: Callable[..., Any], case: Case) -> None:
    """The arrays that an update writes are compared; the gradient and what lies around the arrays must not change."""
    name = f"{op.name}[{case.id}]"
    true, reference = [as_exact(a).copy() for a in case.args], [a.copy() for a in case.args]
    framed = [np.pad(a, MARGIN, constant_values=SENTINEL) for a in case.args]
    fused = [a[MARGIN : a.size - MARGIN] for a in framed]
    with np.errstate(all="ignore"):
        op.reference(np, *true, **case.params)
        op.reference(np, *reference, **case.params)
    result = kernel(*fused, **case.params)
    if result is not None:
        raise AssertionError(f"{name}: returned {type(result).__name__}; an update returns nothing.")
    for number, a in enumerate(framed):
        if not (np.all(a[:MARGIN] == SENTINEL) and np.all(a[a.size - MARGIN :] == SENTINEL)):
            raise AssertionError(f"{name}: wrote outside its argument {number}.")
    check_unchanged(name, [fused[1]], snapshot([case.args[1]]))
    check_close(name, tuple(fused), tuple(reference), tuple(true), case.k)
