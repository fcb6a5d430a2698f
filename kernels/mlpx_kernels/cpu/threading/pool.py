"""A worker pool with a bounded spin-wait between tasks.

A thread that sleeps takes 20 to 60 microseconds to wake up. So a worker that is done looks for more work for about a
millisecond before it sleeps, without the GIL. Nobody waits for a worker that has not begun: callers do their own share,
take back what no worker has started, and are right, if slower, where no worker ever comes. Threads run where the
scheduler puts them: nobody's affinity is changed.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from threading import Lock, get_native_id, local

import numpy as np

from mlpx_kernels.cpu.threading.phase_sharing import new_shared
from mlpx_kernels.cpu.threading.work_queue import PARTS, PIECE, lead, new_queue, watch

SPIN_ITERATIONS = 3000
"""Looks of a worker for new work: about a millisecond, most of it offered to other threads."""
YIELD_ITERATIONS = 300
"""Looks between a wake-up and the answer: some 5 microseconds, after which the caller has left the GIL for its own
share of the work. A worker that met a taken GIL would fall asleep over it."""

_UNREAD = np.empty(1, np.int64)
"""Where `watch` leaves a sign that nobody looks at."""
_NO_QUEUE = 0, 1, new_queue(), new_shared(1), 1


class Task:
    """A function to call once, unless it is taken back before a worker has begun it.

    Attributes
    ----------
    without_gil : array (1,)
        Becomes 1 when the worker that called the function does without the GIL again.
    error : BaseException, optional
        What the function raised.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self.function, self.error = function, None
        self.without_gil = np.zeros(1, np.int64)
        self._begun, self._done = Lock(), Lock()  # a tenth of what a Future costs, which is made to be waited for
        self._done.acquire()

    def take(self) -> bool:
        """Return whether the task is the caller's, who is the first to ask: to run it, or so that nobody does."""
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
            self._done.release()

    def wait(self) -> BaseException | None:
        """Wait until it is done, awake at first; return what it raised, or a Ctrl-C that came meanwhile.

        A caller that met a taken GIL would fall asleep over it, so it waits until the worker has left it.
        """
        interrupt = None
        while True:
            try:
                watch(self.without_gil, 0, SPIN_ITERATIONS, 0, _UNREAD, *_NO_QUEUE)
                with self._done:
                    return self.error or interrupt
            except KeyboardInterrupt as signal:  # what the function works on must outlive it
                interrupt = signal


class Help:
    """A ``with`` block during which workers call functions; see `WorkerPool.helping`."""

    def __init__(self, pool: "WorkerPool", functions: list[Callable[[], object]], wait: bool) -> None:
        self.pool, self.wait = pool, wait
        self.tasks = [Task(function) for function in functions]

    def __enter__(self) -> None:
        try:
            self.pool.ask(self.tasks)
        except BaseException:  # Ctrl-C
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        begun = []
        for task in self.tasks:
            if not task.take():
                begun.append(task)
            else:
                with suppress(ValueError):  # a worker has it in its hands, and will not run it
                    self.pool.tasks.remove(task)
        errors = [task.wait() for task in begun if self.wait]
        for raised in errors:
            if raised is not None:
                raise raised


class WorkerPool:
    """So many workers, for any number of callers.

    Attributes
    ----------
    tasks : deque of Task
        What no worker has taken yet.
    serving : set
        A token for each worker that has been woken and has not gone to sleep again.
    spinning : int
        How many of them are looking for work just now.
    retired : bool
        Whether a signal handler's exception has left a call to the executor, whose semaphore may then stay locked.
    """

    def __init__(self, size: int) -> None:
        self.size, self.parts = size, PARTS * (size + 1)
        self.numbers, self.own = count(1), local()
        self.sleepers = ThreadPoolExecutor(size, "mlpx", initializer=self._join)
        self.lock, self.tasks, self.serving = Lock(), deque[Task](), set[object]()
        self.spinning, self.retired = 0, False
        self.wake_ups = np.zeros(1, np.int64)
        self.queue, self.shared, self.posting = new_queue(), new_shared(self.parts), Lock()
        self.shared[0] = 0  # the first work may begin
        watch(self.wake_ups, 1, 1, 0, _UNREAD, *_NO_QUEUE)  # compiled here, not while somebody waits

    def helping(self, functions: list[Callable[[], object]], *, wait: bool = True) -> Help:
        """Let workers call functions while a ``with`` block does the caller's share of the work.

        At its end, what no worker has begun is not begun any more; for the rest it waits (and raises what that raises)
        unless told not to.
        """
        return Help(self, functions, wait)

    def share(self, piece: int, arguments: tuple[int, int, int, int], rows: int, step: int) -> bool:
        """Call the piece at an address for all rows, shared with the workers in compiled code; see `share_piece`.

        Returns whether it was done: not, and nothing has begun, while another thread shares something.
        """
        if self.posting.locked():
            return False
        with self.posting:  # who has come at the same moment waits for one work
            self.queue[PIECE:] = piece, *arguments, rows, step
            self._wake(self.size - self.spinning)
            lead(self.size + 1, self.queue, self.shared, self.parts)
        return True

    def ask(self, tasks: list[Task]) -> None:
        """Let workers run tasks; wake as many as there are more tasks than workers that look for some."""
        with self.lock:
            self.tasks.extend(tasks)
            asleep = len(tasks) - self.spinning
            self.wake_ups[0] += 1
        self._wake(asleep)

    def _wake(self, wanted: int) -> None:
        """Wake so many workers, if so many are asleep.

        The lock is not held while a thread is started: where that is a greenlet, the worker runs before it returns.
        """
        for _ in range(wanted):
            token = object()
            try:
                with self.lock:
                    if len(self.serving) >= self.size:
                        return
                    self.serving.add(token)
                self.sleepers.submit(self._serve, token, get_native_id())
            except BaseException as error:
                self.serving.discard(token)
                if isinstance(error, RuntimeError):  # no more threads, or Python ends: then the caller does it all
                    return
                self.retired = True
                raise

    def _join(self) -> None:
        """Give a new worker its number, 1 to `size`: the caller is 0."""
        self.own.number = next(self.numbers)

    def _serve(self, token: object, waker: int) -> None:
        """Run the tasks that there are, and return when there have been none for a while."""
        if get_native_id() == waker:  # a greenlet of the caller's own thread would only hold it up
            self.size = 0
            self.serving.discard(token)
            return
        without_gil = np.empty(1, np.int64)
        queue = self.own.number, self.size + 1, self.queue, self.shared, self.parts
        while True:
            with self.lock:
                task = self.tasks.popleft() if self.tasks else None
                seen = int(self.wake_ups[0])
                self.spinning += task is None
            if task is not None:
                without_gil[0] = 1  # there is more to do, so who waits for the task before must not wait for the GIL
                task.run()
                without_gil = task.without_gil
                continue
            watch(self.wake_ups, seen, SPIN_ITERATIONS, YIELD_ITERATIONS, without_gil, *queue)
            with self.lock:
                self.spinning -= 1
                if not self.tasks:
                    self.serving.discard(token)
                    return
