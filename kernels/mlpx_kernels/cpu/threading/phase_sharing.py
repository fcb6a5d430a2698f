"""Work that threads share in blocks, phase by phase, inside one compiled function.

Opening a parallel region costs microseconds and a threading layer; a training step needs two meetings of a few threads
that are there already. A phase is a number of blocks that may run side by side; the next phase begins when all of them
are done. Threads claim blocks. Each begins with its own, so that it finds its data in its cache, and then takes what
nobody has claimed: a thread that comes late, or whose core went to somebody else, holds up nothing but a block that it
has already begun. Blocks, not threads, decide the result.
"""

import ctypes
import platform
import sys

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mlpx_kernels.cpu.lowlevel.compile import inlined

SPINS = 500
"""Looks before a waiting thread offers its core to others; some ten microseconds. With more, a machine whose cores are
busy otherwise spends its time slices on waiting: 20,000 looks made two threads twice as slow as one there."""
LINE = 8
"""Numbers on a cache line: the count of finished blocks, and each block's next phase, have one to themselves."""

_X86 = platform.machine().lower() in ("x86_64", "amd64", "i686", "x86")


def _register_yield() -> None:
    """Name the system's "let others run" for compiled code."""
    function = ctypes.windll.kernel32.SwitchToThread if sys.platform == "win32" else ctypes.CDLL(None).sched_yield
    llvmlite.binding.add_symbol("mlpx_yield", ctypes.cast(function, ctypes.c_void_p).value)


_register_yield()


def _slot(context, builder, array, value, index):
    data = cgutils.create_struct_proxy(array)(context, builder, value=value).data
    return builder.gep(data, [index])


@intrinsic
def _fetch_add(typingctx, array, index, amount):
    """Add to an element atomically; return what it was."""

    def codegen(context, builder, signature, args):
        place = _slot(context, builder, array, args[0], args[1])
        return builder.atomic_rmw("add", place, args[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), codegen


@intrinsic
def _load(typingctx, array, index):
    """Read an element that other threads write."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(_slot(context, builder, array, args[0], args[1]), "seq_cst", 8)

    return types.int64(array, types.int64), codegen


@intrinsic
def _swap(typingctx, array, index, before, after):
    """Replace an element atomically if it is still ``before``; return whether it was."""

    def codegen(context, builder, signature, args):
        place = _slot(context, builder, array, args[0], args[1])
        pair = builder.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 1)

    return types.boolean(array, types.int64, types.int64, types.int64), codegen


@intrinsic
def _pause(typingctx):
    """Tell the core that this is a waiting loop."""

    def codegen(context, builder, signature, args):
        if _X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _yield(typingctx):
    """Let another thread have the core."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "mlpx_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen


def new_shared(blocks):
    """Return the array that threads share: the count of finished blocks, and the phase that each block is to enter.

    No phase is open until `begin`.
    """
    shared = np.zeros(LINE * (1 + blocks), np.int64)
    shared[0] = -blocks
    return shared


def abandon(shared):
    """Let threads that wait for a beginning go home."""
    shared[0] = np.iinfo(np.int64).min


@inlined
def number_at(array, index):
    """Return an element that other threads write."""
    return _load(array, index)


@inlined
def count_up(array, index):
    """Add 1 to an element that other threads read; return what it was. They see what was written before."""
    return _fetch_add(array, index, 1)


@inlined
def lock(array, index):
    """Wait until an element is 0, and make it 1: for a few instructions at a time."""
    looks = 0
    while not _swap(array, index, 0, 1):
        idle(looks)
        looks += 1


@inlined
def unlock(array, index):
    """Make the element 0 again."""
    _fetch_add(array, index, -1)


@inlined
def begin(shared, blocks, n_threads):
    """Open phase 0, and let helpers come that a scheduler has put on this core, where they would wait for it."""
    _fetch_add(shared, 0, blocks)
    if n_threads > 1:
        _yield()


@inlined
def open_phase(shared, blocks):
    """Return the number of the phase whose blocks may be claimed; memory written in those before is seen.

    It is -1 before the beginning, and less than that when there will be none.
    """
    return _load(shared, 0) // blocks


@inlined
def claim(shared, block, phase):
    """Return whether a block of a phase is now the caller's to run; it must call `finish` afterwards.

    Only in an open phase can it be, so a late caller gets nothing.
    """
    place = LINE * (1 + block)
    return _load(shared, place) == phase and _swap(shared, place, phase, phase + 1)


@inlined
def finish(shared):
    """Count a block as done."""
    _fetch_add(shared, 0, 1)


@inlined
def idle(looks):
    """Spend a moment of waiting; after `SPINS` of them the core is offered to others."""
    if looks < SPINS:
        _pause()
    else:
        _yield()
