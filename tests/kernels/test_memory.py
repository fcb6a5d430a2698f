"""Scratch of compiled code: on a cache line, near or far, given back; and no arrays that anybody would count."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed: there is nothing compiled")

import numba
from numba.core.runtime import _nrt_python, rtsys

from mlpx_kernels import CannotCompile
from mlpx_kernels.cpu.lowlevel import memory
from mlpx_kernels.cpu.lowlevel.compile import kernel

SIZES = [0, 1, memory.STACK_LIMIT // 8, memory.STACK_LIMIT // 8 + 1, 1 << 20]


@kernel
def filled(size, places):
    """Ask for room several times, write all of it, and note where it lay; return the sum of what was written."""
    total = 0.0
    for i in range(places.size):
        scratch = memory.alloc_scratch(size, np.float64)
        places[i] = scratch.ctypes.data
        for k in range(size):
            scratch[k] = k + i
        for k in range(size):
            total += scratch[k]
        memory.free_scratch(scratch)
    return total


@kernel
def two(size):
    """Return whether two rooms that are held at once overlap."""
    a, b = memory.alloc_scratch(size, np.float32), memory.alloc_scratch(size, np.float32)
    for k in range(size):
        a[k], b[k] = 1.0, 2.0
    overlap = False
    for k in range(size):
        overlap |= a[k] != 1.0 or b[k] != 2.0
    memory.free_scratch(b)
    memory.free_scratch(a)
    return overlap


@pytest.mark.parametrize("size", SIZES)
def test_room_begins_on_a_cache_line_and_is_all_there(size: int) -> None:
    places = np.zeros(4, np.int64)
    assert filled(size, places) == sum(size * (size - 1) / 2 + size * i for i in range(4))
    assert (places % memory.LINE == 0).all()
    assert not two(size)


def test_far_room_is_given_back() -> None:
    _nrt_python.memsys_enable_stats()
    try:
        before = rtsys.get_allocation_stats()
        filled(memory.STACK_LIMIT, np.zeros(100, np.int64))
        after = rtsys.get_allocation_stats()
    finally:
        _nrt_python.memsys_disable_stats()
    assert after.alloc - before.alloc == after.free - before.free == 100


def test_kernels_allocate_no_arrays() -> None:
    @kernel
    def run(n):
        return np.empty(n)[0]

    with pytest.raises(CannotCompile, match=r"NumbaError|TypingError|LoweringError"):
        run(3)
    assert numba.njit(run.py_func)(3) is not None  # elsewhere it compiles
