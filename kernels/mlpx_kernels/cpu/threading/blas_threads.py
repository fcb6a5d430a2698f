"""Every BLAS on one thread while threads of our own share the products.

How many threads a BLAS takes is a setting of the whole process (with OpenMP and MKL, of the calling thread). It is set
and put back in compiled code, which a signal's handler cannot interrupt; callers in several threads are counted, and
the last one puts back what the first one found. threadpoolctl finds the libraries, but does not set them: it lets only
the first thread that sets OpenBLAS's do so.
"""

import ctypes
import os
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from threadpoolctl import ThreadpoolController

from mlpx_kernels.cpu.gemm import blas  # noqa: F401  (loads the library that kernels call)
from mlpx_kernels.cpu.lowlevel.compile import kernel
from mlpx_kernels.cpu.threading.phase_sharing import lock, unlock

FUNCTIONS = {
    "openblas": ("openblas_get_num_threads", "openblas_set_num_threads"),
    "flexiblas": ("flexiblas_get_num_threads", "flexiblas_set_num_threads"),
    "blis": ("bli_thread_get_num_threads", "bli_thread_set_num_threads"),
    "mkl": ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads_Local"),
    "openmp": ("omp_get_max_threads", "omp_set_num_threads"),
}
"""What asks each library for its threads, and what sets them."""
OF_THREAD = "mkl", "openmp"
"""Those that set the calling thread's alone."""
AFFIXES = [(before, after) for before in ("", "scipy_") for after in ("", "64_", "_64")]
"""What builds of OpenBLAS put around its names."""

T = TypeVar("T")

LOCK, CALLERS, GIVEN = range(3)
"""Places of the state: a lock, how many callers there are, and from GIVEN on what each library had before the first."""


@intrinsic
def _ask(typingctx, address):
    """Call the function ``int f(void)`` at an address."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [])
        return builder.sext(builder.call(builder.inttoptr(args[0], kind.as_pointer()), []), ir.IntType(64))

    return types.int64(types.int64), codegen


@intrinsic
def _tell(typingctx, address, n):
    """Call the function ``void f(int)`` at an address."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [builder.trunc(args[1], ir.IntType(32))])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@kernel
def _hold(state, libraries, held):
    """Set every library to one thread; ``held`` notes that, and what is the calling thread's own to put back."""
    lock(state, LOCK)
    held[0] = 1
    state[CALLERS] += 1
    for i in range(libraries.shape[0]):
        n = _ask(libraries[i, 0])
        if libraries[i, 2]:
            held[1 + i] = n
        elif state[CALLERS] == 1:
            state[GIVEN + i] = n
        if n != 1:
            _tell(libraries[i, 1], 1)
    unlock(state, LOCK)


@kernel
def _release(state, libraries, held):
    """Put back what `_hold` found, if it has run: unless somebody else has set another number since."""
    if held[0] == 0:
        return
    lock(state, LOCK)
    held[0] = 0
    state[CALLERS] -= state[CALLERS] > 0
    for i in range(libraries.shape[0]):
        n = held[1 + i] if libraries[i, 2] else state[GIVEN + i]
        last = libraries[i, 2] != 0 or state[CALLERS] == 0
        if last and n > 1 and _ask(libraries[i, 0]) == 1:
            _tell(libraries[i, 1], n)
    unlock(state, LOCK)


def _find() -> list[tuple[Any, tuple[int, int, bool]]]:
    """Return threadpoolctl's controller of each BLAS, its functions' addresses, and whether they set a thread's own."""
    found = []
    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        name = "openmp" if getattr(library, "threading_layer", "") == "openmp" else library.internal_api
        for before, after in AFFIXES:
            names = (f"{before}{each}{after}" for each in FUNCTIONS.get(name, ("", "")))
            asks, sets = (getattr(library.dynlib, each, None) for each in names)
            if asks and sets:
                addresses = (ctypes.cast(each, ctypes.c_void_p).value or 0 for each in (asks, sets))
                found.append((library, (*addresses, name in OF_THREAD)))
                break
    return found


_FOUND = _find()
LIBRARIES = [library for library, _ in _FOUND]
"""threadpoolctl's controllers."""
_ADDRESSES = np.array([addresses for _, addresses in _FOUND], np.int64).reshape(-1, 3)
_state = np.zeros(GIVEN + len(_FOUND), np.int64)
_nothing_held = np.zeros(1, np.int64)
for _function in (_hold, _release):  # compiled here, not while a signal may come, or where they must not fail
    _function(_state, _ADDRESSES[:0], _nothing_held)


def with_one_blas_thread(function: Callable[..., T], *args: object, **own: object) -> T:
    """Call a function with every BLAS on one thread, and put back what they had, whatever comes."""
    held = np.zeros(1 + len(_ADDRESSES), np.int64)
    try:
        _hold(_state, _ADDRESSES, held)
        return function(*args, **own)
    finally:
        _release(_state, _ADDRESSES, held)  # one call, at once: Python runs no signal's handler before it


def _in_child() -> None:
    """Put back what threads have set that a fork has not copied."""
    callers, _state[LOCK], _state[CALLERS] = _state[CALLERS], 0, 0
    if callers:
        held = np.zeros(1 + len(_ADDRESSES), np.int64)
        held[0] = 1
        _release(_state, _ADDRESSES, held)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
