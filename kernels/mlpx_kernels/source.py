"""What the kernels are compiled from, wherever Python has it from: files, a zip archive, a frozen program.

Compiled code that is kept on disk goes by it, so that an upgrade never meets code of another version.
"""

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from types import CodeType


@cache
def of_module(name: str) -> str:
    """Return a hash of a module's file, or of its bytecode where it has none.

    Raises
    ------
    LookupError
        If its loader gives neither.
    """
    try:
        spec = find_spec(name)
        try:
            read = spec.loader.get_data(spec.origin)  # type: ignore[union-attr]
        except OSError:  # a frozen program names files that are not there
            read = b"\0".join(_parts(spec.loader.get_code(name)))  # type: ignore[union-attr]
    except (AttributeError, ImportError, OSError, TypeError, ValueError) as error:
        raise LookupError(f"the source of {name} cannot be read ({type(error).__name__}: {error})") from error
    return hashlib.sha256(read).hexdigest()


@cache
def of_kernels() -> str:
    """Return a hash of the source of all CPU kernels, and of what they share with those of other backends.

    Raises
    ------
    LookupError
        If it cannot be read.
    """
    top = [name for name, package in _modules("mlpx_kernels") if not package]
    names = [*top, *modules_below("mlpx_kernels.cpu")]
    if len(names) < 2:
        raise LookupError("the modules of mlpx_kernels cannot be listed")
    return hashlib.sha256("\n".join(f"{name} {of_module(name)}" for name in sorted(names)).encode()).hexdigest()


def _modules(package: str) -> Iterator[tuple[str, bool]]:
    """Yield the name of each module in a package, and whether it is a package itself."""
    for found in iter_modules(import_module(package).__path__, f"{package}."):
        yield found.name, found.ispkg


def modules_below(package: str) -> Iterator[str]:
    """Yield a package, and the names of all modules below it."""
    yield package
    for name, inner in _modules(package):
        yield from modules_below(name) if inner else [name]


def _parts(code: CodeType) -> Iterator[bytes]:
    """Yield what a function does, without the file and the lines it stands in."""
    yield code.co_code
    yield repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_argcount)).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts(constant)
        elif isinstance(constant, frozenset):  # the order of strings differs between processes
            yield repr(sorted(map(repr, constant))).encode()
        else:
            yield repr(constant).encode()
