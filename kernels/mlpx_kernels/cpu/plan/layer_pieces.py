"""The pieces of layers: forward, backward, and the gradients of their weights."""

from functools import cache

import numpy as np

from mlpx_kernels.activations import SAVES_INPUT
from mlpx_kernels.cpu.activation import IDENTITY, apply, apply_grad
from mlpx_kernels.cpu.dropout import dropout_factors, multiply_kept
from mlpx_kernels.cpu.gemm.blas import NN, NT, TN
from mlpx_kernels.cpu.gemm.select import product, register
from mlpx_kernels.cpu.loops.softmax_forward import masked_softmax_rows, softmax_rows
from mlpx_kernels.cpu.loops.softmax_grad import softmax_grad_rows
from mlpx_kernels.cpu.lowlevel.compile import merged
from mlpx_kernels.cpu.lowlevel.memory import address_of, size_of, view
from mlpx_kernels.cpu.lowlevel.simd import SUMMED, VECTOR_BYTES, add_rows
from mlpx_kernels.cpu.plan.layout import (
    DX,
    EXTRA,
    FROM,
    MASK,
    N_IN,
    N_OUT,
    NUMBER,
    PARAMS,
    REAL,
    SEED,
    START,
    STEP,
    STRIDE,
    SUMS,
    TO,
    WORK,
    B,
    D,
    W,
    X,
    Y,
    Z,
    piece,
    real_of,
    work_of,
)
from mlpx_kernels.cpu.plan.norm_pieces import (
    batch_norm_backward,
    batch_norm_forward,
    layer_norm_backward,
    layer_norm_forward,
    layer_norm_weights,
)


@cache
def dense_forward(kind, dtype):
    """Product, bias and activation."""
    register(dtype)
    real, separate = real_of(dtype), kind in SAVES_INPUT

    @piece
    def run(row, reals, job, frame, a, b):
        n, i, o, step = b - a, row[N_IN], row[N_OUT], row[STRIDE]
        x, w = work_of(job, row[X], i, a, b, real), view(job[PARAMS], row[W], o * i, real)
        z = work_of(job, row[Z], step, a, b, real)
        bias = address_of(job[PARAMS], row[B], real) if row[B] >= 0 else 0
        product(NT, x, w, bias, z, n, o, i, i, i, step)
        if kind != IDENTITY:
            lines, each = (1, n * o) if step == o else (n, o)
            for line in range(lines):
                z = view(job[WORK], row[Z] + (a + line) * step, each, real)
                # One array where they are one, as LLVM can see: else no vectors.
                y = view(job[WORK], row[Y] + (a + line) * step, each, real) if separate else z
                for k in range(z.size):
                    y[k] = apply(kind, z[k])
        return 0.0

    return run


@cache
def dense_backward(kind, dtype):
    """The gradient for the pre-activation, in place of the one for the output; then the one for the input."""
    register(dtype)
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        n, i, o = b - a, row[N_IN], row[N_OUT]
        d, saved = work_of(job, row[D], o, a, b, real), work_of(job, row[Z], o, a, b, real)
        if kind != IDENTITY:
            for k in range(d.size):
                d[k] = apply_grad(kind, d[k], saved[k])
        if row[DX] >= 0:
            w = view(job[PARAMS], row[W], o * i, real)
            product(NN, d, w, 0, work_of(job, row[DX], i, a, b, real), n, i, o, o, i, i)
        return 0.0

    return run


@cache
def dense_weights(dtype):
    """The gradients of output rows a to b, over the batch's rows FROM to TO."""
    register(dtype)
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        first, n, i, step = frame[FROM], frame[TO] - frame[FROM], row[N_IN], row[STRIDE]
        d = view(job[WORK], row[D] + first * step + a, n * step - a, real)
        x = work_of(job, row[X], i, first, frame[TO], real)
        sums = view(frame[SUMS], row[W] + a * i, (b - a) * i, real)
        product(TN, d, x, 0, sums, b - a, i, n, step, i, i)
        if row[B] >= 0:
            column_sums(real, job[WORK], row[D] + first * step, n, step, a, b, frame[SUMS], row[B])
        return 0.0

    return run


NEAR_ROWS = 1 << 16
"""Bytes that rows may span whose columns are summed a vector at a time: more of them would be on too many pages."""


@merged
def column_sums(real, source, offset, rows, width, a, b, target, first):
    """Write the sums over rows (rows, width) of columns a to b to their places from element ``first`` of the target."""
    size = size_of(real)
    sums = view(target, first + a, b - a, real)
    for j in range(sums.size):
        sums[j] = 0.0
    several = max(SUMMED, NEAR_ROWS // (width * size) // SUMMED * SUMMED)
    for r in range(0, rows, several):
        for j in range(a, b, VECTOR_BYTES // size):
            here = address_of(source, offset + r * width + j, real)
            add_rows(real, here, width, min(several, rows - r), b - j, address_of(target, first + j, real))


@cache
def activation_forward(kind, dtype):
    """An activation by itself."""
    real = real_of(dtype)

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
    real = real_of(dtype)

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
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        o = row[N_OUT]
        factor = work_of(job, row[EXTRA], o, a, b, real)
        dropout_factors(factor, a * o, reals[REAL], np.uint64(job[SEED]), frame[STEP], row[NUMBER])
        multiply_kept(work_of(job, row[X], o, a, b, real), factor, work_of(job, row[Y], o, a, b, real))
        return 0.0

    return run


@cache
def dropout_backward(kind, dtype):
    """The same factors again."""
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        o = row[N_OUT]
        factor = work_of(job, row[EXTRA], o, a, b, real)
        multiply_kept(work_of(job, row[D], o, a, b, real), factor, work_of(job, row[DX], o, a, b, real))
        return 0.0

    return run


@cache
def softmax_forward(kind, dtype):
    """Softmax as the output of a prediction."""
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        o = row[N_OUT]
        softmax_rows(work_of(job, row[X], o, a, b, real), work_of(job, row[Y], o, a, b, real), b - a, o)
        return 0.0

    return run


@cache
def softmax_backward(kind, dtype):
    """The gradient of a softmax that no loss is fused with."""
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        o = row[N_OUT]
        d, y = work_of(job, row[D], o, a, b, real), work_of(job, row[Y], o, a, b, real)
        softmax_grad_rows(d, y, work_of(job, row[DX], o, a, b, real), b - a, o)
        return 0.0

    return run


@cache
def masked_softmax_forward(kind, dtype):
    """Masked softmax as the output of a prediction; the mask of these rows begins at START."""
    real = real_of(dtype)

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
    "softmax": softmax_backward,
}
GRADIENTS = {"dense": dense_weights, "layer_norm": layer_norm_weights}
