"""Every op with every argument replaced by wrong ones, between guard pages: a program of its own, since a kernel that
reads beyond an array ends it. test_ops_arguments.py starts it; with "kernels" it calls the kernels' entries themselves.
"""

import copy
import math
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
from cases import Case, cases
from compare import check_close, check_unchanged, exact_result, snapshot
from guarded import guarded

from mlpx import ops
from mlpx.ops.dispatch import Op, using_fused
from mlpx_kernels import Unsupported

REFUSED = (TypeError, ValueError)


def chosen(name: str) -> list[Case]:
    """Return two cases of an op: the first in float64, and in float32 the one with the most arrays and axes."""
    every = [c for c in cases(name) if 1 < c.args[0].size < 3000 and "nan" not in c.id]
    most = max(
        (c for c in every if c.args[0].dtype == np.float32),
        key=lambda c: (sum(isinstance(a, np.ndarray) for a in c.args), c.args[0].ndim),
    )
    return [next(c for c in every if c.args[0].dtype == np.float64), most]


# --- arrays -----------------------------------------------------------------------------------------------------------


def other_shapes(a: Any) -> Iterator[tuple[str, Any]]:
    """Yield arrays of the same numbers that are too short, too long, or of another rank."""
    for axis in range(a.ndim):
        yield f"axis {axis} short", np.delete(a, -1, axis)
        yield f"axis {axis} long", np.concatenate([a, a], axis)
        yield f"axis {axis} of one", a.take([0], axis)
        yield f"axis {axis} empty", a.take([], axis)
    yield "flat", a.reshape(-1)
    yield "axis ahead", a[None]
    yield "axis behind", a[..., None]
    yield "turned", a.T
    yield "one element", np.ones(1, a.dtype)
    yield "no axes", np.ones((), a.dtype)


def other_dtypes(a: Any) -> Iterator[tuple[str, Any]]:
    """Yield arrays of the same shape and other kinds of numbers, or of none."""
    for dtype in ("f2", "f4", "f8", "g", "i1", "i8", "u8", "?", "c8", "c16", "U8", "S8", "O"):
        if a.dtype != dtype:
            yield f"dtype {dtype}", np.ones(a.shape, dtype) if dtype in "US" else a.astype(dtype)
    yield "dates", a.astype("i8").astype("M8[s]")
    yield "durations", a.astype("i8").astype("m8[s]")
    yield "records", np.zeros(a.shape, [("a", "f4"), ("b", "i4")])
    yield "bytes swapped", a.astype(a.dtype.newbyteorder())


def other_kinds(a: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is no array, or more than one."""
    yield "None", None
    yield "list", a.tolist()
    yield "number", 1.0
    yield "number of NumPy", a.dtype.type(1)
    yield "text", "x"
    yield "class", np.ndarray
    yield "masked", np.ma.masked_array(a, np.arange(a.size).reshape(a.shape) % 2 == 0)
    yield "masked nowhere", np.ma.masked_array(a)
    if a.ndim == 2:
        yield "matrix", np.asmatrix(a)


def other_layouts(a: Any) -> Iterator[tuple[str, Any]]:
    """Yield arrays of the same numbers that lie elsewhere, or otherwise."""
    yield "Fortran order", np.asfortranarray(a)
    if a.ndim:
        yield "every other", np.repeat(a, 2, axis=-1)[..., ::2]
        yield "reversed", np.flip(np.flip(a).copy())
        yield "one row throughout", np.broadcast_to(a[:1], a.shape)
    raw = np.zeros(a.nbytes + 1, np.uint8)
    aside = raw[1:].view(a.dtype).reshape(a.shape)
    aside[...] = a
    yield "not aligned", aside
    locked = a.copy()
    locked.flags.writeable = False
    yield "read-only", locked


def other_labels(a: Any) -> Iterator[tuple[str, Any]]:
    """Yield class numbers that are out of range."""
    if a.dtype.kind == "i" and a.size:
        for value in (-1, -(2**62), 10**6, 2**62):
            wrong = a.copy()
            wrong.reshape(-1)[-1] = value
            yield f"label {value}", wrong
        yield "labels of uint64", np.full(a.shape, 2**64 - 1, np.uint64)


def on_a_device(args: tuple[Any, ...]) -> bool:
    """Return whether arguments can be moved to a GPU as they are: no strings, objects or layouts of the host's own."""
    arrays = [a for a in args if isinstance(a, np.ndarray)]
    return all(type(a) is np.ndarray and a.dtype.kind in "fiub" and a.dtype.isnative for a in arrays) and not any(
        a.dtype == np.longdouble for a in arrays
    )


def odd_arrays(args: tuple[Any, ...]) -> Iterator[tuple[int, str, tuple[Any, ...]]]:
    """Yield (place, what is odd, arguments) with one array replaced each time."""
    for place, a in enumerate(args):
        if not isinstance(a, np.ndarray):
            continue
        for replace in (other_shapes, other_dtypes, other_kinds, other_layouts, other_labels):
            for what, wrong in replace(a):
                yield place, what, (*args[:place], wrong, *args[place + 1 :])


# --- options ----------------------------------------------------------------------------------------------------------

ODD_OPTIONS = [
    None, "x", "relu", b"relu", np.nan, np.inf, -np.inf, -1, -1.0, 0, 0.5, 1, 1.5, 2**63, 2**64, -(2**64), 10**400,
    1j, True, np.True_, np.float64(0.5), np.float32(0.5), np.int8(1), np.int64(3), np.longdouble(0.5), Decimal("0.5"),
    np.datetime64("2020-01-01"), np.complex64(0.5), np.array(0.5), np.array([0.5]), np.array([0.5, 0.5]), [0.5], (0.5,),
    (0.5, 0.5), (1,), (-1,), (7,), ("x",), (None,), (), {}, {1}, float, np.str_("relu"), np.void(b"a"),
]  # fmt: skip


def odd_options(op: Op[..., Any], case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, options) with one option replaced each time, also by what no op takes."""
    assert op.takes is not None
    for name in op.takes.options:
        for value in ODD_OPTIONS:
            yield name, {**case.params, name: value}
    yield "strength", {**case.params, "strength": 1.0}


# --- calls ------------------------------------------------------------------------------------------------------------


def plain(a: Any) -> Any:
    """Return an array as NumPy's own, whatever its class and layout; else as it is."""
    return np.array(a) if isinstance(a, np.ndarray) else a


def plain_option(value: Any) -> Any:
    """Return a number as Python's own."""
    if isinstance(value, tuple | list):
        return tuple(map(plain_option, value))
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Decimal) or (isinstance(value, np.ndarray | np.longdouble) and np.ndim(value) == 0):
        return float(value)
    return value.item() if isinstance(value, np.generic) else value


def judge(op: Op[..., Any], case: Case, what: str, argument: str, args: tuple[Any, ...], options: Any) -> bool:
    """Call an op; raise unless it refuses by name, or is as good as its reference. Return whether it refused."""
    where = f"{op.name}[{case.id}], {argument}: {what}"
    before = snapshot(args)
    reference, true = [plain(a) for a in args], [plain(a) for a in args]
    try:
        result = op(*args, **options)
    except REFUSED as error:
        words = str(error)
        if op.name not in words or argument not in words:
            raise AssertionError(f"{where}: is refused in words that name neither: {words}") from error
        check_unchanged(where, args, before)
        return True
    options = {name: plain_option(value) for name, value in options.items()}
    if op.takes.limits.get(argument, [None])[0] is float and 1e9 < abs(options[argument]) < math.inf:
        return False  # beyond what the rule of compare.py is for: squares overflow in one order of products alone
    with np.errstate(all="ignore"):
        if op.name.endswith("_inplace"):
            op.reference(np, *reference, **options)
            true = [a.astype(np.longdouble) for a in true]
            op.reference(np, *true, **options)
            result, reference, true = tuple(args), tuple(reference), tuple(true)
        else:
            check_unchanged(where, args, before)
            true = exact_result(op.reference, tuple(true), options)
            reference = op.reference(np, *reference, **options)
    check_close(where, result, reference, true, case.k)
    return False


def copied(args: tuple[Any, ...], front: bool) -> tuple[Any, ...]:
    """Return arguments between guard pages where their layout allows, else copies: an update writes to them."""
    return tuple(guarded(a, front=front) if type(a) is np.ndarray and _ordinary(a) else copy.deepcopy(a) for a in args)


def _ordinary(a: Any) -> bool:
    return bool(a.flags.c_contiguous and a.flags.writeable and a.flags.aligned)


Call = tuple[Case, str, str, tuple[Any, ...], dict[str, Any]]
"""What is odd, and which argument it is, between the case and its arguments and options."""


def every_call(name: str, *, arrays_alone: bool = False) -> Iterator[Call]:
    """Yield (case, what is odd, which argument, arguments, options) of an op."""
    op = ops.ALL[name]
    assert op.takes is not None
    names = [operand.name for operand in op.takes.operands]
    for case in chosen(name):
        for place, what, args in odd_arrays(case.args):
            yield case, what, names[place], args, case.params
        for option, options in odd_options(op, case):
            if arrays_alone and option not in ("q", "shared_axes"):  # the others lead to no place in memory
                continue
            yield case, f"{options[option]!r}"[:60], option, case.args, options
        yield case, "one too many", "arrays", (*case.args, *[None] * (len(names) - len(case.args)), None), case.params
        yield case, "none", names[0], (), case.params


def check_op(name: str, modes: tuple[str, ...] = ("auto", "off")) -> None:
    """Raise unless an op holds against all of it, and refuses something."""
    refused = 0
    for number, (case, what, argument, args, options) in enumerate(every_call(name)):
        for mode in modes:
            with using_fused(mode):
                refused += judge(ops.ALL[name], case, what, argument, copied(args, number % 2 == 0), options)
    assert refused > 50, name


def check_entry(name: str, entry: Callable[..., Any]) -> None:
    """Raise where a kernel's entry, called by itself, writes to an argument, or fails without saying why."""
    for number, (_, what, argument, args, options) in enumerate(every_call(name, arrays_alone=True)):
        given = copied(args, number % 2 == 0)
        before = snapshot(given)
        try:
            entry(*given, **options)
        except (*REFUSED, Unsupported, AttributeError, LookupError, ArithmeticError):
            check_unchanged(f"{name}, {argument}: {what}", given, before)
        if not name.endswith("_inplace"):
            check_unchanged(f"{name}, {argument}: {what}", given, before)


def main(what: str) -> None:
    """Check everything; print each op's name as it is done."""
    np.seterr(all="ignore")
    for name, op in ops.ALL.items():
        if what == "ops":
            check_op(name)
        else:
            check_entry(name, op.kernel("numpy"))
        print(name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
