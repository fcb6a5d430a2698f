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

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np import arrayobj

from mlpx_kernels.cpu.lowlevel.compile import cached_callback
from mlpx_kernels.cpu.lowlevel.memory import array_at
from mlpx_kernels.updates import N_NUMBERS

(
    N_IN,
    N_OUT,
    STRIDE,
    W,
    B,
    X,
    Y,
    Z,
    D,
    DX,
    EXTRA,
    NUMBER,
    MEAN,
    VAR,
    DENSE,
    PER_BLOCK_GRADIENTS,
    BATCH_INVARIANT,
    FORWARD,
    BACKWARD,
    WEIGHTS,
) = range(20)
"""Columns of the table: widths, and the elements between rows of outputs and their gradients; offsets of the weight and
bias (or gain and shift; -1: none) in the parameters; of input, output, what the gradient needs, gradients for output
and input (-1: not wanted), and scratch in the work buffer; the layer's number; its running statistics' offsets; 1 for a
dense layer; 1 where each block of rows has gradients of its own; the fewest rows that every block must have for rows to
get the same numbers when those of other blocks come with them; its pieces' addresses (0: none).

With SPLIT, there is a row more for each block: the first layer as that block sees it, with some of the outputs, and
with inputs in a place of its own."""
N_COLUMNS = 20

REAL, FACTOR, BIAS_FACTOR, MOMENTUM = range(4)
N_REALS = 4
"""Columns of the table of reals: p of dropout or eps of a norm; learning-rate factors of weight and bias; momentum of
statistics."""

(
    WORK,
    PARAMS,
    GRADS,
    OTHER_GRADS,
    GRADS_BYTES,
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
    GATHER_INPUTS,
    GATHER,
    TOTAL,
    LOSS,
    UPDATE,
    SQUARES,
    ADD,
    N_ROWS,
    EPOCH_ROWS,
    BATCH,
    N_CLASSES,
    N_FEATURES,
    N_COLUMN,
    N_STATES,
    LABELLED,
    WEIGHTED,
    MASKED,
    ROW_BLOCKS,
    SPLIT,
    BLOCKS,
    THREADS,
    FIRST_STEP,
    SEED,
    TARGETS_AT,
    WEIGHT_AT,
    TRAINING,
    TAKEN,
    OUTPUT,
    WORK_SIZE,
    TABLE,
    TABLE_OF_REALS,
    LAYERS,
    JOB_SIZE,
) = range(51)
"""Places in the job. Addresses: of the buffers, the data, and of the pieces that gather rows (for a split layer their
inputs alone), sum their weights, compute the loss, update a span, sum squares and add up blocks' gradients: those of
the first are at GRADS, those of the others at OTHER_GRADS, GRADS_BYTES for each. Then sizes, and flags of 0 or 1.
N_ROWS are the rows of the data, EPOCH_ROWS those of each epoch in ORDER, or of the part of one. SPLIT is also how many
phases and layers come ahead. Outputs are cut into BLOCKS, the rows of a step into ROW_BLOCKS, as many or fewer.
TARGETS_AT and WEIGHT_AT are offsets in the work buffer. A call writes to TAKEN how many steps it has taken. The
tables' addresses are there for predictions alone."""

STEP, START, ROWS, FLOATS, FROM, TO, SUMS, FRAME_SIZE = range(8)
"""Places in a frame: the step's number; where its rows begin in the order; how many; the address of reals; the rows
whose gradients are summed, and the address that the sums go to."""

ALL_WEIGHT, OPTION, MAX_NORM, CEILING, SHRINK = range(N_NUMBERS, N_NUMBERS + 5)
"""Places in the frame's reals, behind the numbers of the update: the normaliser of the loss; its option; clipping; the
loss of a row that is certainly wrong (see cross_entropy.py); what gradients are times before they are squared."""
N_FLOATS = N_NUMBERS + 5

WHOLE = types.CPointer(types.int64)
REALS = types.CPointer(types.float64)
piece = cached_callback(types.float64(WHOLE, REALS, WHOLE, WHOLE, types.int64, types.int64))


@intrinsic
def work_of(typingctx, job, offset, width, a, b, real):
    """Return rows ``a`` to ``b`` of a buffer (rows, width) that begins at ``offset`` of the work array, flat."""
    kind, whole = types.Array(real.instance_type, 1, "C"), types.int64

    def codegen(context, builder, signature, args):
        job, offset, width, a, b, _ = args
        work = builder.load(builder.gep(job, [context.get_constant(whole, WORK)]))
        first = builder.add(offset, builder.mul(a, width))
        bytes_ = builder.mul(first, context.get_constant(whole, kind.dtype.bitwidth // 8))
        size = builder.mul(builder.sub(b, a), width)
        return array_at(context, builder, kind, builder.add(work, bytes_), size)

    return kind(job, whole, whole, whole, whole, real), codegen


def _call(builder, address, arguments):
    """Call the piece at an address with six addresses and numbers."""
    function = ir.FunctionType(ir.DoubleType(), [ir.IntType(64)] * 6)
    return builder.call(builder.inttoptr(address, function.as_pointer()), arguments)


@intrinsic
def call_at(typingctx, address, row, reals, job, frame, a, b):
    """Call the piece at an address; ``row``, ``reals``, ``job`` and ``frame`` are addresses too."""

    def codegen(context, builder, signature, args):
        return _call(builder, args[0], args[1:])

    return types.float64(*(types.int64,) * 7), codegen


@intrinsic
def call_piece(typingctx, address, table, reals, layer, job, frame, a, b):
    """Call the piece at an address for a layer of the table; ``table``, ``reals``, ``job`` and ``frame`` are arrays.

    The rows' addresses are computed, which is less to compile than slices.
    """

    def codegen(context, builder, signature, args):
        i64 = ir.IntType(64)

        def start(place, bytes_a_layer=0):
            array = arrayobj.make_array(signature.args[place])(context, builder, args[place])
            skipped = builder.mul(args[3], ir.Constant(i64, bytes_a_layer))
            return builder.add(builder.ptrtoint(array.data, i64), skipped)

        row, real = start(1, N_COLUMNS * 8), start(2, N_REALS * 8)
        return _call(builder, args[0], [row, real, start(4), start(5), *args[6:]])

    whole = types.int64
    return types.float64(whole, table, reals, whole, job, frame, whole, whole), codegen


def real_of(dtype):
    """Return the constructor of a dtype's numbers."""
    return np.dtype(dtype).type
