"""Wrong arguments of ops: refused by name on every backend, before any kernel reads or writes beyond an array."""

import ctypes
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from guarded import PROTECTED, guarded

from mlpx import ops
from mlpx.ops.dispatch import op, using_fused
from mlpx.ops.signature import MOST_SEEN, arguments, number

SUPPORT = Path(__file__).parents[1] / "support"


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in a process of its own: a kernel that leaves its arrays ends it."""
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    with suppress(OSError):  # glibc's own checks of the heap, for what kernels write to
        ctypes.CDLL("libc_malloc_debug.so.0")
        environment |= {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "90"}
    command = [sys.executable, "-X", "faulthandler", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.skipif(not PROTECTED, reason="guard pages are made for Linux")
@pytest.mark.parametrize("front", [False, True])
def test_a_read_beyond_an_array_would_be_seen(front: bool) -> None:
    code = f"import numpy as np; from guarded import guarded; a = guarded(np.ones(5), front={front})\n"
    code += f"b = np.lib.stride_tricks.as_strided(a[{'0' if front else '-1'}:], (2,), ({-8 if front else 8},))\n"
    assert run("-c", code + "print(b[:1].sum())").stdout.split() == ["1.0"]
    assert run("-c", code + "print(b.sum())").returncode not in (0, 1)


def test_guarded_arrays_are_arrays() -> None:
    for front in (False, True):
        for a in (np.ones((3, 5), "f"), np.zeros((0, 3)), np.ones(()), np.array([True, False])):
            copy = guarded(a, front=front)
            assert (copy.shape, copy.dtype, copy.tobytes()) == (a.shape, a.dtype, a.tobytes())


def test_ops_with_every_argument_made_wrong() -> None:
    finished = run(str(SUPPORT / "odd_arguments.py"), "ops")
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.split() == list(ops.ALL)


def test_entries_of_kernels_with_every_array_made_wrong() -> None:
    """Called by themselves: what is no op's call gets no check of an op's."""
    finished = run(str(SUPPORT / "odd_arguments.py"), "kernels")
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.split() == list(ops.ALL)


X = np.ones((64, 4096), "f")
ONE, FULL = np.ones(1, "f"), np.ones(4096, "f")


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("name", ["batch_norm_grad", "batch_norm_inference_grad", "layer_norm_grad"])
def test_a_gain_of_one_number(name: str, mode: str) -> None:
    with using_fused(mode), pytest.raises(ValueError, match=rf"{name}: gamma has shape \(1,\); expected \(4096,\)"):
        getattr(ops, name)(X, X, ONE, FULL, FULL, eps=1e-5)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_statistics_of_too_few_rows(mode: str) -> None:
    x, s = np.arange(8, dtype="f").reshape(4, 2), np.ones((1, 1), "f")
    with using_fused(mode), pytest.raises(ValueError, match=r"mean has shape \(1, 1\); expected \(4, 1\), to match dy"):
        ops.layer_norm_grad(np.ones((4, 2), "f"), x, np.ones(2, "f"), s, s, eps=1e-5)
    with using_fused(mode), pytest.raises(ValueError, match=r"x has shape \(1, 3\); expected \(4, i\), to match dy"):
        ops.dense_grad_rows(x, np.ones((1, 3), "f"), x, activation="relu")


# --- what signatures remember -----------------------------------------------------------------------------------------


@pytest.fixture
def halved() -> Any:
    def halve(xp: Any, x: Any, w: Any = None, *, factor: float = 0.5, names: tuple[str, ...] = ()) -> Any:
        """Return half."""
        return x * factor

    from mlpx.ops.signature import name_of, several

    made = op(takes=arguments("x (..., n), w? (n)", factor=number(0.0, 1.0), names=several(name_of(["a"]))))(halve)
    del ops.ALL["halve"]
    return made


def test_what_was_right_once_is_no_excuse(halved: Any) -> None:
    x, w = np.ones((2, 3)), np.ones(3)
    for _ in range(2):
        halved(x, w, factor=0.25)
        with pytest.raises(ValueError, match=r"halve: w has shape \(2,\); expected \(3,\), to match x \(2, 3\)"):
            halved(x, w[:2], factor=0.25)
        with pytest.raises(TypeError, match="halve: w has dtype float32; expected float64"):
            halved(x, w.astype("f"), factor=0.25)
        with pytest.raises(ValueError, match=r"halve: factor: .*\[0, 1\], got 2.0"):
            halved(x, w, factor=2.0)
        with pytest.raises(TypeError, match="halve: factor: expected a number, got True"):
            halved(x, w, factor=True)
        with pytest.raises(ValueError, match="halve: w: is a masked array"):
            halved(x, np.ma.masked_equal(w, 1.0))
        with pytest.raises(TypeError, match=r"halve: takes no 'size'\. Known: factor, names"):
            halved(x, w, size=1)
        with pytest.raises(TypeError, match="halve: w is given twice"):
            halved(x, w, w=w)
        with pytest.raises(TypeError, match="halve: x is missing"):
            halved(w=w)
        with pytest.raises(TypeError, match="halve: expected up to 2 arrays, got 3"):
            halved(x, w, w)
        with pytest.raises(ValueError, match="halve: names: unknown name 'b'"):
            halved(x, names=("b",))
        assert halved(x, names=("a",)) is not x
        np.testing.assert_array_equal(halved(x=x, w=w, factor=np.float32(0.5)), 0.5 * x)


def test_little_is_remembered(halved: Any) -> None:
    for n in range(2 * MOST_SEEN):
        halved(np.ones(n))
    assert 0 < len(halved.takes._seen) <= MOST_SEEN
    seen = dict(halved.takes._seen)
    for factor in np.linspace(0.0, 1.0, 50):  # numbers are looked at each time, and take no room
        halved(np.ones(3), factor=float(factor))
        halved(np.ones(3), factor=factor)
    assert len(halved.takes._seen) <= len(seen) + 1


def test_arrays_of_other_classes_are_plain_arrays(halved: Any) -> None:
    x = np.ones((2, 3)).view(np.ma.MaskedArray)
    for _ in range(2):
        assert type(halved(x)) is np.ndarray


def test_a_declaration_that_differs_from_its_reference_is_refused() -> None:
    def halve(xp: Any, x: Any, *, factor: float) -> Any:
        """Return half."""

    for takes in (arguments("y (n)", factor=number()), arguments("x (n)"), arguments("x (n), w (n)", factor=number())):
        with pytest.raises(TypeError, match="halve: its signature declares other arguments"):
            op(takes=takes)(halve)
    for text in ("x", "x (n) y (n)", "x (n), , y (n)", "x float (n)"):
        with pytest.raises(ValueError, match="cannot be read"):
            arguments(text)


def test_what_an_update_writes_to_can_be_written() -> None:
    w, g = np.ones(5), np.ones(5)
    g.flags.writeable = False
    ops.sgd_inplace(w, g, lr=0.1)
    w.flags.writeable = False
    for mode in ("auto", "off"):
        with using_fused(mode), pytest.raises(ValueError, match="sgd_inplace: w is read-only, and the op writes to it"):
            ops.sgd_inplace(w, g, lr=0.1)
    np.testing.assert_allclose(w, 0.9)
