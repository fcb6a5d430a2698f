"""Where compiled kernels are kept: where they are told, and nowhere that others can write to."""

import errno
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mlpx_kernels import cache

NOBODY = 12345
"""A user who runs no tests."""


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin where no variable names a place."""
    for name in (cache.VARIABLE, "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    monkeypatch.setattr(cache, "STARTED_IN", str(tmp_path / "started"))


@pytest.fixture
def unwritable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that belongs to somebody who is neither this user nor root."""
    if not hasattr(os, "geteuid"):
        pytest.skip("files have no owners here")
    place = tmp_path / "foreign"
    place.mkdir()
    if os.geteuid() == 0:
        os.chown(place, NOBODY, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    return place


def test_it_is_where_it_is_told(tmp_path, monkeypatch) -> None:
    home = tmp_path / "home"
    places = [cache.folder("x").path]
    assert places[0] is not None
    assert places[0].is_relative_to(home)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "xdg"))
    assert cache.folder("x") == cache.Folder(tmp_path / "xdg/mlpx/x")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "told"))
    assert cache.folder("x") == cache.Folder(tmp_path / "told/x")


def test_an_empty_variable_says_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    path = cache.folder("x").path
    assert path is not None
    assert path.is_relative_to(tmp_path / "home")


@pytest.mark.parametrize("variable", [cache.VARIABLE, "XDG_CACHE_HOME"])
def test_a_relative_one_is_meant_from_where_the_program_began(variable, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(variable, "relative")
    monkeypatch.chdir(tmp_path)
    path = cache.folder("x").path
    assert path is not None
    assert path.is_relative_to(tmp_path / "started/relative")


def test_without_a_folder_for_temporary_files(tmp_path, monkeypatch) -> None:
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert cache.folder("x").path is not None
    monkeypatch.setattr(Path, "home", lambda: Path(os.devnull))
    found = cache.folder("x")
    assert found.path is None
    assert f"{os.devnull}/.cache/mlpx cannot be used (Not a directory)" in found.problem


def test_without_a_home_it_is_among_temporary_files(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path(os.devnull))
    path = cache.folder("x").path
    assert path is not None
    assert path.parent.parent == tmp_path / "temporary"
    if os.name == "posix":
        assert path.parent.stat().st_mode & 0o777 == 0o700
        path.rmdir()
        path.parent.rmdir()
        path.parent.symlink_to(tmp_path)  # by somebody who knows the name
        assert cache.folder("x").path is None


def test_a_folder_that_cannot_be_written_to_is_read_if_it_was_named(tmp_path, monkeypatch, unwritable) -> None:
    assert cache.folder("x").path is None
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "told"))
    found = cache.folder("x")
    assert found.path == tmp_path / "told/x"
    assert "Read-only file system" in found.problem


def test_a_folder_of_somebody_else_is_not_used(foreign, monkeypatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(foreign))
    found = cache.folder("x")
    assert found.path is None
    assert f"{foreign} belongs to user" in found.problem
    assert not list(foreign.iterdir())


def test_a_folder_that_everybody_can_write_to_is_not_used(tmp_path, monkeypatch) -> None:
    if not hasattr(os, "geteuid"):
        pytest.skip("files have no modes here")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    tmp_path.chmod(0o777)
    assert "can be written to by every user" in cache.folder("x").problem
    tmp_path.chmod(0o1777)  # as the folder for temporary files is: nobody can move what is another's
    assert cache.folder("x").path == tmp_path / "x"
    (tmp_path / "x").chmod(0o777)
    assert cache.folder("x").path is None


def test_a_file_of_somebody_else_is_not_read(foreign) -> None:
    file = foreign / "file"
    file.write_bytes(b"code")
    if os.geteuid() == 0:
        assert cache.read_trusted(file) == b"code"
        os.chown(file, NOBODY, -1)
    assert cache.read_trusted(file) is None


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch) -> None:
    file = tmp_path / "file"
    cache.write_whole(file, b"first")
    umask = os.umask(0)
    os.umask(umask)
    assert os.name != "posix" or file.stat().st_mode & 0o777 == 0o644 & ~umask

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        cache.write_whole(file, b"second")
    assert file.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [file]


def test_a_warning_is_given_once(monkeypatch) -> None:
    monkeypatch.setattr(cache, "_warned", set())
    with pytest.warns(RuntimeWarning, match="first"):
        cache.warn_once("topic", "first")
    cache.warn_once("topic", "second")
