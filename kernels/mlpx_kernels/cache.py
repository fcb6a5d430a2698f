"""Where compiled kernels and what was measured here are kept on disk: the user's cache, never the installation.

What is read from there is run. So it belongs to the user or to root, and nobody else can write to it.
"""

import os
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlpx_kernels import STARTED_IN

VARIABLE = "MLPX_CACHE_DIR"


@dataclass(frozen=True)
class Folder:
    """A folder of the cache, as far as it can be used."""

    path: Path | None
    """None where nothing can be kept, and nothing read."""
    problem: str = ""
    """Why it cannot be written to, or used at all."""


def folder(name: str) -> Folder:
    """Return the folder ``name`` of the cache, made if need be.

    With ``MLPX_CACHE_DIR`` it is there or nowhere, and may be one that can only be read, such as that of a read-only
    image. Without, it is in the first of the usual places that can be written to.
    """
    named = os.environ.get(VARIABLE)
    if named:  # an empty variable says nothing
        return _folder(Path(STARTED_IN, named), name, 0o755)
    problems = []
    for place in _places():
        found = _folder(place, name, 0o700)
        if not found.problem:
            return found
        problems.append(found.problem)
    return Folder(None, "; ".join(problems))


def _places() -> Iterator[Path]:
    """Yield the usual places, best first."""
    if os.environ.get("XDG_CACHE_HOME"):
        yield Path(STARTED_IN, os.environ["XDG_CACHE_HOME"], "mlpx")
    try:
        home = Path.home()
    except RuntimeError:  # no HOME and no entry in the password file
        home = None
    if home == Path("/"):  # what an empty HOME comes to: nobody's home
        home = None
    if home is not None and sys.platform == "win32":
        yield Path(os.environ.get("LOCALAPPDATA") or home, "mlpx", "cache")
    elif home is not None:
        yield Path(STARTED_IN, home, "Library/Caches" if sys.platform == "darwin" else ".cache", "mlpx")
    with suppress(OSError):  # where there is no folder for temporary files
        # Named for the user, and no link: others may write to the folder for temporary files.
        place = Path(tempfile.gettempdir(), f"mlpx-{os.geteuid() if hasattr(os, 'geteuid') else 'user'}")
        if not place.is_symlink():
            yield place


def _folder(place: Path, name: str, mode: int) -> Folder:
    inner = place / name
    try:
        for each in (place, inner):
            each.mkdir(mode=mode, parents=True, exist_ok=True)
            if doubt := _doubt(each, each.stat()):
                return Folder(None, doubt)
    except OSError as error:
        return Folder(None, f"{place} cannot be used ({error.strerror or error})")
    try:
        with tempfile.TemporaryFile(dir=inner):
            return Folder(inner)
    except OSError as error:
        return Folder(inner, f"{inner} cannot be written to ({error.strerror or error})")


def _doubt(path: Path, found: os.stat_result) -> str:
    """Return why what lies in a folder, or in a file, must not be run; or nothing."""
    if not hasattr(os, "geteuid"):  # Windows
        return ""
    if found.st_uid not in (os.geteuid(), 0):
        return f"{path} belongs to user {found.st_uid}, neither to this user ({os.geteuid()}) nor to root"
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        return f"{path} can be written to by every user"
    return ""


def read_trusted(path: Path) -> bytes | None:
    """Return what is in a file; None where there is none to read, or where somebody else may have written it."""
    try:
        with path.open("rb") as file:
            return None if _doubt(path, os.fstat(file.fileno())) else file.read()
    except OSError:
        return None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever finds a part of it, even after a power cut.

    Raises
    ------
    OSError
        If it cannot be written; what was there before still is.
    """
    beside = path.with_name(f".{os.urandom(8).hex()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(beside, flags, 0o644), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


_warned: set[str] = set()


def warn_once(topic: str, message: str) -> None:
    """Warn, unless there has been a warning of this topic in this process."""
    if topic not in _warned:
        _warned.add(topic)
        warnings.warn(message, RuntimeWarning, stacklevel=2)
