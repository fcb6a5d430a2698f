"""Files that are replaced as a whole: what was there stays what it was, or becomes what is new, and keeps its mode."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import mlpx
from mlpx.files import atomic_write
from mlpx.files.atomic_write import write

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes, links and pipes of POSIX")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_and_nothing_else_is_left(path) -> None:
    for content in (b"old", b"new one"):
        write("path", path, [content[:2], memoryview(content[2:])])
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(broken, path, monkeypatch) -> None:
    old = mlpx.MLP([4, 3], seed=1)
    old.save(path)

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic_write.os, broken, fail)
        with pytest.raises(OSError, match=r"path: No space left on device: '.*model\.safetensors'") as caught:
            mlpx.MLP([4, 3], seed=2).save(path)
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(path.parent) == [path.name]
    np.testing.assert_array_equal(mlpx.load(path).parameters, old.parameters)


def test_an_interruption_leaves_the_old_file_and_nothing_else(path) -> None:
    def chunks():
        yield b"half"
        raise KeyboardInterrupt

    write("path", path, [b"old"])
    with pytest.raises(KeyboardInterrupt):
        write("path", path, chunks())
    assert os.listdir(path.parent) == [path.name]
    assert path.read_bytes() == b"old"


def test_what_was_written_is_on_the_disk_before_the_name_points_to_it(path, monkeypatch) -> None:
    calls = []
    for name in ("fsync", "replace"):
        done = getattr(os, name)
        monkeypatch.setattr(atomic_write.os, name, lambda *a, n=name, f=done: calls.append(n) or f(*a))
    write("path", path, [b"new"])
    assert calls == ["fsync", "replace", "fsync"]


KILLED = """
import sys
from mlpx.files.atomic_write import write
for k in range(10**9):
    write("path", sys.argv[1], [bytes([k % 256]) * 200_000] * 5)
"""


def test_a_kill_leaves_one_whole_file(path) -> None:
    for moment in (0.3, 0.31, 0.32, 0.33):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)])
        while not path.exists():
            time.sleep(0.01)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        content = path.read_bytes()
        assert len(content) == 10**6
        assert len(set(content)) == 1


def test_names_as_long_as_they_can_be(tmp_path) -> None:
    path = tmp_path / ("m" * 255)
    for seed in (1, 2):
        mlpx.MLP([4, 3], seed=seed).save(path)
    assert mlpx.load(path).seed == 2
    with pytest.raises(OSError, match="path: File name too long"):
        mlpx.MLP([4, 3]).save(tmp_path / ("m" * 256))


def test_folders_that_are_not_there(path) -> None:
    with pytest.raises(FileNotFoundError, match=r"path: there is no folder '.*nowhere'; make it first"):
        mlpx.MLP([4, 3]).save(path.parent / "nowhere" / "model")
    with pytest.raises(IsADirectoryError, match=r"path: '.*' is a folder; expected the name of a file"):
        mlpx.MLP([4, 3]).save(path.parent)
    path.touch()
    with pytest.raises(NotADirectoryError, match="path: Not a directory"):
        mlpx.MLP([4, 3]).save(path / "model")
    assert os.listdir(path.parent) == [path.name]


# --- modes, links, pipes ----------------------------------------------------------------------------------------------


@posix
def test_the_umask_is_never_touched(path, monkeypatch) -> None:
    monkeypatch.setattr(os, "umask", None)
    write("path", path, [b"new"])
    write("path", path, [b"newer"])


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o007])
def test_a_new_file_gets_the_mode_that_the_umask_leaves(umask, path) -> None:
    before = os.umask(umask)
    try:
        write("path", path, [b"new"])
    finally:
        os.umask(before)
    assert mode(path) == 0o666 & ~umask


@posix
@pytest.mark.parametrize("kept", [0o600, 0o640, 0o666, 0o755, 0o4755])
def test_an_old_file_keeps_its_mode(kept, path) -> None:
    write("path", path, [b"old"])
    path.chmod(kept)
    write("path", path, [b"new"])
    assert (mode(path), path.read_bytes()) == (kept, b"new")


@posix
def test_a_new_content_is_never_more_open_than_the_old_file(path, monkeypatch) -> None:
    """Not even before the mode is set."""
    seen = []
    monkeypatch.setattr(atomic_write, "_take_over", lambda handle, *_: seen.append(os.fstat(handle).st_mode & 0o777))
    write("path", path, [b"old"])
    write("path", path, [b"new"])
    assert seen == [0o600]


@posix
def test_owner_and_group_are_kept(path) -> None:
    if os.geteuid():
        pytest.skip("only root gives files away")
    write("path", path, [b"old"])
    os.chown(path, 1234, 5678)
    path.chmod(0o640)
    write("path", path, [b"new"])
    assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (1234, 5678, 0o640)


@posix
def test_a_group_that_cannot_be_kept_is_not_replaced_by_another(path, monkeypatch) -> None:
    def refuse(*args):
        raise PermissionError

    write("path", path, [b"old"])
    path.chmod(0o664)
    old = list(os.stat(path))
    old[5] += 1
    monkeypatch.setattr(atomic_write.os, "fchown", refuse)
    monkeypatch.setattr(atomic_write, "_existing", lambda *_: os.stat_result(old))
    write("path", path, [b"new"])
    assert mode(path) == 0o604


@posix
def test_a_link_stays_one_and_its_target_is_written(tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    target, link, second = tmp_path / "folder" / "v1", tmp_path / "latest", tmp_path / "second"
    link.symlink_to(Path("folder") / "v1")
    second.symlink_to("latest")
    for content in (b"first", b"again"):  # to where nothing is yet, and over a file
        write("path", second, [content])
        assert link.is_symlink()
        assert second.is_symlink()
        assert target.read_bytes() == content
    assert os.listdir(target.parent) == ["v1"]


@posix
def test_what_is_no_file_is_refused_and_stays(tmp_path) -> None:
    pipe, loop, null = tmp_path / "pipe", tmp_path / "loop", tmp_path / "null"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    null.symlink_to(os.devnull)
    net = mlpx.MLP([4, 3])
    for path in (pipe, null):
        with pytest.raises(FileExistsError, match=r"path: '.*' is a pipe, a device or the like"):
            net.save(path)
        with pytest.raises(mlpx.ModelFileError, match="a pipe, a device or the like"):
            mlpx.load(path)
    with pytest.raises(OSError, match="path: Too many levels of symbolic links"):
        net.save(loop)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@posix
def test_a_file_that_only_its_number_names_is_refused(path) -> None:
    with path.open("wb") as file:
        path.unlink()
        with pytest.raises(OSError, match="path: "):
            write("path", f"/proc/self/fd/{file.fileno()}", [b"new"])
    assert os.listdir(path.parent) == []


def test_a_file_that_is_mounted_by_itself_is_refused(path, monkeypatch) -> None:
    def busy(*args):
        raise OSError(errno.EBUSY, "Device or resource busy")

    write("path", path, [b"old"])
    monkeypatch.setattr(atomic_write.os, "replace", busy)
    with pytest.raises(OSError, match=r"path: '.*' is mounted by itself, so it cannot be replaced as a whole"):
        write("path", path, [b"new"])
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_a_read_only_file_is_left_alone(path, monkeypatch) -> None:
    write("path", path, [b"old"])
    path.chmod(0o444)
    monkeypatch.setattr(atomic_write.os, "access", lambda *_, **__: False)  # as for all but root
    monkeypatch.setattr(atomic_write.os, "supports_effective_ids", {atomic_write.os.access})
    with pytest.raises(PermissionError, match=r"path: The file may not be written to: '.*'"):
        write("path", path, [b"new"])
    assert path.read_bytes() == b"old"


def test_many_threads_write_one_file(path) -> None:
    contents = [bytes([k]) * 50_000 for k in range(8)]
    threads = [
        threading.Thread(target=lambda c=c: [write("path", path, [c]) for _ in range(10)], daemon=True)
        for c in contents
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert os.listdir(path.parent) == [path.name]
