"""Compiled code on disk: what is damaged, missing, foreign or not to be written costs a compilation, and no more."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed: there is nothing compiled")

import numba

import mlpx
import mlpx_kernels
from mlpx_kernels import cache
from mlpx_kernels.cpu.lowlevel import store
from mlpx_kernels.cpu.lowlevel.compile import kernel


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that tells where compiled code is kept; nothing is, when a test begins."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_warned", set())
    store._folder.cache_clear()
    yield lambda: list((tmp_path / "cache").rglob("*.kernel"))
    store._folder.cache_clear()


def add_one(x):
    for i in range(x.size):
        x[i] += 1


def subtract_one(x):
    for i in range(x.size):
        x[i] -= 1


def found_after(function: Callable[[Any], None] = add_one, dtype: str = "float64") -> bool:
    """Call a function as a new process would, with code on disk or none; return whether its code was found."""
    made, x = kernel(function), np.zeros(3, dtype)
    made(x)
    np.testing.assert_array_equal(x, 1 if function is add_one else -1)
    return sum(made.stats.cache_hits.values()) == 1


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_code_is_kept_for_each_function_and_type(place) -> None:
    cases = [(add_one, "float64"), (add_one, "float32"), (subtract_one, "float64")]
    assert [found_after(*case) for case in cases] == [False] * 3
    assert [found_after(*case) for case in cases] == [True] * 3
    assert len(place()) == 3


def test_numba_is_left_alone(place, tmp_path, monkeypatch) -> None:
    """Neither is its setting changed, nor does one of its settings change where kernels are."""
    (tmp_path / "numba").mkdir()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "numba"))
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "NoSuchLocator", raising=False)
    found_after()
    assert str(tmp_path / "numba") == numba.config.CACHE_DIR
    assert not list((tmp_path / "numba").iterdir())
    assert len(place()) == 1


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[:-100],
    "halved": lambda whole: whole[: len(whole) // 2],
    "zeros": lambda whole: bytes(len(whole)),
    "no digest": lambda whole: whole[store.DIGEST_BYTES :],
    "a bit": lambda whole: whole[:5000] + bytes([whole[5000] ^ 4]) + whole[5001:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_code_is_compiled_and_written_anew(damage, place) -> None:
    found_after()
    (file,) = place()
    whole = file.read_bytes()
    file.write_bytes(DAMAGES[damage](whole))
    assert list(store.examine(file.parent)) == [(file.name, False)]
    assert not found_after()
    assert place() == [file]
    assert list(store.examine(file.parent)) == [(file.name, True)]
    assert found_after()


def test_code_under_the_name_of_other_code_is_not_run(place) -> None:
    found_after(add_one)
    (file,) = place()
    found_after(subtract_one)
    (other,) = set(place()) - {file}
    shutil.copy(file, other)
    assert not found_after(subtract_one)


def test_code_that_another_numba_has_written_is_compiled_anew(place, monkeypatch) -> None:
    """Each version keeps its own, in whichever turn they come."""
    for found in (False, True):
        for version in ("0.1", "0.2"):
            monkeypatch.setattr(numba, "__version__", version)
            store._folder.cache_clear()
            assert found_after() is found


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_where_code_cannot_be_written_it_runs_from_memory(number, place, tmp_path, monkeypatch) -> None:
    def fail(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.warns(RuntimeWarning, match=f"{tmp_path}.*{os.strerror(number)}.*Set MLPX_CACHE_DIR"):
        assert not found_after()
    assert not found_after(subtract_one)  # a second warning would be an error
    assert not list(store.folder().path.iterdir())


def test_where_there_is_no_folder_code_runs_from_memory(place, monkeypatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, os.devnull)
    with pytest.warns(RuntimeWarning, match="not kept: .*cannot be used"):
        assert not found_after()


def test_code_without_source_is_not_kept(place, monkeypatch) -> None:
    monkeypatch.setattr(add_one, "__module__", "no_such_module")
    with pytest.warns(RuntimeWarning, match="no_such_module"):
        assert not found_after()
    assert not place()


def test_a_folder_that_can_only_be_read_is_used(place, monkeypatch) -> None:
    """As in an image that root has warmed, and that another user runs."""
    found_after()

    def refuse(**options: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    store._folder.cache_clear()
    assert found_after()
    with pytest.warns(RuntimeWarning, match="Read-only file system"):
        assert not found_after(subtract_one)


def test_who_gives_up_rights_looks_for_another_folder(place, tmp_path, monkeypatch) -> None:
    if not hasattr(os, "geteuid"):
        pytest.skip("processes have no users here")
    first = store.folder()
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "other"))
    assert store.folder() == first
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert store.folder() != first


def test_a_child_forked_while_code_is_written_keeps_nobody_waiting(place, monkeypatch) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork here")
    write, children = os.fsync, []

    def fork_and_write(handle: int) -> None:
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        children.append(child)
        write(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fork_and_write)
        found_after()
    try:
        assert not found_after(subtract_one)
        assert found_after()
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)


def test_two_processes_may_write_at_once(tmp_path) -> None:
    """From an empty folder, code of the same function for two types; a third finds both."""
    code = (
        "import sys; from mlpx_kernels.cpu.plan.step_pieces import copy_in; [copy_in(dtype) for dtype in sys.argv[1:]]"
    )
    environment = os.environ | {cache.VARIABLE: str(tmp_path)}
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen([*command, dtype], env=environment) for dtype in ("float32", "float64")]
    assert [process.wait(120) for process in both] == [0, 0]
    files = sorted(tmp_path.rglob("*copy_in*.kernel"))
    assert len(files) == 2
    written = [file.stat().st_mtime_ns for file in files]
    subprocess.run([*command, "float32", "float64"], env=environment, check=True, timeout=120)
    assert sorted(tmp_path.rglob("*copy_in*.kernel")) == files
    assert [file.stat().st_mtime_ns for file in files] == written


def test_programs_in_zip_archives_and_without_source(tmp_path) -> None:
    """Kernels are kept where they are told to be, and an upgrade of any of their files is seen."""
    for package in (mlpx, mlpx_kernels):
        folder = Path(package.__file__).parent
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(folder, tmp_path / "source" / package.__name__, ignore=skipped)
    code = (
        "import mlpx, numpy as np\n"
        "from mlpx_kernels.cpu.lowlevel import store\n"
        "from mlpx_kernels.cpu.loss import labels_outside\n"
        "print(labels_outside(np.arange(3), 2), store.folder().path.name, mlpx.__file__)"
    )

    def run(path: str) -> tuple[str, str, bool]:
        """Return the kernel's result, the folder and whether its code was written."""
        before = len(list(tmp_path.rglob("*.kernel")))
        options = {"HOME": os.devnull, cache.VARIABLE: str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path / path)}
        result, folder, file = run_python(code, **options).split()
        assert file.startswith(str(tmp_path / path))
        return result, folder, len(list(tmp_path.rglob("*.kernel"))) > before

    shutil.make_archive(str(tmp_path / "app"), "zip", tmp_path / "source")
    result, first, written = run("app.zip")
    assert (result, written) == ("True", True)
    assert run("app.zip") == ("True", first, False)
    assert run("source") == ("True", first, False)
    with (tmp_path / "source/mlpx_kernels/cpu/lowlevel/memory.py").open("a") as file:
        file.write("# another version\n")
    shutil.make_archive(str(tmp_path / "app"), "zip", tmp_path / "source")
    result, second, written = run("app.zip")
    assert (result, written) == ("True", True)
    assert second != first
    subprocess.run([sys.executable, "-m", "compileall", "-bq", tmp_path / "source"], check=True, timeout=120)
    for file in (tmp_path / "source").rglob("*.py"):
        file.unlink()
    result, third, written = run("source")
    assert (result, written) == ("True", True)
    assert third not in (first, second)
