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

import sys

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

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
def size_of(typingctx, real):
    """Return the bytes of one number of a dtype."""
    bytes_ = real.instance_type.bitwidth // 8

    def codegen(context, builder, signature, args):
        return context.get_constant(types.int64, bytes_)

    return types.int64(real), codegen


# Intrinsics, not functions: a function would be compiled anew for each combination of types and of literal numbers.


@intrinsic
def view(typingctx, address, offset, size, real):
    """Return ``size`` numbers from element ``offset`` on of the buffer at an address, as an array."""
    kind = types.Array(real.instance_type, 1, "C")

    def codegen(context, builder, signature, args):
        address, offset, size, _ = args
        bytes_ = context.get_constant(types.intp, kind.dtype.bitwidth // 8)
        first = builder.add(address, builder.mul(offset, bytes_))
        array = arrayobj.make_array(kind)(context, builder)
        arrayobj.populate_array(
            array,
            data=builder.inttoptr(first, context.get_data_type(kind.dtype).as_pointer()),
            shape=cgutils.pack_array(builder, [size]),
            strides=cgutils.pack_array(builder, [bytes_]),
            itemsize=bytes_,
            meminfo=None,
        )
        return array._getvalue()

    return kind(types.int64, types.int64, types.int64, real), codegen


NEAR = 2048 if sys.platform == "win32" else 1 << 15
"""Bytes of scratch that lie on the stack; more come from the heap. Windows wants a stack's pages to be asked for."""


@intrinsic
def room(typingctx, bytes_):
    """Return the address of scratch, on 64 bytes, which `leave` gives back: an array would have its references counted.

    Near room is there once for each place that asks: a loop must leave it before it asks again.
    """

    def codegen(context, builder, signature, args):
        i64, (bytes_,) = ir.IntType(64), args
        size, line = ir.Constant(i64, NEAR), ir.Constant(i64, 64)
        with builder.goto_entry_block():  # not by cgutils, which would write zeros to it in each call
            near = builder.alloca(ir.ArrayType(ir.IntType(8), NEAR))
        near.align = 64
        place = cgutils.alloca_once_value(builder, builder.ptrtoint(near, i64))
        with builder.if_then(builder.icmp_signed(">", bytes_, size), likely=False):
            far = builder.ptrtoint(context.nrt.allocate(builder, builder.add(bytes_, line)), i64)
            start = builder.and_(builder.add(far, line), ir.Constant(i64, -64))
            # The heap's own address lies in front: its blocks are aligned to 16 bytes, so there is space for it.
            builder.store(far, builder.inttoptr(builder.sub(start, ir.Constant(i64, 8)), i64.as_pointer()))
            builder.store(start, place)
        return builder.load(place)

    return types.int64(types.int64), codegen


@intrinsic
def leave(typingctx, address, bytes_):
    """Give back the room of so many bytes at an address."""

    def codegen(context, builder, signature, args):
        i64, (address, bytes_) = ir.IntType(64), args
        with builder.if_then(builder.icmp_signed(">", bytes_, ir.Constant(i64, NEAR)), likely=False):
            place = builder.inttoptr(builder.sub(address, ir.Constant(i64, 8)), i64.as_pointer())
            context.nrt.free(builder, builder.inttoptr(builder.load(place), cgutils.voidptr_t))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@inlined
def place(address, offset, real):
    """Return the address of element ``offset`` of the buffer at an address."""
    return address + offset * size_of(real)


@inlined
def work_of(job, offset, width, a, b, real):
    """Return rows ``a`` to ``b`` of a buffer (rows, width) that begins at ``offset`` of the work array."""
    return view(job[WORK], offset + a * width, (b - a) * width, real)


@intrinsic
def call_piece(typingctx, address, table, reals, layer, job, frame, a, b):
    """Call the piece at an address for a layer of the table; ``table``, ``reals``, ``job`` and ``frame`` are arrays.

    The rows' addresses are computed: slicing would count references, a hundred atomic operations a step.
    """

    def codegen(context, builder, signature, args):
        i64 = ir.IntType(64)

        def start(place, bytes_a_layer=0):
            array = arrayobj.make_array(signature.args[place])(context, builder, args[place])
            skipped = builder.mul(args[3], ir.Constant(i64, bytes_a_layer))
            return builder.add(builder.ptrtoint(array.data, i64), skipped)

        row, real = start(1, N_COLUMNS * 8), start(2, N_REALS * 8)
        function = builder.inttoptr(args[0], ir.FunctionType(ir.DoubleType(), [i64] * 6).as_pointer())
        return builder.call(function, [row, real, start(4), start(5), *args[6:]])

    whole = types.int64
    return types.float64(whole, table, reals, whole, job, frame, whole, whole), codegen


def real_of(dtype):
    """Return the constructor of a dtype's numbers."""
    return np.dtype(dtype).type
