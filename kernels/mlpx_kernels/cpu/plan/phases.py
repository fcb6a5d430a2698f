"""The parts of a training step, by blocks: which rows and outputs are a block's, and what is done with them.

The interpreter (network.py) calls these in phases; every one of them does its share for one block.
"""

import math

import numpy as np

from mlpx_kernels.cpu.lowlevel.compile import inlined, merged
from mlpx_kernels.cpu.plan import layout as p
from mlpx_kernels.cpu.plan.layout import call_piece
from mlpx_kernels.updates import DECAY, L1, L2, LR, RISE, ROOT, SCALE, C

SMALL = 2.0**-512
"""Times any float64, it has a square that is finite."""
TINY = 1e-280
"""Sums of squares below are added up again, from gradients that are divided by `SMALL`."""
CUT_MULTIPLE = 8
"""Blocks begin at multiples of this."""


@inlined
def block_start(size, block, blocks):
    """Return where block number ``block`` of ``blocks`` begins among ``size`` rows."""
    return (
        size
        if block == blocks
        else min(size, (size * block // blocks + CUT_MULTIPLE - 1) // CUT_MULTIPLE * CUT_MULTIPLE)
    )


@inlined
def output_rows(job, table, layer, block):
    """Return a row of the table and its output rows (row, first, last) that belong to a block of a layer.

    Norms go whole to one block. Every second layer is cut from its end: what rounding gives the first blocks of one, it
    takes from them in the next.
    """
    n_out, blocks = table[layer, p.N_OUT], job[p.BLOCKS]
    if layer == 0 and job[p.SPLIT]:
        own = job[p.LAYERS] + block
        return own, 0, table[own, p.N_OUT]
    if table[layer, p.DENSE]:
        if layer % 2:
            return (
                layer,
                n_out - block_start(n_out, blocks - block, blocks),
                n_out - block_start(n_out, blocks - block - 1, blocks),
            )
        return layer, block_start(n_out, block, blocks), block_start(n_out, block + 1, blocks)
    return layer, 0, n_out if block == table[layer, p.NUMBER] % blocks else 0


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
        square = call_piece(job[p.UPDATE], table, reals, layer, job, frame, w + first * width, w + last * width)
    if b >= 0 and bias_factor != 0.0:
        floats[LR] = rate * bias_factor
        floats[L1] = floats[L2] = floats[DECAY] = 0.0
        call_piece(job[p.UPDATE], table, reals, layer, job, frame, b + first, b + last)
    floats[LR], floats[L1], floats[L2], floats[DECAY] = rate, l1, l2, decay
    return square if table[layer, p.DENSE] else 0.0


@inlined
def weight_and_bias_spans(piece, table, reals, layer, job, frame, first, last):
    """Call a piece for the spans of output rows ``first`` to ``last`` of a layer: of its weights, and of its biases.

    Returns the sum of what it returns.
    """
    width = table[layer, p.N_IN] if table[layer, p.DENSE] else 1
    w, b = table[layer, p.W], table[layer, p.B]
    result = call_piece(piece, table, reals, layer, job, frame, w + first * width, w + last * width)
    if b >= 0:
        result += call_piece(piece, table, reals, layer, job, frame, b + first, b + last)
    return result


@inlined
def total(partial, blocks, column):
    """Return the sum over blocks of what each has left in a column."""
    result = 0.0
    for block in range(blocks):
        result += partial[block, column]
    return result


@merged
def prepare(s, job, table, reals, changing, frame, floats):
    """Set the frame and the numbers of step ``s``.

    An epoch has EPOCH_ROWS rows, and its last step those that are left; a call's epochs lie one behind the other in
    ORDER.
    """
    batch, rows = job[p.BATCH], job[p.EPOCH_ROWS]
    each = (rows + batch - 1) // batch
    epoch, first = s // each, s % each * batch
    n = min(batch, rows - first)
    frame[p.STEP], frame[p.START], frame[p.ROWS] = job[p.FIRST_STEP] + s, epoch * rows + first, n
    floats[p.ALL_WEIGHT] = np.float64(n)
    if job[p.TOTAL]:
        floats[p.ALL_WEIGHT] = call_piece(job[p.TOTAL], table, reals, 0, job, frame, 0, n)
    floats[LR], floats[L2], floats[C] = changing[0, s], changing[1, s], changing[2, s]
    floats[RISE], floats[ROOT] = changing[3, s], changing[4, s]
    floats[SCALE] = floats[p.SHRINK] = 1.0


@merged
def first_layer_forward(block, job, table, reals, frame):
    """Take all rows of the step to a block's outputs of the first layer."""
    own = job[p.LAYERS] + block
    call_piece(job[p.GATHER_INPUTS], table, reals, own, job, frame, 0, frame[p.ROWS])
    call_piece(table[own, p.FORWARD], table, reals, own, job, frame, 0, frame[p.ROWS])


@inlined
def by_rows(piece, table, reals, layer, job, frame, first, last, blocks, least):
    """Call a piece of a layer for the rows of blocks ``first`` to ``last``; of those that have any, the smallest has
    ``least``.

    Once for all of them, where a row is computed alike whatever others come with it.
    """
    step = last - first if least >= table[layer, p.BATCH_INVARIANT] else 1
    block = first
    while block < last:  # a range with this step would divide
        a, b = block_start(frame[p.ROWS], block, blocks), block_start(frame[p.ROWS], block + step, blocks)
        call_piece(piece, table, reals, layer, job, frame, a, b)
        block += step


@merged
def forward_backward(first, last, blocks, job, table, reals, frame, partial):
    """Take blocks ``first`` to ``last`` of the step's rows through all layers (after a split one) and back.

    Each block's share of the loss goes to ``partial``. Gradients that blocks sum by themselves are summed while what
    they are made of is in this core's caches; and added up, if these are all blocks.
    """
    last_layer, rows = job[p.LAYERS] - 1, frame[p.ROWS]
    least = rows
    for block in range(first, last):
        size = block_start(rows, block + 1, blocks) - block_start(rows, block, blocks)
        least = min(least, size) if size > 0 else least
    call_piece(
        job[p.GATHER], table, reals, 0, job, frame, block_start(rows, first, blocks), block_start(rows, last, blocks)
    )
    for layer in range(job[p.SPLIT], last_layer + 1):
        by_rows(table[layer, p.FORWARD], table, reals, layer, job, frame, first, last, blocks, least)
    for block in range(first, last):
        a, b = block_start(rows, block, blocks), block_start(rows, block + 1, blocks)
        partial[block, 0] = call_piece(job[p.LOSS], table, reals, last_layer, job, frame, a, b)
    for layer in range(last_layer, -1, -1):
        if table[layer, p.BACKWARD]:
            by_rows(table[layer, p.BACKWARD], table, reals, layer, job, frame, first, last, blocks, least)
        if table[layer, p.PER_BLOCK_GRADIENTS]:
            for block in range(first, last):
                frame[p.FROM], frame[p.TO] = block_start(rows, block, blocks), block_start(rows, block + 1, blocks)
                frame[p.SUMS] = job[p.GRADS] if block == 0 else job[p.OTHER_GRADS] + (block - 1) * job[p.GRADS_BYTES]
                call_piece(table[layer, p.WEIGHTS], table, reals, layer, job, frame, 0, table[layer, p.N_OUT])
            if last - first == blocks:  # nobody else adds to them: at once, while they are near
                weight_and_bias_spans(job[p.ADD], table, reals, layer, job, frame, 0, table[layer, p.N_OUT])


@merged
def weight_gradients_and_update(block, alone, job, table, reals, frame, floats):
    """Compute the gradients of a block's weights, and without clipping update them.

    Who is ``alone`` has added up what blocks of rows have summed by themselves (`forward_backward`).

    Returns the sum of squares of the gradients (with clipping) and that of the weights that were updated.
    """
    clipped, square, weights = floats[p.MAX_NORM] > 0.0, 0.0, 0.0
    frame[p.FROM], frame[p.TO], frame[p.SUMS] = 0, frame[p.ROWS], job[p.GRADS]
    for number in range(job[p.LAYERS] - 1, -1, -1):
        layer, first, last = output_rows(job, table, number, block)
        if table[layer, p.W] < 0 or first >= last or (frozen(reals, layer) and not clipped):
            continue
        if table[layer, p.PER_BLOCK_GRADIENTS]:
            if not alone:
                weight_and_bias_spans(job[p.ADD], table, reals, layer, job, frame, first, last)
        elif table[layer, p.WEIGHTS]:
            call_piece(table[layer, p.WEIGHTS], table, reals, layer, job, frame, first, last)
        if clipped:
            square += weight_and_bias_spans(job[p.SQUARES], table, reals, layer, job, frame, first, last)
        else:
            weights += update_layer(table, reals, layer, job, frame, floats, first, last)
    return square, weights


@merged
def update_clipped(block, job, table, reals, frame, floats, square):
    """Update a block's weights with gradients of that squared norm; return the sum of the weights' squares."""
    norm, weights = math.sqrt(square), 0.0
    if not TINY < square < np.inf:  # squares beyond float64, or too small for its digits, if not gradients
        factor = 1.0 / SMALL if square <= TINY else SMALL
        norm, floats[p.SHRINK] = 0.0, factor
        for layer in range(job[p.LAYERS]):
            if table[layer, p.W] >= 0:
                last = table[layer, p.N_OUT]
                norm += weight_and_bias_spans(job[p.SQUARES], table, reals, layer, job, frame, 0, last)
        norm, floats[p.SHRINK] = math.sqrt(norm) / factor, 1.0
    floats[SCALE] = min(1.0, floats[p.MAX_NORM] / norm) if norm > 0.0 else 1.0
    for number in range(job[p.LAYERS]):
        layer, first, last = output_rows(job, table, number, block)
        if table[layer, p.W] >= 0 and first < last and not frozen(reals, layer):
            weights += update_layer(table, reals, layer, job, frame, floats, first, last)
    return weights
