"""A plan's job: the columns of its table, the places of its buffers, and how compiled pieces see them.

A plan is made of pieces: one small compiled function per layer kind, loss and update, called by address. Each is
compiled alone, for one dtype and one activation (loss, update), when a network first needs it. So a fit waits for a few
small functions and for nothing it does not use, and the interpreter itself (network.py) knows no dtype.

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

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from mlpx_kernels.cpu.compile import cached_callback, inlined
from mlpx_kernels.updates import N_NUMBERS

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
    INPUT,
    LABELS,
    TARGETS,
    SAMPLE_WEIGHT,
    COLUMN,
    MASK,
    BATCH_LABELS,
    BATCH_MASK,
    ORDER,
    GATHER,
    TOTAL,
    LOSS,
    UPDATE,
    SQUARES,
    N_ROWS,
    BATCH,
    N_CLASSES,
    N_FEATURES,
    N_COLUMN,
    N_STATES,
    LABELLED,
    WEIGHTED,
    MASKED,
    TOGETHER,
    BLOCKS,
    THREADS,
    FIRST_STEP,
    SEED,
    TARGETS_AT,
    WEIGHT_AT,
    TRAINING,
    OUTPUT,
    WORK_SIZE,
    TABLE,
    TABLE_OF_REALS,
    LAYERS,
    JOB_SIZE,
) = range(44)
"""Places in the job. Addresses: of the buffers, the data, and of the pieces that gather rows, sum their weights,
compute the loss, update a span and sum squares. Then sizes and flags; TARGETS_AT and WEIGHT_AT are offsets in the work
buffer. The tables are there for predictions alone."""

STEP, START, ROWS, FLOATS, FRAME_SIZE = range(5)
"""Places in a frame: the step's number; where its rows begin in the order; how many; the address of reals."""

ALL_WEIGHT, OPTION, MAX_NORM, CEILING = range(N_NUMBERS, N_NUMBERS + 4)
"""Places in the frame's reals, behind the numbers of the update: the normaliser of the loss; its option; clipping; the
loss of a row that is certainly wrong (see loss.py)."""
N_FLOATS = N_NUMBERS + 4

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


def real_of(dtype):
    """Return the constructor of a dtype's numbers."""
    return np.dtype(dtype).type
