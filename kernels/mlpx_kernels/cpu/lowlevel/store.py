"""Compiled code on disk: a file for each function and the types it was compiled for, whole or as good as not there.

Numba's own cache has an index for each function, which processes that write at once would have to lock, and raises what
a damaged file, a full disk or a program in a zip archive leads to. Here a file's name says what is in it, so that
processes share nothing but whole files. What cannot be read is compiled anew, and written anew; what cannot be written
lives in memory, with one warning. Numba's settings are left alone.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps, loads

from mlpx_kernels import CannotCompile
from mlpx_kernels.cache import VARIABLE, Folder, read_trusted, warn_once, write_whole
from mlpx_kernels.cache import folder as cache_folder
from mlpx_kernels.source import of_kernels, of_module

DIGEST_BYTES = 32
_refused: dict[str, str] = {}
"""Why code could not be compiled in this process, by the name of its file."""


def folder() -> Folder:
    """Return where compiled code is kept: for one version of the kernels, of Python, of Numba and of llvmlite.

    Some of a kernel comes from functions of other files, so the folder's name has a hash of the source of all of them.
    """
    return _folder(os.geteuid() if hasattr(os, "geteuid") else 0)


@cache
def _folder(user: int) -> Folder:
    """Return the folder for a user: a process that has given up its rights looks again."""
    try:
        source = of_kernels()[:16]
    except LookupError as error:
        return Folder(None, str(error))
    tag = sys.implementation.cache_tag
    return cache_folder(f"kernels-{source}-{tag}-numba-{numba.__version__}-llvmlite-{llvmlite.__version__}")


class KernelCache(NullCache):  # type: ignore[misc]
    """What Numba asks for the compiled code of a function, and gives it to."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._wanted = ""

    @property
    def cache_path(self) -> Path | None:
        """The folder."""
        return folder().path

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the code for a signature, or None where there is none that can be used.

        Raises
        ------
        CannotCompile
            If it could not be compiled before.
        """
        self._wanted = ""
        target_context.refresh()
        with suppress(LookupError):
            self._wanted = self._name(sig, target_context.codegen())
        if self._wanted in _refused:
            raise CannotCompile(_refused[self._wanted])
        place = folder().path
        if place is None or not self._wanted:
            return None
        try:
            content = _content(place / self._wanted)
            return None if content is None else CompileResult._rebuild(target_context, *loads(content))
        except Exception:  # whatever is wrong with it, it can be compiled
            return None

    def refuse(self, reason: str) -> None:
        """Remember that the code which was asked for last cannot be compiled."""
        if self._wanted:
            _refused[self._wanted] = reason

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code for a signature; where that fails, warn."""
        if any(not each.can_cache for each in data.lifted) or data.library.has_dynamic_globals:
            return  # it has addresses of this process
        place = folder()
        problem = place.problem
        if place.path is not None and not problem:
            try:
                name = self._name(sig, data.codegen)
                content = dumps(data._reduce())
                write_whole(place.path / name, _digest(name, content) + content)
                return
            except Exception as error:
                problem = f"{place.path} cannot be written to ({getattr(error, 'strerror', None) or error})"
        warn_once(
            "kernels are not kept",
            f"Compiled kernels are not kept: {problem}. Each start of the program compiles them anew, which takes "
            f"seconds. Set {VARIABLE} to a folder that this user can write to, or have `mlpx warmup` fill one that "
            "belongs to this user or to root.",
        )

    def _name(self, sig: Any, codegen: Any) -> str:
        """Return the name of the file: it has all that the code depends on, but what the folder's name has."""
        function = self._function
        code, cells = function.__code__, tuple(cell.cell_contents for cell in function.__closure__ or ())
        module, svml = function.__module__, numba.config.USING_SVML
        told = sig, codegen.magic_tuple(), of_module(module), code.co_firstlineno, code.co_code, dumps(cells), svml
        readable = f"{module.rpartition('.')[2]}.{function.__qualname__}".replace(".<locals>", "")
        return f"{readable}-{hashlib.sha256(repr(told).encode()).hexdigest()[:24]}.kernel"


def _digest(name: str, content: bytes) -> bytes:
    """Return what a file begins with: it shows damage, and that a file has another one's name."""
    return hashlib.sha256(name.encode() + content).digest()


def _content(path: Path) -> bytes | None:
    """Return the compiled code in a file; None where there is none, or a damaged one."""
    stored = read_trusted(path) or b""
    content = stored[DIGEST_BYTES:]
    return content if stored[:DIGEST_BYTES] == _digest(path.name, content) else None


def examine(place: Path) -> Iterator[tuple[str, bool]]:
    """Yield the name of each file of compiled code in a folder, and whether it can be used."""
    for path in sorted(place.glob("*.kernel")):
        yield path.name, _content(path) is not None
