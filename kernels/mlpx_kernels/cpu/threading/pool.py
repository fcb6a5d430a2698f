"""Threads that help for a moment at a time, and stay awake in between.

A thread that sleeps takes 20 to 60 microseconds to come, and may not come for milliseconds: a scheduler likes to wake
it on the core of the thread that woke it, where it waits, with another core idle; or to move the caller beside it. So a
helper that is done looks out for more work for about a millisecond before it sleeps, and while it is wanted the caller
stays on its core and helpers off it; where work is shared in compiled code, and nobody waits for the GIL, it is enough
to keep helpers off. (1000 x 1000 numbers through softmax: 320 us, 409 on one thread, up to 2,500 with
threads that a scheduler placed.)
"""

import ctypes
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock, get_native_id

import numpy as np

from mlpx_kernels.cpu.threading.phase_sharing import new_shared
from mlpx_kernels.cpu.threading.work_queue import PARTS, PIECE, lead, new_board, watch

LINGER = 3000
"""Looks of a helper for new work: about a millisecond, most of it offered to other threads."""
SETTLE = 300
"""Looks between a call for help and its answer: some 5 microseconds, after which the caller has left the GIL for its
own share of the work. A helper that met a taken GIL would fall asleep over it."""


def _find_processor() -> Callable[[], int] | None:
    """Return the function that tells which core the calling thread runs on, where threads can be kept to cores."""
    try:
        return ctypes.PyDLL(None).sched_getcpu if hasattr(os, "sched_setaffinity") else None
    except (AttributeError, OSError, TypeError):
        return None


_processor = _find_processor()
_UNREAD = np.empty(1, np.int64)
"""Where `watch` leaves a sign that nobody looks at."""
_NO_BOARD = 0, 1, new_board(), new_shared(1), 1


def _may_run(thread: int, cores: set[int]) -> None:
    """Say on which cores a thread may run; 0 is the calling one."""
    try:
        os.sched_setaffinity(thread, cores)
    except OSError:  # a container may forbid it; then things are as the scheduler likes them
        return


class Job:
    """A function to call once, unless it is taken back before somebody has begun it.

    Attributes
    ----------
    free : array (1,)
        Becomes 1 when the thread that called the function does without the GIL again.
    error : BaseException, optional
        What the function raised.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self.function, self.error = function, None
        self.free = np.zeros(1, np.int64)
        self._begun, self._over = Lock(), Lock()  # a tenth of what a Future costs, which is made to be waited for
        self._over.acquire()

    def take(self) -> bool:
        """Return whether the job is the caller's, who is the first to ask: to run it, or so that nobody does."""
        return self._begun.acquire(blocking=False)

    def run(self) -> None:
        """Call the function, unless that is no longer wanted."""
        if not self.take():
            return
        try:
            self.function()
        except BaseException as error:
            self.error = error
        finally:
            self._over.release()

    def wait(self) -> BaseException | None:
        """Wait until it is done, awake at first; return what it raised, or a Ctrl-C that came meanwhile.

        A caller that met a taken GIL would fall asleep over it, so it waits until the helper has left it.
        """
        interrupt = None
        while True:
            try:
                watch(self.free, 0, LINGER, 0, _UNREAD, *_NO_BOARD)
                with self._over:
                    return self.error or interrupt
            except KeyboardInterrupt as signal:  # what the function works on must outlive it
                interrupt = signal


class Help:
    """A ``with`` block during which helpers call functions; see `Crew.helping`.

    Ctrl-C may come between any two lines: where the caller may run is known before that is changed, and what has been
    asked for is taken back.
    """

    def __init__(self, crew: "Crew", functions: list[Callable[[], object]], wait: bool) -> None:
        self.crew, self.wait = crew, wait
        self.jobs = [Job(function) for function in functions]
        self.allowed: set[int] = set()

    def __enter__(self) -> None:
        try:
            core, allowed = self.crew._keep_off()
            if len(allowed) > 1:
                self.allowed = allowed
                _may_run(0, {core})
            self.crew._ask(self.jobs)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        try:
            begun = [job for job in self.jobs if not job.take()]
            errors = [job.wait() for job in begun if self.wait]
        finally:
            if self.allowed:
                _may_run(0, self.allowed)
        for raised in errors:
            if raised is not None:
                raise raised


class Crew:
    """So many helpers, for any number of callers.

    Attributes
    ----------
    active : int
        How many have been woken and have not gone to sleep again.
    awake : int
        How many of them are looking out for work just now.
    """

    def __init__(self, size: int) -> None:
        self.size, self.parts = size, PARTS * (size + 1)
        self.members: list[int] = []
        self.elsewhere: set[int] = set()
        self.sleepers = ThreadPoolExecutor(size, "mlpx", initializer=self._join)
        self.lock, self.jobs = Lock(), deque[Job]()
        self.active = self.awake = 0
        self.bell = np.zeros(1, np.int64)
        self.board, self.shared, self.posting = new_board(), new_shared(self.parts), Lock()
        self.shared[0] = 0  # the first work may begin
        watch(self.bell, 1, 1, 0, _UNREAD, *_NO_BOARD)  # compiled here, not while somebody waits

    def helping(self, functions: list[Callable[[], object]], *, wait: bool = True) -> Help:
        """Let helpers call functions while a ``with`` block does the caller's share of the work.

        At its end, what no helper has begun is not begun any more; for the rest it waits (and raises what that raises)
        unless told not to.
        """
        return Help(self, functions, wait)

    def share(self, piece: int, arguments: tuple[int, int, int, int], rows: int, step: int) -> bool:
        """Call the piece at an address for all rows, shared with the helpers in compiled code; see `share_piece`.

        Returns whether it was done: not, and nothing has begun, while another thread shares something.
        """
        if self.posting.locked():
            return False
        with self.posting:  # who has come at the same moment waits for one work
            self._keep_off()
            self.board[PIECE:] = piece, *arguments, rows, step
            self._wake(self.size - self.awake)
            lead(self.size + 1, self.board, self.shared, self.parts)
        return True

    def _keep_off(self) -> tuple[int, set[int]]:
        """Keep helpers off the caller's core until they are called from another.

        Returns that core, and those on which the caller may run; none, where threads cannot be kept to cores.
        """
        allowed = os.sched_getaffinity(0) if _processor else set()
        core = _processor() if _processor else -1
        if core not in allowed:
            return core, set()
        elsewhere = allowed - {core}
        if elsewhere and self.elsewhere != elsewhere:
            self.elsewhere = elsewhere
            for member in self.members:
                _may_run(member, elsewhere)
        return core, allowed

    def _join(self) -> None:
        """Begin as a helper: a new thread may run where the one may that made it."""
        self.members.append(get_native_id())
        if self.elsewhere:
            _may_run(0, self.elsewhere)

    def _ask(self, jobs: list[Job]) -> None:
        """Tell helpers of jobs, and wake as many as there are more jobs than helpers awake."""
        with self.lock:
            self.jobs.extend(jobs)
            asleep = len(jobs) - self.awake
            self.bell[0] += 1
        self._wake(asleep)

    def _wake(self, wanted: int) -> None:
        """Wake so many helpers, if so many are asleep."""
        for _ in range(wanted):
            with self.lock, suppress(RuntimeError):  # no more threads, or Python ends: then the caller does it all
                if self.active < self.size:
                    self.sleepers.submit(self._serve)
                    self.active += 1

    def _serve(self) -> None:
        """Do what there is to do, and go when there has been nothing for a while."""
        free = np.empty(1, np.int64)
        board = self.members.index(get_native_id()) + 1, self.size + 1, self.board, self.shared, self.parts
        while True:
            with self.lock:
                job = self.jobs.popleft() if self.jobs else None
                heard = int(self.bell[0])
                self.awake += job is None
            if job is not None:
                free[0] = 1  # there is more to do, so who waits for the job before must not wait for the GIL
                job.run()
                free = job.free
                continue
            watch(self.bell, heard, LINGER, SETTLE, free, *board)
            with self.lock:
                self.awake -= 1
                if not self.jobs:
                    self.active -= 1
                    return
