"""The plan's interpreter: many training steps, or a prediction, as one call into compiled code.

A network is a table with a row per layer; the row holds the addresses of the layer's pieces (job.py, pieces_*.py).
One compiled function walks it for every architecture and both dtypes. Threads run the same function side by side and
share each step's blocks (sharing.py, step.py), in two phases:

1. a block of batch *rows* goes through gather, forward, loss and the chain of input gradients;
2. a block of *output rows* of every weight gets its gradient over the whole batch, and is updated at once, while it is
   in cache. Of a layer with few weights for its rows, each block of rows has summed gradients of its own in phase 1,
   and they are added up here: a core then waits for less that another has written.

A small batch may have fewer blocks of rows than of outputs, or one.

With clipping, the update is another phase. Where the first layer has many weights, there is one ahead of all: a block
of its *outputs* is computed for the whole batch, by the core that has updated their weights and will do so again.

The cuts depend on the number of blocks alone, so results do not depend on how many threads share the blocks, or on
which of them runs which. A thread that is alone takes the rows of all blocks through a layer at once, wherever that
gives each row the same numbers; it then turns the layer's weights once, not for each block.
"""

import math

import numpy as np
from numba import types

from mlpx_kernels.cpu.lowlevel.compile import kernel
from mlpx_kernels.cpu.lowlevel.memory import alloc_scratch, free_scratch, view
from mlpx_kernels.cpu.plan import layout as p
from mlpx_kernels.cpu.plan.layout import call_piece
from mlpx_kernels.cpu.plan.phases import (
    first_layer_forward,
    forward_backward,
    prepare,
    total,
    update_clipped,
    weight_gradients_and_update,
)
from mlpx_kernels.cpu.threading.phase_sharing import begin, claim, finish, idle, open_phase


@kernel
def train(thread, job, table, reals, numbers, changing, losses, partial, shared, stats, stats_backup):
    """Take the job's steps, up to one whose loss is not finite; thread 0 leaves in the job how many were taken.

    There and not as a result, which would be lost if a signal's handler raises as soon as Python goes on.

    Every thread calls this with its own number and the same arrays. Once thread 0 is back, all is done: others may come
    back later or never have begun. Before a thread has claimed a block it reads none of the buffers that the job has
    addresses of, so these need not outlive the call of thread 0.

    Parameters
    ----------
    job, table, reals : array
        See job.py. The work buffer begins with the batch's inputs (with SPLIT, some for each block), then its targets
        and row weights.
    numbers : array (N_FLOATS,), float64
        The update's numbers, then a place for the loss's normaliser, its option, the largest gradient norm (0: no
        clipping) and the ceiling of the loss.
    changing : array (5, steps), float64
        The numbers that each step has of its own: learning rate, l2, the update's number C (Adam's eps), RISE and ROOT.
    losses : array (2, steps), float64
        Written: the loss of each step, and its penalty ``l2 / 2 |w|^2``, both before the update.
    partial : array (blocks, 16), float64
        Scratch: a loss and two sums of squares per block, on cache lines of their own.
    shared : array, int64
        From `sharing.new_shared`.
    stats, stats_backup : array (bytes,), uint8
        Running statistics, and a copy from before the last step.
    """
    n_threads, steps = job[p.THREADS], changing.shape[1]
    blocks, row_blocks = job[p.BLOCKS], job[p.ROW_BLOCKS]
    frame, floats = (
        alloc_scratch(p.FRAME_SIZE, np.int64),
        alloc_scratch(p.N_FLOATS, np.float64),
    )  # on the stack: nothing to leave
    for i in range(p.N_FLOATS):
        floats[i] = numbers[i]
    frame[p.FLOATS] = floats.ctypes.data
    phases = job[p.SPLIT] + (3 if floats[p.MAX_NORM] > 0.0 else 2)
    alone, phase, prepared, looks, split = n_threads == 1, -1, -1, 0, job[p.SPLIT]
    if thread == 0:
        begin(shared, blocks, n_threads)
    while True:
        now = phase + 1 if alone else open_phase(shared, blocks)
        if now == phase:
            idle(looks)
            looks += 1
            continue
        if now == steps * phases or now < 0:
            break
        phase, looks = now, 0
        s = phase // phases
        part = phase - s * phases - split
        loss = total(partial, row_blocks, 0) if part == 1 else 0.0
        # What was read is this step's only if it is still this phase.
        if part == 1 and not math.isfinite(loss) and (alone or open_phase(shared, blocks) == phase):
            if thread == 0:
                job[p.TAKEN] = s
            return
        owner = thread
        for _ in range(n_threads):
            block = owner
            while block < blocks:  # a range with this step would divide
                if alone or claim(shared, block, phase):
                    if prepared != s:
                        prepare(s, job, table, reals, changing, frame, floats)
                        prepared = s
                    if part < 0:
                        first_layer_forward(block, job, table, reals, frame)
                    elif part == 0:
                        if block == 0:
                            if s > 0:
                                losses[1, s - 1] = 0.5 * changing[1, s - 1] * total(partial, blocks, 2)
                            for k in range(stats.size):
                                stats_backup[k] = stats[k]
                        if block < (1 if alone else row_blocks):
                            last = row_blocks if alone else block + 1
                            forward_backward(block, last, row_blocks, job, table, reals, frame, partial)
                    elif part == 1:
                        if block == 0:
                            losses[0, s] = loss
                        partial[block, 1], partial[block, 2] = weight_gradients_and_update(
                            block, alone, job, table, reals, frame, floats
                        )
                    else:
                        square = total(partial, blocks, 1)
                        partial[block, 2] = update_clipped(block, job, table, reals, frame, floats, square)
                    if not alone:
                        finish(shared)
                block += n_threads
            owner = owner + 1 if owner + 1 < n_threads else 0
    if thread == 0 and steps > 0:
        losses[1, steps - 1] = 0.5 * changing[1, steps - 1] * total(partial, blocks, 2)
        job[p.TAKEN] = steps


def trainer():
    """Return `train`, compiled: a fit that has begun must not learn that it cannot be."""
    if not train.overloads:
        flat, rows, reals, bytes_ = types.int64[::1], types.int64[:, ::1], types.float64[:, ::1], types.uint8[::1]
        train.compile((types.int64, flat, rows, reals, types.float64[::1], reals, reals, reals, flat, bytes_, bytes_))
    return train


@kernel
def predict(plan, x, mask, y):
    """Take rows through a table, ``BATCH`` of them at a time, so that hidden layers never exist for all rows.

    Parameters
    ----------
    plan : array (JOB_SIZE + FRAME_SIZE,), int64
        A job with the parts that all calls share, addresses of the tables among them, and zeros for a frame; each call
        adds its own to a copy, so several may run at once. (An array less to unpack is 0.08 us less to wait for.)
    x : array (rows, n_in), y : array (rows, n_out)
        C-contiguous, of the pieces' dtype; ``y`` is written.
    mask : array (rows, n_out), bool
        For a masked softmax; else of any shape.
    """
    job, work = alloc_scratch(plan.size, np.int64), alloc_scratch(plan[p.WORK_SIZE], x.dtype.type)
    for i in range(plan.size):
        job[i] = plan[i]
    frame, layers = job[p.JOB_SIZE :], job[p.LAYERS]
    table = view(job[p.TABLE], 0, layers * p.N_COLUMNS, np.int64)
    reals = view(job[p.TABLE_OF_REALS], 0, layers * p.N_REALS, np.float64)
    job[p.WORK], job[p.INPUT], job[p.OUTPUT] = work.ctypes.data, x.ctypes.data, y.ctypes.data
    job[p.MASK] = mask.ctypes.data
    rows, batch = x.shape[0], job[p.BATCH]
    for start in range(0, rows, batch):
        n = min(batch, rows - start)
        frame[p.START], frame[p.ROWS] = start, n
        call_piece(job[p.GATHER], table, reals, 0, job, frame, 0, n)
        for layer in range(layers):
            call_piece(table[layer * p.N_COLUMNS + p.FORWARD], table, reals, layer, job, frame, 0, n)
        call_piece(job[p.LOSS], table, reals, layers - 1, job, frame, 0, n)
    free_scratch(work)
    free_scratch(job)
