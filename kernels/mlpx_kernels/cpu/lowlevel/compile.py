"""How kernels are compiled: without the GIL, without Python objects, cached on disk outside the installation."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import IndexDataCacheFile
from numba.core.ccallback import CFunc

from mlpx_kernels.cache import folder as cache_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
"""Sums may be reordered (that is what vectorises them) and a*b+c fused; NaN and infinities keep their meaning."""
OPTIONS = {"error_model": "numpy", "fastmath": FASTMATH, "_nrt": False}
"""Division by zero gives inf. No array is allocated and no reference counted: see memory.py."""


@cache
def cache_directory() -> str | None:
    """Return the folder for compiled kernels, named after their source, or None when nothing can be written.

    Numba stamps a cached function with its own file alone; a change in a function that it calls from another file
    would go unseen. So the folder's name carries a hash over all of this package's source, and over what it shares
    with the kernels of other backends.
    """
    source = hashlib.sha256()
    cpu = Path(__file__).parents[1]
    for file in sorted((*cpu.rglob("*.py"), *cpu.parent.glob("*.py"))):
        source.update(file.read_bytes())
    place = cache_folder(f"kernels-{source.hexdigest()[:16]}")
    return None if place is None else str(place)


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Keep other processes from writing to a folder for a ``with`` block, where the system can."""
    with (Path(folder) / "writing").open("ab") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        yield


class _SharedFile(IndexDataCacheFile):  # type: ignore[misc]
    """A function's code on disk, for several kinds of arguments, which several processes may write at once.

    Numba reads the index, takes the first free name and writes both. Two processes that do so at the same moment take
    the same name for code of two dtypes, and one of these is then found under the other's.
    """

    def save(self, key: Any, data: Any) -> None:
        with _alone(self._cache_path):
            super().save(key, data)


def _share(compiled: Any) -> Any:
    """Let a function's code be written by one process at a time; return the function."""
    file = getattr(compiled._cache, "_cache_file", None)
    if file is not None:
        file.__class__ = _SharedFile
    return compiled


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called with given types: ``nogil``, cached."""
    folder = cache_directory()
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = folder or ""
    try:
        options = {"cache": folder is not None, "no_cfunc_wrapper": True}
        return _share(numba.njit(nogil=True, **OPTIONS, **options)(function))
    finally:
        numba.config.CACHE_DIR = before


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
        folder = cache_directory()
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = folder or ""
        try:
            made = CFunc(function, numba.core.sigutils.normalize_signature(signature), locals={}, options=OPTIONS)
            if folder is not None:
                made.enable_caching()
            _share(made)
            made.compile()
            return made
        finally:
            numba.config.CACHE_DIR = before

    return decorate
