"""The pieces a plan is made of: one small compiled function per layer kind, loss and update, called by address.

Each piece is compiled alone, for one dtype and one activation (loss, update), when a network first needs it. So a fit
waits for a few small functions and for nothing it does not use, and the interpreter itself (network.py) knows no dtype.

Every piece has the same signature, ``piece(row, reals, job, frame, a, b) -> float``:

row, reals
    The layer's row of the table of whole numbers and of reals; columns below.
job
    What all threads share: addresses of the buffers and sizes; places below.
frame
    What one thread knows of the step it takes; places below.
a, b
    The rows of the batch (forward, backward, loss), or of the layer's outputs (weights), or the span of the flat
    buffer (update) to work on.
"""

from functools import cache

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from mlpx_kernels.cpu import norm
from mlpx_kernels.cpu.activation import CODES, IDENTITY, SAVES_INPUT, apply, apply_grad  # noqa: F401  (plans look codes up)
from mlpx_kernels.cpu.blas import product_nn, product_nt, product_tn
from mlpx_kernels.cpu.compile import cached_callback, inlined
from mlpx_kernels.cpu.dense import epilogue
from mlpx_kernels.cpu.dropout import LANES, dropout_factors, multiply_kept
from mlpx_kernels.cpu.loss import (
    CROSS_ENTROPY,
    cross_entropy_rows,
    elementwise_rows,
    plain_cross_entropy_rows,
    row_weight,
)
from mlpx_kernels.cpu.softmax import masked_softmax_rows, softmax_rows
from mlpx_kernels.cpu.update import N_NUMBERS, update

N_IN, N_OUT, W, B, X, Y, Z, D, DX, EXTRA, NUMBER, MEAN, VAR, DENSE, FORWARD, BACKWARD, WEIGHTS = range(17)
"""Columns of the table: widths; offsets of the weight and bias (or gain and shift; -1: none) in the parameters; of
input, output, what the gradient needs, gradients for output and input (-1: not wanted), and scratch in the work
buffer; the layer's number; its running statistics' offsets; 1 for a dense layer; its pieces' addresses (0: none)."""
N_COLUMNS = 17

REAL, FACTOR, BIAS_FACTOR, MOMENTUM = range(4)
N_REALS = 4
"""Columns of the table of reals: p of dropout or eps of a norm; learning-rate factors of weight and bias; momentum of
statistics."""

(
    WORK,
    PARAMS,
    GRADS,
    S1,
    S2,
    BACKUP,
    STATS,
    STATS_BACKUP,
    INPUT,
    LABELS,
    TARGETS,
    SAMPLE_WEIGHT,
    COLUMN,
    MASK,
    BATCH_LABELS,
    BATCH_MASK,
    ORDER,
    RATES,
    NUMBERS,
    LOSSES,
    PARTIAL,
    BARRIER,
    GATHER,
    TOTAL,
    LOSS,
    UPDATE,
    SQUARES,
    N_ROWS,
    N_STEPS,
    BATCH,
    N_CLASSES,
    N_FEATURES,
    N_COLUMN,
    N_STATS,
    N_STATES,
    LABELLED,
    WEIGHTED,
    MASKED,
    TOGETHER,
    BLOCKS,
    THREADS,
    FIRST_STEP,
    UPDATES,
    SEED,
    TARGETS_AT,
    WEIGHT_AT,
    CLIPPED,
    TRAINING,
    OUTPUT,
    WORK_SIZE,
    JOB_SIZE,
) = range(51)
"""Places in the job. Addresses: of the buffers, the data, the step's rates and losses, the barrier, and of the pieces
that gather rows, sum their weights, compute the loss, update a span and sum squares. Then sizes and flags; TARGETS_AT
and WEIGHT_AT are offsets in the work buffer."""

STEP, START, ROWS, FLOATS, FRAME_SIZE = range(5)
"""Places in a frame: the step's number; where its rows begin in the order; how many; the address of reals."""

ALL_WEIGHT, OPTION, MAX_NORM = N_NUMBERS, N_NUMBERS + 1, N_NUMBERS + 2
"""Places in the frame's reals, behind the numbers of the update: the normaliser of the loss; its option; clipping."""
N_FLOATS = N_NUMBERS + 3

WHOLE = types.CPointer(types.int64)
REALS = types.CPointer(types.float64)
piece = cached_callback(types.float64(WHOLE, REALS, WHOLE, WHOLE, types.int64, types.int64))


@intrinsic
def _pointer_to(typingctx, address, real):
    """Return an address as a pointer to numbers of a dtype."""
    kind = types.CPointer(real.instance_type)

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(kind))

    return kind(types.int64, real), codegen


@intrinsic
def size_of(typingctx, real):
    """Return the bytes of one number of a dtype."""
    bytes_ = real.instance_type.bitwidth // 8

    def codegen(context, builder, signature, args):
        return context.get_constant(types.int64, bytes_)

    return types.int64(real), codegen


@inlined
def view(address, offset, size, real):
    """Return ``size`` numbers from element ``offset`` on of the buffer at an address, as an array."""
    return numba.carray(_pointer_to(address + offset * size_of(real), real), size)


@inlined
def work_of(job, offset, width, a, b, real):
    """Return rows ``a`` to ``b`` of a buffer (rows, width) that begins at ``offset`` of the work array."""
    return view(job[WORK], offset + a * width, (b - a) * width, real)


@intrinsic
def call_piece(typingctx, address, row, reals, job, frame, a, b):
    """Call the piece at an address; every argument is a whole number, the first five are addresses."""
    from llvmlite import ir

    def codegen(context, builder, signature, args):
        i64 = ir.IntType(64)
        kind = ir.FunctionType(ir.DoubleType(), [i64] * 6)
        function = builder.inttoptr(args[0], kind.as_pointer())
        return builder.call(function, args[1:])

    return types.float64(*(types.int64,) * 7), codegen


def _real(dtype):
    return np.dtype(dtype).type


# --- layers -----------------------------------------------------------------------------------------------------------


@cache
def dense_forward(kind, dtype):
    """Product, bias and activation."""
    real, separate = _real(dtype), kind in SAVES_INPUT

    @piece
    def run(row, reals, job, frame, a, b):
        n, i, o = b - a, row[N_IN], row[N_OUT]
        z, y = work_of(job, row[Z], o, a, b, real), work_of(job, row[Y], o, a, b, real)
        product_nt(work_of(job, row[X], i, a, b, real), view(job[PARAMS], row[W], o * i, real), z, n, o, i, i, i, o)
        bias = view(job[PARAMS], row[B], o if row[B] >= 0 else 0, real)
        if separate:
            epilogue(kind, z, bias, y, n, o)
        else:
            epilogue(kind, z, bias, z, n, o)  # one array, as LLVM can see: else it would not vectorise
        return 0.0

    return run


@cache
def dense_backward(kind, dtype):
    """The gradient for the pre-activation, in place of the one for the output; then the one for the input."""
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        n, i, o = b - a, row[N_IN], row[N_OUT]
        d, saved = work_of(job, row[D], o, a, b, real), work_of(job, row[Z], o, a, b, real)
        if kind != IDENTITY:
            for k in range(d.size):
                d[k] = apply_grad(kind, d[k], saved[k])
        if row[DX] >= 0:
            w = view(job[PARAMS], row[W], o * i, real)
            product_nn(d, w, work_of(job, row[DX], i, a, b, real), n, i, o, o, i, i)
        return 0.0

    return run


@cache
def dense_weights(dtype):
    """The gradients of output rows a to b, over the whole batch."""
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        n, i, o = frame[ROWS], row[N_IN], row[N_OUT]
        d = view(job[WORK], row[D], n * o, real)
        w = view(job[GRADS], row[W] + a * i, (b - a) * i, real)
        product_tn(d[a:], view(job[WORK], row[X], n * i, real), w, b - a, i, n, o, i, i)
        if row[B] >= 0:
            column_sums(d, n, o, a, view(job[GRADS], row[B] + a, b - a, real))
        return 0.0

    return run


@inlined
def column_sums(d, rows, width, first, out):
    """Write the sums over rows of ``out.size`` columns, from ``first`` on, of the flat block ``d`` (rows * width)."""
    n = out.size
    for j in range(n):
        out[j] = 0.0
    r = 0
    while r + 4 <= rows:
        p, q = d[r * width + first :][:n], d[(r + 1) * width + first :][:n]
        s, t = d[(r + 2) * width + first :][:n], d[(r + 3) * width + first :][:n]
        for j in range(n):
            out[j] += (p[j] + q[j]) + (s[j] + t[j])
        r += 4
    while r < rows:
        p = d[r * width + first :][:n]
        for j in range(n):
            out[j] += p[j]
        r += 1


@cache
def activation_forward(kind, dtype):
    """An activation by itself."""
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        x, y = work_of(job, row[X], row[N_IN], a, b, real), work_of(job, row[Y], row[N_OUT], a, b, real)
        for k in range(x.size):
            y[k] = apply(kind, x[k])
        return 0.0

    return run


@cache
def activation_backward(kind, dtype):
    """The gradient of an activation by itself."""
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        d, dx = work_of(job, row[D], row[N_OUT], a, b, real), work_of(job, row[DX], row[N_IN], a, b, real)
        saved = work_of(job, row[Z], row[N_OUT], a, b, real)
        for k in range(d.size):
            dx[k] = apply_grad(kind, d[k], saved[k])
        return 0.0

    return run


@cache
def dropout_forward(kind, dtype):
    """Draw the factors of these rows and multiply."""
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        o = row[N_OUT]
        words = np.empty((4, LANES), np.uint64)
        factor = work_of(job, row[EXTRA], o, a, b, real)
        dropout_factors(factor, a * o, reals[REAL], np.uint64(job[SEED]), frame[STEP], row[NUMBER], words)
        multiply_kept(work_of(job, row[X], o, a, b, real), factor, work_of(job, row[Y], o, a, b, real))
        return 0.0

    return run


@cache
def dropout_backward(kind, dtype):
    """The same factors again."""
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        o = row[N_OUT]
        factor = work_of(job, row[EXTRA], o, a, b, real)
        multiply_kept(work_of(job, row[D], o, a, b, real), factor, work_of(job, row[DX], o, a, b, real))
        return 0.0

    return run


@cache
def layer_norm_forward(kind, dtype):
    """Normalise rows; mean and var of each are kept in EXTRA and Z."""
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        o = row[N_OUT]
        gamma, beta = view(job[PARAMS], row[W], o, real), view(job[PARAMS], row[B], o, real)
        mean, var = work_of(job, row[EXTRA], 1, a, b, real), work_of(job, row[Z], 1, a, b, real)
        x, y = work_of(job, row[X], o, a, b, real), work_of(job, row[Y], o, a, b, real)
        norm.layer_norm_rows(x, gamma, beta, reals[REAL], y, mean, var, b - a, o)
        return 0.0

    return run


@cache
def layer_norm_backward(kind, dtype):
    """The gradient for the input of these rows."""
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        o = row[N_OUT]
        mean, var = work_of(job, row[EXTRA], 1, a, b, real), work_of(job, row[Z], 1, a, b, real)
        d, x = work_of(job, row[D], o, a, b, real), work_of(job, row[X], o, a, b, real)
        gamma, dx = view(job[PARAMS], row[W], o, real), work_of(job, row[DX], o, a, b, real)
        norm.layer_norm_grad_rows(d, x, gamma, mean, var, reals[REAL], dx, b - a, o)
        return 0.0

    return run


@cache
def layer_norm_weights(dtype):
    """The gradients of gain and shift over the whole batch."""
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        n, o = frame[ROWS], row[N_OUT]
        mean, var = view(job[WORK], row[EXTRA], n, real), view(job[WORK], row[Z], n, real)
        d, x = view(job[WORK], row[D], n * o, real), view(job[WORK], row[X], n * o, real)
        dgamma, dbeta = view(job[GRADS], row[W], o, real), view(job[GRADS], row[B], o, real)
        norm.layer_norm_gain_grad(d, x, mean, var, reals[REAL], dgamma, dbeta, n, o)
        return 0.0

    return run


@cache
def batch_norm_forward(kind, dtype):
    """Normalise by the batch in training (and move the running statistics), by running statistics otherwise."""
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        n, o = b - a, row[N_OUT]
        gamma, beta = view(job[PARAMS], row[W], o, real), view(job[PARAMS], row[B], o, real)
        x, y = work_of(job, row[X], o, a, b, real), work_of(job, row[Y], o, a, b, real)
        mean, var = view(job[STATS], row[MEAN], o, real), view(job[STATS], row[VAR], o, real)
        if job[TRAINING]:
            batch_mean, batch_var = view(job[WORK], row[EXTRA], o, real), view(job[WORK], row[Z], o, real)
            norm.batch_statistics(x, batch_mean, batch_var, n, o)
            momentum, unbiased = real(reals[MOMENTUM]), real(n / max(n - 1, 1))
            for j in range(o):
                mean[j] += momentum * (batch_mean[j] - mean[j])
                var[j] += momentum * (batch_var[j] * unbiased - var[j])
            mean, var = batch_mean, batch_var
        norm.batch_normalise(x, gamma, beta, mean, var, reals[REAL], y, n, o)
        return 0.0

    return run


@cache
def batch_norm_backward(kind, dtype):
    """The gradients of gain and shift, which the one for the input needs, and that one; all rows are here at once."""
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        n, o = b - a, row[N_OUT]
        mean, var = view(job[WORK], row[EXTRA], o, real), view(job[WORK], row[Z], o, real)
        d, x = work_of(job, row[D], o, a, b, real), work_of(job, row[X], o, a, b, real)
        dgamma, dbeta = view(job[GRADS], row[W], o, real), view(job[GRADS], row[B], o, real)
        norm.batch_gain_grad(d, x, mean, var, reals[REAL], dgamma, dbeta, n, o)
        if row[DX] >= 0:
            gamma, dx = view(job[PARAMS], row[W], o, real), work_of(job, row[DX], o, a, b, real)
            norm.batch_norm_dx(d, x, gamma, mean, var, reals[REAL], dgamma, dbeta, dx, n, o)
        return 0.0

    return run


@cache
def softmax_forward(kind, dtype):
    """Softmax as the output of a prediction."""
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        o = row[N_OUT]
        softmax_rows(work_of(job, row[X], o, a, b, real), work_of(job, row[Y], o, a, b, real), b - a, o)
        return 0.0

    return run


@cache
def masked_softmax_forward(kind, dtype):
    """Masked softmax as the output of a prediction; the mask of these rows begins at START."""
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        o = row[N_OUT]
        mask = view(job[MASK], (frame[START] + a) * o, (b - a) * o, np.uint8)
        x, y = work_of(job, row[X], o, a, b, real), work_of(job, row[Y], o, a, b, real)
        masked_softmax_rows(x, mask, y, b - a, o)
        return 0.0

    return run


FORWARDS = {
    "dense": dense_forward,
    "activation": activation_forward,
    "dropout": dropout_forward,
    "layer_norm": layer_norm_forward,
    "batch_norm": batch_norm_forward,
    "softmax": softmax_forward,
    "masked_softmax": masked_softmax_forward,
}
BACKWARDS = {
    "dense": dense_backward,
    "activation": activation_backward,
    "dropout": dropout_backward,
    "layer_norm": layer_norm_backward,
    "batch_norm": batch_norm_backward,
}
GRADIENTS = {"dense": dense_weights, "layer_norm": layer_norm_weights}


# --- the step ---------------------------------------------------------------------------------------------------------


@cache
def gather(dtype):
    """Copy rows a to b of the step from the data to the work buffer: inputs, targets, weights, masks."""
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        order = view(job[ORDER], frame[START], frame[ROWS], np.int64)
        i, c = job[N_FEATURES], job[N_CLASSES]
        for r in range(a, b):
            s, t = view(job[INPUT], order[r] * i, i, real), view(job[WORK], r * i, i, real)
            for j in range(i):
                t[j] = s[j]
            if job[LABELLED]:
                view(job[BATCH_LABELS], r, 1, np.int64)[0] = view(job[LABELS], order[r], 1, np.int64)[0]
            else:
                s, t = view(job[TARGETS], order[r] * c, c, real), view(job[WORK], job[TARGETS_AT] + r * c, c, real)
                for j in range(c):
                    t[j] = s[j]
            if job[WEIGHTED]:
                weight = view(job[SAMPLE_WEIGHT], order[r], 1, real)[0]
                view(job[WORK], job[WEIGHT_AT] + r, 1, real)[0] = weight
            if job[MASKED]:
                m, k = view(job[MASK], order[r] * c, c, np.uint8), view(job[BATCH_MASK], r * c, c, np.uint8)
                for j in range(c):
                    k[j] = m[j]
        return 0.0

    return run


@cache
def total(loss, dtype):
    """Return the normaliser of the loss over the step's rows."""
    real = _real(dtype)
    by_class = loss == CROSS_ENTROPY

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
def plain_cross_entropy(dtype):
    """Cross-entropy for class numbers without class weights, smoothing or mask: small, and soon compiled."""
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        c = job[N_CLASSES]
        all_weight = view(frame[FLOATS], ALL_WEIGHT, 1, np.float64)[0]
        z, dz = work_of(job, row[Y], c, a, b, real), work_of(job, row[D], c, a, b, real)
        labels = view(job[BATCH_LABELS], a, b - a, np.int64)
        weights = view(job[WORK], job[WEIGHT_AT] + a, (b - a) * job[WEIGHTED], real)
        return plain_cross_entropy_rows(z, labels, weights, all_weight, dz, b - a, c)

    return run


@cache
def loss_rows(loss, dtype):
    """Write the loss's gradient for rows a to b and return their share of the loss."""
    real = _real(dtype)

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
        return elementwise_rows(loss, z, targets, weights, column, mask, option, all_weight, dz, b - a, c)

    return run


@cache
def update_span(kind, dtype):
    """Keep elements a to b of the weights in the backup and update them, in pieces that fit in the nearest cache."""
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        numbers = view(frame[FLOATS], 0, N_NUMBERS, np.float64)
        for first in range(a, b, 2048):
            n = min(2048, b - first)
            w, keep = view(job[PARAMS], first, n, real), view(job[BACKUP], first, n, real)
            s1 = view(job[S1] if job[N_STATES] > 0 else job[PARAMS], first, n, real)
            s2 = view(job[S2] if job[N_STATES] > 1 else job[PARAMS], first, n, real)
            for k in range(n):
                keep[k] = w[k]
            update(kind, w, view(job[GRADS], first, n, real), s1, s2, numbers)
        return 0.0

    return run


@cache
def squares(dtype):
    """Return the sum of squares of elements a to b of the gradient."""
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        g = view(job[GRADS], a, b - a, real)
        result = 0.0
        for k in range(g.size):
            result += np.float64(g[k]) * np.float64(g[k])
        return result

    return run


@cache
def copy_in(dtype):
    """Copy rows START + a to START + b of a prediction's input to the work buffer."""
    real = _real(dtype)

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
    real = _real(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        o = row[N_OUT]
        s, t = work_of(job, row[Y], o, a, b, real), view(job[OUTPUT], (frame[START] + a) * o, (b - a) * o, real)
        for k in range(s.size):
            t[k] = s[k]
        return 0.0

    return run
