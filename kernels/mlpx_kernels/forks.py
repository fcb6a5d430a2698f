"""Forks: a child process must not inherit a lock that another thread holds, since nobody would release it there.

Kernels may be imported or compiled by another thread at the moment of a fork. Then the fork waits, until that thread
is between two kernels: `PATIENCE` seconds at most. A child that was forked all the same has a compiler in the midst of
something. It imports and compiles no kernels; what is compiled already runs, and references for the rest.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from mlpx_kernels import CannotCompile

PATIENCE = 10.0
"""Seconds that a fork waits. Most kernels take less than one to compile, the largest some three."""
FOREIGN = {"numba.core.compiler_lock": "global_compiler_lock._lock", "llvmlite.binding.ffi": "lib._lock._lock"}
"""The locks of the compiler: the module, and where in it."""

importing = threading.RLock()
"""Held while kernels are imported."""
_forking: set[int] = set()
_own = threading.local()
_unfit = False


def check() -> None:
    """Raise where this process cannot import or compile kernels.

    Raises
    ------
    CannotCompile
        If it was forked while another thread did.
    """
    if _unfit:
        raise CannotCompile("no kernel can be compiled in a process that was forked while another thread compiled one")


def give_way() -> None:
    """Let a fork that waits go first: it would lose every race for the lock with a thread that compiles on and on."""
    while _forking and not importing._is_owned():  # type: ignore[attr-defined]
        time.sleep(0.001)


def _locks() -> Iterator[Any]:
    yield importing
    for module, path in FOREIGN.items():
        found: Any = sys.modules.get(module)
        for name in path.split("."):
            found = getattr(found, name, None)
        if found is not None:
            yield found


def _before() -> None:
    _own.held, _own.all = [], False
    if _unfit:
        return
    _forking.add(threading.get_ident())
    end = time.monotonic() + PATIENCE
    for lock in _locks():
        if not lock.acquire(timeout=max(0.0, end - time.monotonic())):
            return
        _own.held.append(lock)
    _own.all = True


def _release() -> None:
    for lock in reversed(_own.held):
        lock.release()
    _forking.discard(threading.get_ident())


def _in_child() -> None:
    global _unfit, importing
    _release()
    _forking.clear()
    if not _own.all:
        _unfit, importing = True, threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_release, after_in_child=_in_child)
