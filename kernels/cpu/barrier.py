"""A spinning barrier for threads that run the same compiled function side by side.

Opening a parallel region costs microseconds and a threading layer; a training step needs two meetings of a few
threads that are there already. Each thread counts itself in and waits, spinning, until the last one has come.
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

from mlpx_kernels.cpu.compile import inlined

SPINS = 500
"""Looks before a waiting thread offers its core to others; some ten microseconds. With more, a machine whose cores are
busy otherwise spends its time slices on waiting: 20,000 looks made two threads twice as slow as one there."""
COUNT, GENERATION = 0, 8
"""Places in the shared int64 array, on cache lines of their own."""

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
def _store(typingctx, array, index, value):
    """Write an element that other threads read."""

    def codegen(context, builder, signature, args):
        builder.store_atomic(args[2], _slot(context, builder, array, args[0], args[1]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), codegen


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


def new_barrier():
    """Return the shared array of a barrier."""
    return np.zeros(16, np.int64)


@inlined
def wait(shared, n_threads):
    """Return when ``n_threads`` threads have called this with the same array; memory written before is seen after."""
    if n_threads == 1:
        return
    generation = _load(shared, GENERATION)
    if _fetch_add(shared, COUNT, 1) == n_threads - 1:
        _store(shared, COUNT, 0)
        _store(shared, GENERATION, generation + 1)
        return
    spins = 0
    while _load(shared, GENERATION) == generation:
        spins += 1
        if spins < SPINS:
            _pause()
        else:
            _yield()
