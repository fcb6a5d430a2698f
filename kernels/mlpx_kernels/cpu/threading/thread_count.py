"""How many threads the CPU kernels use: what was asked for, what the system allows, and what threadpoolctl limits.

From the first that says anything: ``MLPX_NUM_THREADS``; within a Dask task the worker's ``nthreads``; the least of
``NUMBA_NUM_THREADS`` and ``OMP_NUM_THREADS``, which joblib, Dask and batch systems set for processes that share a
machine; else the usable cores. Never more than there are cores, nor than `threadpoolctl.threadpool_limits` allows.
"""

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

import llvmlite.binding  # noqa: F401  (loads the library by which threadpoolctl finds the kernels)
from threadpoolctl import LibController, ThreadpoolController, register

QUOTA_KEPT = 5.0
"""Seconds for which a CPU quota counts as known: to read it takes up to a millisecond where much is mounted."""
RECENT = 0.01
"""Seconds for which the ops' own calls go by what was found last: to ask takes some 5 microseconds."""
OTHER_VARIABLES = "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"
BLAS_VARIABLES = "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "OMP_NUM_THREADS"

T = TypeVar("T")

_limit: ContextVar[int | None] = ContextVar("mlpx_threads", default=None)


@contextmanager
def using_threads(n: int | None) -> Iterator[None]:
    """Set the number of threads for a ``with`` block, in this thread or task alone; None leaves it as it is."""
    token = _limit.set(n if n is not None else _limit.get())
    try:
        yield
    finally:
        _limit.reset(token)


def on_threads(at_most: int, function: Callable[..., T], *args: object, **own: object) -> T:
    """Call a function for which `n_threads` is that of now, and ``at_most`` at most."""
    before = _limit.get()
    try:
        _limit.set(n_threads(at_most))
        return function(*args, **own)
    finally:
        _limit.set(before)  # one call, at once: Python runs no signal's handler before it


def n_threads(at_most: int | None = None) -> int:
    """Return the number of threads in force for the calling thread, 1 or more; ``at_most`` stands for any request.

    Raises
    ------
    ValueError
        If ``MLPX_NUM_THREADS`` is no whole number of at least 1.
    """
    inside = _limit.get()
    if inside is not None:
        return inside if at_most is None else min(inside, at_most)
    wanted = at_most or _mlpx_variable() or _of_dask_worker() or _of_other_variables() or usable_cores()
    return min(wanted, cores(), _threadpoolctl_limit() or wanted)


def recent_n_threads() -> int:
    """Return `n_threads`, at most `RECENT` seconds old: for work that takes no longer than to ask for it all."""
    inside = _limit.get()
    if inside is not None:
        return inside
    now = time.monotonic()
    if now >= _local.until:
        _local.count, _local.until = n_threads(), now + RECENT
    return _local.count


def cores() -> int:
    """Return the number of cores the calling thread may run on now."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores() -> int:
    """Return the cores that affinity and the CPU quota of the control group allow, at least 1."""
    quota = _Quota.now()
    return cores() if quota is None else max(1, min(cores(), math.floor(quota)))


# --- requests ---------------------------------------------------------------------------------------------------------


def _count(text: str) -> int | None:
    """Return a whole number of at least 1 in plain digits, else None."""
    plain = text.isascii() and text.isdecimal() and len(text) < 1000
    return int(text) or None if plain else None


def _mlpx_variable() -> int | None:
    given = os.environ.get("MLPX_NUM_THREADS")
    if not given:
        return None
    count = _count(given)
    if count is None:
        raise ValueError(f"MLPX_NUM_THREADS: expected a whole number of at least 1, got {given[:50]!r}.")
    return count


def _of_dask_worker() -> int | None:
    """Return ``nthreads`` of the Dask worker whose task calls, if one does."""
    get_worker = getattr(sys.modules.get("distributed"), "get_worker", None)
    if get_worker is None:
        return None
    try:
        return int(get_worker().state.nthreads)
    except (ValueError, AttributeError):  # no worker's task
        return None


def _of_other_variables() -> int | None:
    """Return the least number in the variables of OpenMP (its first: "4,2" is of nested regions) and Numba."""
    texts = (os.environ.get(name, "").split(",")[0].strip() for name in OTHER_VARIABLES)
    return min((count for text in texts if (count := _count(text))), default=None)


# --- control groups ---------------------------------------------------------------------------------------------------


class _Quota:
    """The CPU quota as it was read last."""

    cores: float | None = None
    until = -math.inf

    @classmethod
    def now(cls) -> float | None:
        """Return the quota in cores, None where there is none."""
        now = time.monotonic()
        if now >= cls.until:
            cls.cores, cls.until = quota(), now + QUOTA_KEPT
        return cls.cores


def quota(proc: Path = Path("/proc/self")) -> float | None:
    """Return the least CPU quota, in cores, of the process's control group and those above it; None: unlimited."""
    try:
        return min(_quotas(proc), default=None)
    except (OSError, ValueError, IndexError):
        return None


def _quotas(proc: Path) -> Iterator[float]:
    """Yield every quota (Linux, control groups of versions 1 and 2)."""
    mounts = [line.split() for line in (proc / "mountinfo").read_text().splitlines()]
    for line in (proc / "cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for fields in mounts:
            kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
            if kind == ("cgroup" if controllers else "cgroup2") and (not controllers or "cpu" in options):
                root, place = Path(_unescaped(fields[3])), Path(_unescaped(fields[4]))
                below = Path(group).relative_to(root) if Path(group).is_relative_to(root) else Path()
                for folder in (place / below, *(place / parent for parent in below.parents)):
                    yield from _quota_of(folder)


def _unescaped(path: str) -> str:
    """Return a path as it is: mountinfo writes a space as \\040."""
    return path.replace("\\040", " ").replace("\\134", "\\")


def _quota_of(folder: Path) -> Iterator[float]:
    """Yield the quota of one control group, if it has one."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except OSError:
        try:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except OSError:
            return
    if quota != "max" and int(quota) > 0:
        yield int(quota) / int(period)


# --- threadpoolctl ----------------------------------------------------------------------------------------------------


class ThreadpoolctlLimit(LibController):
    """The kernels' threads as `threadpoolctl.threadpool_limits` and `threadpool_info` see them.

    threadpoolctl finds pools by the shared libraries that a process has loaded, and kernels are compiled into memory;
    the compiler's library, loaded with them, stands for them. So they are seen from the first kernel on. A limit holds
    for the thread that sets it, as with OpenMP.
    """

    user_api = internal_api = "mlpx"
    filename_prefixes = ("libllvmlite", "llvmlite")

    def get_num_threads(self) -> int:
        """Return the number of threads in force; the cores where the settings are at fault, which is said elsewhere."""
        try:
            return n_threads()
        except ValueError:
            return cores()

    def set_num_threads(self, num_threads: int) -> None:
        """Limit the calling thread; with as many threads as there would be anyway, a block's end, lift the limit."""
        _local.limit, _local.until = None, -math.inf
        _local.limit = num_threads if num_threads < self.get_num_threads() else None

    def get_version(self) -> None:
        """Return None: the version is mlpx's."""


class _Local(threading.local):
    limit: int | None = None
    count, until = 1, -math.inf  # of `recent_n_threads`


_local = _Local()


def _threadpoolctl_limit() -> int | None:
    return _local.limit if _local.limit is not None else _Earlier.limit()


class _Earlier:
    """A limit of one thread that was set before threadpoolctl could see the kernels, in force while it is seen."""

    pools = None

    @classmethod
    def look(cls) -> None:
        """Look whether every pool of the process has one thread, and no variable says so."""
        pools = ThreadpoolController().lib_controllers
        limited = pools and all(pool.num_threads == 1 for pool in pools)
        if limited and not any(os.environ.get(name) for name in BLAS_VARIABLES):
            cls.pools = pools

    @classmethod
    def limit(cls) -> int | None:
        """Return 1 until one of the pools has more threads again."""
        pools = cls.pools
        if pools is None:
            return None
        if all(pool.num_threads == 1 for pool in pools):
            return 1
        cls.pools = None
        return None


if cores() > 1:
    _Earlier.look()
register(ThreadpoolctlLimit)
