"""A lock-free work queue of one entry: workers find work and share it in compiled code, without the GIL.

Work is a plan's piece for some rows (plan/layout.py). A caller posts it on the queue, where workers that spin look, and
takes part; the rows are cut into parts, which are claimed as a phase's blocks are (phase_sharing.py). Before a worker
has claimed a part, all it reads may belong to a later work already, so that it may miss some parts; the caller misses
none. Once all are done no worker reads anything of the work, so nothing need outlive the call.
"""

import numpy as np

from mlpx_kernels.cpu.lowlevel.compile import inlined, kernel
from mlpx_kernels.cpu.plan.layout import call_at
from mlpx_kernels.cpu.threading.phase_sharing import claim, count_up, finish, idle, number_at, open_phase

PARTS = 4
"""Parts of a work for each thread: one that is late leaves some of its own to others. Where there are too few rows, the
last parts are empty."""
POSTED, PIECE, ROW, REALS, JOB, FRAME, ROWS, STEP = 0, 8, 9, 10, 11, 12, 13, 14
"""Places in the queue: how many works have been posted, on a cache line of its own; then of the last one the addresses
of its piece and of what that is called with, how many rows there are, and what parts of them are multiples of; the last
one has what is left over too."""


def new_queue():
    """Return a queue on which nothing has been posted."""
    return np.zeros(STEP + 1, np.int64)


@inlined
def take_parts(thread, threads, queue, shared, parts, work):
    """Run the parts of a work that nobody has claimed, a thread's own first; none, if it is over."""
    used = min(parts, queue[ROWS] // max(1, queue[STEP]))
    for turn in range(threads + 1):
        owner = thread + turn if thread + turn < threads else thread + turn - threads
        first, last = used * owner // threads, used * (owner + 1) // threads
        if turn == threads:
            first, last = used, parts
        for part in range(first, last):
            if claim(shared, part, work):
                rows, step = queue[ROWS], queue[STEP]  # this work's for certain, now that it cannot end
                used = min(parts, rows // step)
                if part < used:
                    a, b = rows // step * part // used * step, rows // step * (part + 1) // used * step
                    b = rows if part == used - 1 else b
                    call_at(queue[PIECE], queue[ROW], queue[REALS], queue[JOB], queue[FRAME], a, b)
                finish(shared)


@kernel
def lead(threads, queue, shared, parts):
    """Post the work that the queue has the places of, take part, and return when all of it is done."""
    work = count_up(queue, POSTED)
    take_parts(0, threads, queue, shared, parts, work)
    looks = 0
    while open_phase(shared, parts) == work:
        idle(looks)
        looks += 1


@kernel
def watch(wake_ups, seen, iterations, settle, without_gil, thread, threads, queue, shared, parts):
    """Return once the count of wake-ups is not ``seen``, and then ``settle`` looks later; or after so many iterations.

    Takes part in what is on the queue meanwhile. ``without_gil`` becomes 1 at once: a sign that the calling thread has
    left the GIL.
    """
    without_gil[0] = 1
    look, last = 0, -1
    while look < iterations:
        posted = number_at(queue, POSTED)
        if posted != last:
            take_parts(thread, threads, queue, shared, parts, posted - 1)
            look, last = 0, posted
        if number_at(wake_ups, 0) != seen:
            for k in range(settle):
                idle(k)
            return
        idle(look)
        look += 1
