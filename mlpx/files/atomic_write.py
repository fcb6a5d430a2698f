"""Files replaced as a whole: written beside the old one, flushed to the disk, then renamed over it."""

import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
UNSYNCED = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)
"""What flushing a folder may raise where the file system has no such thing, or the folder cannot be opened."""


def file_path(argument: str, path: object) -> str:
    """Return the name of a file as a string.

    Raises
    ------
    TypeError
        If it is no str and no path object of one (bytes are none).
    ValueError
        If it is empty, holds a NUL character, or characters that file names cannot hold.
    """
    try:
        name = os.fspath(path)  # type: ignore[call-overload]
    except TypeError:
        name = None
    if not isinstance(name, str):
        raise TypeError(f"{argument}: expected the name of a file, a str or pathlib.Path, got {type(path).__name__}.")
    if not name or "\0" in name:
        came = "a NUL character" if name else "no characters"
        raise ValueError(f"{argument}: the name of a file holds {came}; expected one such as 'model.safetensors'.")
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        raise ValueError(f"{argument}: {name!r} cannot be the name of a file: {error.reason}.") from None
    return name


@contextmanager
def named_errors(argument: str, name: str) -> Iterator[None]:
    """Let errors of the operating system, of whatever kind, name the argument and the file that was asked for."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # worded here already
            raise
        raise OSError(error.errno, f"{argument}: {error.strerror}", name) from error


def write(argument: str, path: object, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a file so that whatever happens either the old content or the new one is there, whole.

    A link stays one: the file it leads to is replaced. Mode, owner, group and access lists of an old file are kept
    where the system allows; a new file gets the mode that the process's umask leaves. Errors name ``argument``.

    Raises
    ------
    TypeError, ValueError
        If ``path`` is no name of a file.
    FileExistsError
        If it is there and is no file, such as a pipe or a device: these cannot be replaced.
    OSError
        If the folder is not there, or the file or its folder cannot be written to.
    """
    name = file_path(argument, path)
    with named_errors(argument, name):
        target = os.path.realpath(name)
        old = _existing(argument, name, target)
        # The length of the temporary name does not depend on the target's, which may be as long as names can be.
        temporary = os.path.join(os.path.dirname(target), f".mlpx-{secrets.token_hex(8)}.tmp")
        handle = os.open(temporary, FLAGS, 0o666 if old is None else 0o600)
        try:
            with open(handle, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                if old is not None:
                    _take_over(handle, target, old)
                os.fsync(handle)
            _replace(argument, temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        _flush_folder(os.path.dirname(target))


def _existing(argument: str, name: str, target: str) -> os.stat_result | None:
    """Return what is known of the file to replace; None where there is none yet."""
    try:
        old = os.stat(name)
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(target)):
            folder = os.path.dirname(target)
            raise FileNotFoundError(f"{argument}: there is no folder {folder!r}; make it first.") from None
        return None
    if stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(f"{argument}: {name!r} is a folder; expected the name of a file.")
    if not stat.S_ISREG(old.st_mode) or not os.path.exists(target):  # such as a deleted file that is open as /dev/fd/3
        raise FileExistsError(f"{argument}: {name!r} is a pipe, a device or the like; expected the name of a file.")
    if not os.access(target, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, "The file may not be written to")
    return old


def _take_over(handle: int, target: str, old: os.stat_result) -> None:
    """Give a new file the owner, group, access lists and mode of the one that it replaces."""
    if sys.platform == "win32":  # whose files inherit theirs from the folder
        return
    mode, now = stat.S_IMODE(old.st_mode), os.fstat(handle)
    if (old.st_uid, old.st_gid) != (now.st_uid, now.st_gid):
        try:
            os.fchown(handle, -1, old.st_gid)
        except OSError:
            mode &= ~stat.S_IRWXG  # which were meant for another group
        with suppress(OSError):
            os.fchown(handle, old.st_uid, -1)
    if sys.platform == "linux":
        with suppress(OSError):  # a file system without them
            for attribute in os.listxattr(target):
                with suppress(OSError):  # those that only the system sets
                    os.setxattr(handle, attribute, os.getxattr(target, attribute))
    if stat.S_IMODE(os.fstat(handle).st_mode) != mode:
        with suppress(OSError):  # a file system without modes
            os.fchmod(handle, mode)


def _replace(argument: str, temporary: str, target: str) -> None:
    try:
        os.replace(temporary, target)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise OSError(
            f"{argument}: {target!r} is mounted by itself, so it cannot be replaced as a whole; mount its folder "
            "instead, or choose another name."
        ) from error


def _flush_folder(folder: str) -> None:
    """Let the new name reach the disk too."""
    if sys.platform == "win32":  # where folders cannot be opened
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in UNSYNCED:
            raise
