"""The pieces of a step around the layers: gather, loss, update; and of a prediction: copy in, copy out."""

import math
from functools import cache

import numpy as np

from mlpx_kernels.cpu.loops.cross_entropy import (
    CROSS_ENTROPY,
    cross_entropy_rows,
    narrow_cross_entropy_rows,
    row_weight,
    wide_cross_entropy_rows,
)
from mlpx_kernels.cpu.loops.element_loss import BINARY, clipped_binary, elementwise_rows, farthest
from mlpx_kernels.cpu.lowlevel.memory import address_of, view
from mlpx_kernels.cpu.lowlevel.simd import copy_lanes
from mlpx_kernels.cpu.margin import FOCAL, focal_rows
from mlpx_kernels.cpu.plan.layout import (
    ALL_WEIGHT,
    BACKUP,
    BATCH_LABELS,
    BATCH_MASK,
    CEILING,
    COLUMN,
    FLOATS,
    GRADS,
    GRADS_BYTES,
    INPUT,
    LABELLED,
    LABELS,
    MASK,
    MASKED,
    N_CLASSES,
    N_COLUMN,
    N_FEATURES,
    N_FLOATS,
    N_OUT,
    N_ROWS,
    N_STATES,
    OPTION,
    ORDER,
    OTHER_GRADS,
    OUTPUT,
    PARAMS,
    ROW_BLOCKS,
    ROWS,
    S1,
    S2,
    SAMPLE_WEIGHT,
    SHRINK,
    SPLIT,
    START,
    TARGETS,
    TARGETS_AT,
    WEIGHT_AT,
    WEIGHTED,
    WORK,
    D,
    X,
    Y,
    piece,
    real_of,
    work_of,
)
from mlpx_kernels.cpu.update import update
from mlpx_kernels.updates import N_NUMBERS


@cache
def gather_inputs(dtype):
    """Copy the inputs of rows a to b of the step from the data to the work buffer, to where a split layer has them."""
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        order, i = view(job[ORDER], frame[START], frame[ROWS], np.int64), job[N_FEATURES]
        for r in range(a, b):
            copy_lanes(real, address_of(job[INPUT], order[r] * i, real), i, address_of(job[WORK], row[X] + r * i, real))
        return 0.0

    return run


@cache
def gather(dtype):
    """Copy rows a to b of the step from the data to the work buffer: targets, weights, masks, and inputs.

    But a split first layer has its inputs by then.
    """
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        order = view(job[ORDER], frame[START], frame[ROWS], np.int64)
        i, c = job[N_FEATURES], job[N_CLASSES]
        if not job[SPLIT]:
            for r in range(a, b):
                copy_lanes(real, address_of(job[INPUT], order[r] * i, real), i, address_of(job[WORK], r * i, real))
        if job[LABELLED]:
            labels, chosen = view(job[LABELS], 0, job[N_ROWS], np.int64), view(job[BATCH_LABELS], 0, b, np.int64)
            for r in range(a, b):
                chosen[r] = labels[order[r]]
        else:
            targets = address_of(job[WORK], job[TARGETS_AT], real)
            for r in range(a, b):
                copy_lanes(real, address_of(job[TARGETS], order[r] * c, real), c, address_of(targets, r * c, real))
        if job[WEIGHTED]:
            weights, drawn = view(job[SAMPLE_WEIGHT], 0, job[N_ROWS], real), view(job[WORK], job[WEIGHT_AT], b, real)
            for r in range(a, b):
                drawn[r] = weights[order[r]]
        if job[MASKED]:
            for r in range(a, b):
                m, k = view(job[MASK], order[r] * c, c, np.uint8), view(job[BATCH_MASK], r * c, c, np.uint8)
                for j in range(c):
                    k[j] = m[j]
        return 0.0

    return run


@cache
def total(loss, dtype):
    """Return the normaliser of the loss over the step's rows."""
    real = real_of(dtype)
    by_class = loss in (CROSS_ENTROPY, FOCAL)

    @piece
    def run(row, reals, job, frame, a, b):
        c, n = job[N_CLASSES], job[N_ROWS]
        order = view(job[ORDER], frame[START], frame[ROWS], np.int64)
        weights = view(job[SAMPLE_WEIGHT], 0, n * job[WEIGHTED], real)
        column = view(job[COLUMN], 0, job[N_COLUMN] if by_class else 0, real)
        mask = view(job[MASK], 0, n * c * job[MASKED] if by_class else 0, np.uint8)
        labels = view(job[LABELS], 0, n * job[LABELLED], np.int64)
        targets = view(job[TARGETS], 0, n * c * (1 - job[LABELLED]), real)
        result = 0.0
        for r in range(order.size):
            result += row_weight(order[r], c, weights, column, mask, labels, targets)[1]
        return result

    return run


@cache
def plain_cross_entropy(dtype, narrow):
    """Cross-entropy for class numbers without class weights, smoothing or mask: small, and soon compiled."""
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        c = job[N_CLASSES]
        floats = view(frame[FLOATS], 0, N_FLOATS, np.float64)
        z, dz = work_of(job, row[Y], c, a, b, real), work_of(job, row[D], c, a, b, real)
        labels = view(job[BATCH_LABELS], a, b - a, np.int64)
        weights = view(job[WORK], job[WEIGHT_AT] + a, (b - a) * job[WEIGHTED], real)
        if narrow:
            return narrow_cross_entropy_rows(z, labels, weights, floats[ALL_WEIGHT], dz, b - a, c, floats[CEILING])
        return wide_cross_entropy_rows(z, labels, weights, floats[ALL_WEIGHT], dz, b - a, c, floats[CEILING])

    return run


@cache
def loss_rows(loss, dtype):
    """Write the loss's gradient for rows a to b and return their share of the loss.

    With a ceiling, the loss reported for a binary cross-entropy (without its options) is that of clipped probabilities.
    """
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        c = job[N_CLASSES]
        floats = view(frame[FLOATS], 0, N_FLOATS, np.float64)
        z, dz = work_of(job, row[Y], c, a, b, real), work_of(job, row[D], c, a, b, real)
        labels = view(job[BATCH_LABELS], a, (b - a) * job[LABELLED], np.int64)
        targets = view(job[WORK], job[TARGETS_AT] + a * c, (b - a) * c * (1 - job[LABELLED]), real)
        weights = view(job[WORK], job[WEIGHT_AT] + a, (b - a) * job[WEIGHTED], real)
        mask = view(job[BATCH_MASK], a * c, (b - a) * c * job[MASKED], np.uint8)
        column = view(job[COLUMN], 0, job[N_COLUMN], real)
        option, all_weight = floats[OPTION], floats[ALL_WEIGHT]
        if loss == CROSS_ENTROPY:
            return cross_entropy_rows(z, labels, targets, weights, column, mask, option, all_weight, dz, b - a, c)
        if loss == FOCAL:
            return focal_rows(z, labels, targets, weights, mask, option, all_weight, dz, b - a, c)
        smooth = elementwise_rows(loss, z, targets, weights, column, mask, option, all_weight, dz, b - a, c)
        # That 1 - p is rounded shows in the loss once p is nearly 1, in float64 from a logit of 12 on.
        if loss == BINARY and floats[CEILING] < np.inf and farthest(z) > floats[CEILING] / 3.0:
            return clipped_binary(z, targets, weights, all_weight, math.exp(-floats[CEILING]), b - a, c)
        return smooth

    return run


@cache
def update_span(kind, dtype):
    """Keep elements a to b of the weights in the backup and update them.

    Returns the sum of squares of the weights as they were; those of so many at a time are summed in their dtype.
    """
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        numbers = view(frame[FLOATS], 0, N_NUMBERS, np.float64)
        total = 0.0
        for first in range(a, b, 2048):
            n = min(2048, b - first)
            w, keep = view(job[PARAMS], first, n, real), view(job[BACKUP], first, n, real)
            s1 = view(job[S1] if job[N_STATES] > 0 else job[PARAMS], first, n, real)
            s2 = view(job[S2] if job[N_STATES] > 1 else job[PARAMS], first, n, real)
            total += np.float64(update(kind, w, view(job[GRADS], first, n, real), s1, s2, keep, numbers))
        return total

    return run


@cache
def add_up(dtype):
    """Add to elements a to b of the first block's gradient those of the others, in their order."""
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        g = view(job[GRADS], a, b - a, real)
        for block in range(1, job[ROW_BLOCKS]):
            other = view(job[OTHER_GRADS] + (block - 1) * job[GRADS_BYTES], a, b - a, real)
            for k in range(g.size):
                g[k] += other[k]
        return 0.0

    return run


@cache
def squares(dtype):
    """Return the sum of squares of elements a to b of the gradient, each times the frame's SHRINK."""
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        g, shrink = view(job[GRADS], a, b - a, real), view(frame[FLOATS], 0, N_FLOATS, np.float64)[SHRINK]
        result = 0.0
        for k in range(g.size):
            result += (np.float64(g[k]) * shrink) * (np.float64(g[k]) * shrink)
        return result

    return run


@cache
def copy_in(dtype):
    """Copy rows START + a to START + b of a prediction's input to the work buffer."""
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        i = job[N_FEATURES]
        s, t = view(job[INPUT], (frame[START] + a) * i, (b - a) * i, real), work_of(job, 0, i, a, b, real)
        for k in range(s.size):
            t[k] = s[k]
        return 0.0

    return run


@cache
def copy_out(dtype):
    """Copy rows a to b of the last layer's output to a prediction's result."""
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        o = row[N_OUT]
        s, t = work_of(job, row[Y], o, a, b, real), view(job[OUTPUT], (frame[START] + a) * o, (b - a) * o, real)
        for k in range(s.size):
            t[k] = s[k]
        return 0.0

    return run
