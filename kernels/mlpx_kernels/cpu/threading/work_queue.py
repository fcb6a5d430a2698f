"""Work that helpers find and share in compiled code: nobody needs the GIL for it, or waits for who has it.

Work is a plan's piece for some rows (job.py). Who has some posts it on the board, where awake helpers look, and takes
part; the rows are cut into parts, which are claimed as a phase's blocks are (sharing.py). Before a helper has claimed a
part it knows nothing of the work but what may be another one's by now, so that it may miss some parts; who has posted
it misses none. Once all are done nobody reads anything of it, so nothing need outlive that call.
"""

import numpy as np

from mlpx_kernels.cpu.lowlevel.compile import inlined, kernel
from mlpx_kernels.cpu.plan.layout import call_at
from mlpx_kernels.cpu.threading.phase_sharing import claim, count_up, finish, idle, number_at, open_phase

PARTS = 4
"""Parts of a work for each thread: who comes late leaves some of its own to others. Where there are too few rows, the
last parts are empty."""
POSTED, PIECE, ROW, REALS, JOB, FRAME, ROWS, STEP = 0, 8, 9, 10, 11, 12, 13, 14
"""Places on the board: how many works there have been, on a cache line of its own; then of the last one the addresses
of its piece and of what that is called with, how many rows there are, and what parts of them are multiples of; the last
one has what is left over too."""


def new_board():
    """Return a board on which nothing has been posted."""
    return np.zeros(STEP + 1, np.int64)


@inlined
def take_part(thread, threads, board, shared, parts, work):
    """Run the parts of a work that nobody has claimed, a thread's own first; none, if it is over."""
    used = min(parts, board[ROWS] // max(1, board[STEP]))
    for turn in range(threads + 1):
        owner = thread + turn if thread + turn < threads else thread + turn - threads
        first, last = used * owner // threads, used * (owner + 1) // threads
        if turn == threads:
            first, last = used, parts
        for part in range(first, last):
            if claim(shared, part, work):
                rows, step = board[ROWS], board[STEP]  # this work's for certain, now that it cannot end
                used = min(parts, rows // step)
                if part < used:
                    a, b = rows // step * part // used * step, rows // step * (part + 1) // used * step
                    b = rows if part == used - 1 else b
                    call_at(board[PIECE], board[ROW], board[REALS], board[JOB], board[FRAME], a, b)
                finish(shared)


@kernel
def lead(threads, board, shared, parts):
    """Post the work that the board has the places of, take part, and return when all of it is done."""
    work = count_up(board, POSTED)
    take_part(0, threads, board, shared, parts, work)
    looks = 0
    while open_phase(shared, parts) == work:
        idle(looks)
        looks += 1


@kernel
def watch(bell, heard, looks, settle, free, thread, threads, board, shared, parts):
    """Return once the bell's number is not ``heard``, and then ``settle`` looks later; or after so many looks.

    Takes part in what is on the board meanwhile. ``free`` becomes 1 at once: a sign that the calling thread has left
    the GIL.
    """
    free[0] = 1
    look, seen = 0, -1
    while look < looks:
        posted = number_at(board, POSTED)
        if posted != seen:
            take_part(thread, threads, board, shared, parts, posted - 1)
            look, seen = 0, posted
        if number_at(bell, 0) != heard:
            for k in range(settle):
                idle(k)
            return
        idle(look)
        look += 1
