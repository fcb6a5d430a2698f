"""Limits of threads for what runs layer by layer; without the compiled engine there are none.

The engine counts threads itself (mlpx_kernels.cpu.threading).
"""

from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from typing import ParamSpec, TypeVar

from mlpx.ops.dispatch import fused_mode
from mlpx.plan.engine import compiled_engine
from mlpx_kernels import Unsupported

T = TypeVar("T")
P = ParamSpec("P")


@cache
def _can_compile() -> bool:
    return find_spec("numba") is not None


def threads_in_force() -> int:
    """Return the number of threads that kernels on the CPU may use; 0 without kernels."""
    if not _can_compile() or fused_mode() == "off":
        return 0
    from mlpx_kernels.cpu.threading.thread_count import recent_n_threads

    return int(recent_n_threads())


def on_threads(at_most: int | None, function: Callable[P, T], *args: P.args, **own: P.kwargs) -> T:
    """Call a function whose kernels may use so many threads at most; None: as many as otherwise."""
    if at_most is not None and threads_in_force():
        from mlpx_kernels.cpu.threading import thread_count

        function = partial(thread_count.on_threads, at_most, function)
    return function(*args, **own)


def with_one_blas_thread(function: Callable[P, T], *args: P.args, **own: P.kwargs) -> T:
    """Call a function with every BLAS on one thread."""
    if threads_in_force():
        try:
            with compiled_engine():
                from mlpx_kernels.cpu.threading import blas_threads
            function = partial(blas_threads.with_one_blas_thread, function)
        except Unsupported:
            pass
    return function(*args, **own)
