"""The plan's interpreter: many training steps, or a prediction, as one call into compiled code.

A network is a table with a row per layer; the row holds the addresses of the layer's pieces (job.py, pieces_*.py).
One compiled function walks it for every architecture and both dtypes. Threads run the same function side by side and
meet twice a step:

1. each takes a block of batch *rows* through gather, forward, loss and the chain of input gradients;
2. each takes a block of *output rows* of every weight's gradient over the whole batch, and updates those weights at
   once, while they are in cache. No gradient buffers are summed.

The cuts depend on the number of blocks alone, so results do not depend on how many threads share the blocks.
"""

import math

import numpy as np

from mlpx_kernels.cpu import job as p
from mlpx_kernels.cpu.barrier import wait
from mlpx_kernels.cpu.compile import inlined, kernel
from mlpx_kernels.updates import DECAY, L1, L2, LR, SCALE, C
from mlpx_kernels.updates import STEP as UPDATE_STEP


@inlined
def cut(size, block, blocks):
    """Return where block number ``block`` of ``blocks`` begins among ``size`` rows, on a multiple of 8."""
    return size if block == blocks else min(size, (size * block // blocks + 7) // 8 * 8)


@inlined
def output_rows(table, layer, block, blocks):
    """Return the output rows (first, last) of a layer that belong to a block; norms go whole to one block."""
    n_out = table[layer, p.N_OUT]
    if table[layer, p.DENSE]:
        return cut(n_out, block, blocks), cut(n_out, block + 1, blocks)
    return 0, n_out if block == table[layer, p.NUMBER] % blocks else 0


@inlined
def call(address, table, reals, layer, job, frame, a, b):
    """Call a piece for a layer of the table.

    The rows' addresses are computed: slicing would count references, a hundred atomic operations a step.
    """
    row = table.ctypes.data + layer * (p.N_COLUMNS * 8)
    real = reals.ctypes.data + layer * (p.N_REALS * 8)
    return p.call_piece(address, row, real, job.ctypes.data, frame.ctypes.data, a, b)


@inlined
def frozen(reals, layer):
    """Return whether nothing of a layer is trained."""
    return reals[layer, p.FACTOR] == 0.0 and reals[layer, p.BIAS_FACTOR] == 0.0


@inlined
def update_layer(table, reals, layer, job, frame, floats, first, last):
    """Update output rows ``first`` to ``last`` of a layer; penalties and decay are for dense weights alone.

    Returns the sum of squares that those weights had before; 0 for other layers.
    """
    square = 0.0
    rate, l1, l2, decay = floats[LR], floats[L1], floats[L2], floats[DECAY]
    factor, bias_factor = reals[layer, p.FACTOR], reals[layer, p.BIAS_FACTOR]
    width = table[layer, p.N_IN]
    if not table[layer, p.DENSE]:
        width = 1
        floats[L1] = floats[L2] = floats[DECAY] = 0.0
    w, b = table[layer, p.W], table[layer, p.B]
    if factor != 0.0:
        floats[LR] = rate * factor
        square = call(job[p.UPDATE], table, reals, layer, job, frame, w + first * width, w + last * width)
    if b >= 0 and bias_factor != 0.0:
        floats[LR] = rate * bias_factor
        floats[L1] = floats[L2] = floats[DECAY] = 0.0
        call(job[p.UPDATE], table, reals, layer, job, frame, b + first, b + last)
    floats[LR], floats[L1], floats[L2], floats[DECAY] = rate, l1, l2, decay
    return square if table[layer, p.DENSE] else 0.0


@inlined
def squared_norm(table, reals, layer, job, frame, first, last):
    """Return the sum of squares of the gradients of output rows ``first`` to ``last`` of a layer."""
    width = table[layer, p.N_IN] if table[layer, p.DENSE] else 1
    w, b = table[layer, p.W], table[layer, p.B]
    square = call(job[p.SQUARES], table, reals, layer, job, frame, w + first * width, w + last * width)
    if b >= 0:
        square += call(job[p.SQUARES], table, reals, layer, job, frame, b + first, b + last)
    return square


@kernel
def train(thread, job, table, reals, numbers, changing, losses, partial, barrier, stats, stats_backup):
    """Take the job's steps; return how many were taken before the loss was not finite (all, if it always was).

    Every thread calls this with its own number and the same arrays.

    Parameters
    ----------
    job, table, reals : array
        See job.py. The work buffer begins with the batch's inputs, then its targets and row weights.
    numbers : array (N_FLOATS,), float64
        The update's numbers, then a place for the loss's normaliser, its option, the largest gradient norm (0: no
        clipping) and the ceiling of the loss.
    changing : array (3, steps), float64
        The numbers that each step has of its own: learning rate, l2 and the update's number C (Adam's eps).
    losses : array (2, steps), float64
        Written: the loss of each step, and its penalty ``l2 / 2 |w|^2``, both before the update.
    partial : array (blocks, 16), float64
        Scratch: a loss and two sums of squares per block, on cache lines of their own.
    barrier : array (16,), int64
        Zeros.
    stats, stats_backup : array (bytes,), uint8
        Running statistics, and a copy from before the last step.
    """
    n_threads, blocks, n_layers = job[p.THREADS], job[p.BLOCKS], table.shape[0]
    last_layer = n_layers - 1
    row_blocks = 1 if job[p.TOGETHER] else blocks
    frame = np.zeros(p.FRAME_SIZE, np.int64)
    floats = numbers.copy()
    frame[p.FLOATS] = floats.ctypes.data
    clipped = floats[p.MAX_NORM] > 0.0
    steps = changing.shape[1]
    for s in range(steps):
        start = s * job[p.BATCH]
        n = min(job[p.BATCH], job[p.N_ROWS] - start)
        frame[p.STEP], frame[p.START], frame[p.ROWS] = job[p.FIRST_STEP] + s, start, n
        floats[p.ALL_WEIGHT] = np.float64(n)
        if job[p.TOTAL]:
            floats[p.ALL_WEIGHT] = call(job[p.TOTAL], table, reals, 0, job, frame, 0, n)
        if thread == 0:
            for k in range(stats.size):
                stats_backup[k] = stats[k]
        for block in range(thread, row_blocks, n_threads):
            a, b = cut(n, block, row_blocks), cut(n, block + 1, row_blocks)
            call(job[p.GATHER], table, reals, 0, job, frame, a, b)
            for layer in range(n_layers):
                call(table[layer, p.FORWARD], table, reals, layer, job, frame, a, b)
            partial[block, 0] = call(job[p.LOSS], table, reals, last_layer, job, frame, a, b)
            for layer in range(last_layer, -1, -1):
                if table[layer, p.BACKWARD]:
                    call(table[layer, p.BACKWARD], table, reals, layer, job, frame, a, b)
        wait(barrier, n_threads)
        loss = 0.0
        for block in range(row_blocks):
            loss += partial[block, 0]
        if thread == 0:
            losses[0, s] = loss
        if not math.isfinite(loss):
            return s
        floats[LR], floats[L2], floats[C] = changing[0, s], changing[1, s], changing[2, s]
        floats[SCALE] = 1.0
        floats[UPDATE_STEP] = job[p.UPDATES] + s + 1
        for block in range(thread, blocks, n_threads):
            square, weights = 0.0, 0.0
            for layer in range(last_layer, -1, -1):
                first, last = output_rows(table, layer, block, blocks)
                if table[layer, p.W] < 0 or first >= last or (frozen(reals, layer) and not clipped):
                    continue
                if table[layer, p.WEIGHTS]:
                    call(table[layer, p.WEIGHTS], table, reals, layer, job, frame, first, last)
                if clipped:
                    square += squared_norm(table, reals, layer, job, frame, first, last)
                else:
                    weights += update_layer(table, reals, layer, job, frame, floats, first, last)
            partial[block, 1], partial[block, 2] = square, weights
        if clipped:
            wait(barrier, n_threads)
            square = 0.0
            for block in range(blocks):
                square += partial[block, 1]
            norm = math.sqrt(square)
            floats[SCALE] = min(1.0, floats[p.MAX_NORM] / norm) if norm > 0.0 else 1.0
            for block in range(thread, blocks, n_threads):
                weights = 0.0
                for layer in range(n_layers):
                    first, last = output_rows(table, layer, block, blocks)
                    if table[layer, p.W] >= 0 and first < last and not frozen(reals, layer):
                        weights += update_layer(table, reals, layer, job, frame, floats, first, last)
                partial[block, 2] = weights
        wait(barrier, n_threads)
        if thread == 0:
            weights = 0.0
            for block in range(blocks):
                weights += partial[block, 2]
            losses[1, s] = 0.5 * floats[L2] * weights
    return steps


@kernel
def predict(plan, table, reals, x, mask, y):
    """Take rows through the table, ``BATCH`` of them at a time, so that hidden layers never exist for all rows.

    Parameters
    ----------
    plan : array, int64
        A job with the parts that all calls share; each call adds its own to a copy, so several may run at once.
    x : array (rows, n_in), y : array (rows, n_out)
        C-contiguous, of the pieces' dtype; ``y`` is written.
    mask : array (rows, n_out), bool
        For a masked softmax; else of any shape.
    """
    job = plan.copy()
    work = np.empty(job[p.WORK_SIZE], x.dtype)
    frame = np.zeros(p.FRAME_SIZE, np.int64)
    job[p.WORK], job[p.INPUT], job[p.OUTPUT] = work.ctypes.data, x.ctypes.data, y.ctypes.data
    job[p.MASK] = mask.ctypes.data
    rows, batch, last_layer = x.shape[0], job[p.BATCH], table.shape[0] - 1
    for start in range(0, rows, batch):
        n = min(batch, rows - start)
        frame[p.START], frame[p.ROWS] = start, n
        call(job[p.GATHER], table, reals, 0, job, frame, 0, n)
        for layer in range(table.shape[0]):
            call(table[layer, p.FORWARD], table, reals, layer, job, frame, 0, n)
        call(job[p.LOSS], table, reals, last_layer, job, frame, 0, n)
    return work.size  # holds the buffer until here: addresses alone would not
