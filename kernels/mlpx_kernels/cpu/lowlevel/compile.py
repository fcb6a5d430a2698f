"""How kernels are compiled: without the GIL, without Python objects, kept on disk outside the installation."""

from collections.abc import Callable
from typing import Any

import numba
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock

from mlpx_kernels import CannotCompile, Unsupported, forks
from mlpx_kernels.cpu.lowlevel.store import KernelCache

if numba.config.DISABLE_JIT:
    raise Unsupported("Numba's compiler is switched off (NUMBA_DISABLE_JIT)")

FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
"""Sums may be reordered (that is what vectorises them) and a*b+c fused; NaN and infinities keep their meaning."""
OPTIONS = {"error_model": "numpy", "fastmath": FASTMATH, "_nrt": False}
"""Division by zero gives inf. No array is allocated and no reference counted: see memory.py."""


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called with given types: ``nogil``, kept on disk."""
    return _kept(numba.njit(nogil=True, no_cfunc_wrapper=True, **OPTIONS)(function), function)


def _kept(made: Any, function: Callable[..., Any]) -> Any:
    """Have a function's code kept on disk, and what stops the compiler be a reason why a kernel declines.

    What has failed is not tried again: it would take seconds at each call.
    """
    made._cache, attempt = KernelCache(function), made.compile

    def compiled(*args: Any) -> Any:
        forks.check()
        if not global_compiler_lock.is_locked():  # else it is part of another kernel
            forks.give_way()
        try:
            return attempt(*args)
        except (Unsupported, Warning):
            raise
        except Exception as error:
            what = str(error).strip().partition("\n")[0]
            reason = (
                f"{function.__module__}.{function.__qualname__} cannot be compiled ({type(error).__name__}: {what})"
            )
            made._cache.refuse(reason)
            raise CannotCompile(reason) from error

    made.compile = compiled
    return made


class Inlined:
    """A small function that kernels call; LLVM inlines it into their loops. Python runs it as Python.

    What would let Python and C call the compiled function takes Numba longer to compile than the function itself. A
    dispatcher without it ends the process when Python calls it all the same, so kernels alone are shown the dispatcher.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        self._function = function
        self._dispatcher = numba.njit(nogil=True, **OPTIONS, **options)(function)

    @property
    def _numba_type_(self) -> Any:
        return numba.typeof(self._dispatcher)

    def __call__(self, *args: Any) -> Any:
        """Run the function itself."""
        return self._function(*args)


inlined = Inlined
"""The decorator."""


def merged(function: Callable[..., Any]) -> Any:
    """Like `inlined`, for a function with one caller: it becomes part of that before either is typed.

    That is sooner compiled; with several calls each of them would pay for it.
    """
    return numba.njit(nogil=True, inline="always", **OPTIONS)(function)


def cached_callback(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function at once for a C signature; `address` is where it lies."""

    def decorate(function: Callable[..., Any]) -> Any:
        made = CFunc(function, numba.core.sigutils.normalize_signature(signature), locals={}, options=OPTIONS)
        _kept(made, function)
        made.compile()
        return made

    return decorate
