"""The pieces of the norms: forward, backward, and the gradients of gain and shift."""

from functools import cache

from mlpx_kernels.cpu.loops import batch_norm, layer_norm
from mlpx_kernels.cpu.lowlevel.memory import view
from mlpx_kernels.cpu.plan.layout import (
    DX,
    EXTRA,
    FROM,
    GRADS,
    MEAN,
    MOMENTUM,
    N_OUT,
    PARAMS,
    REAL,
    STATS,
    SUMS,
    TO,
    TRAINING,
    VAR,
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


@cache
def layer_norm_forward(kind, dtype):
    """Normalise rows; mean and var of each are kept in EXTRA and Z."""
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        o = row[N_OUT]
        gamma, beta = view(job[PARAMS], row[W], o, real), view(job[PARAMS], row[B], o, real)
        mean, var = work_of(job, row[EXTRA], 1, a, b, real), work_of(job, row[Z], 1, a, b, real)
        x, y = work_of(job, row[X], o, a, b, real), work_of(job, row[Y], o, a, b, real)
        layer_norm.layer_norm_rows(x, gamma, beta, reals[REAL], y, mean, var, b - a, o)
        return 0.0

    return run


@cache
def layer_norm_backward(kind, dtype):
    """The gradient for the input of these rows."""
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        o = row[N_OUT]
        mean, var = work_of(job, row[EXTRA], 1, a, b, real), work_of(job, row[Z], 1, a, b, real)
        d, x = work_of(job, row[D], o, a, b, real), work_of(job, row[X], o, a, b, real)
        gamma, dx = view(job[PARAMS], row[W], o, real), work_of(job, row[DX], o, a, b, real)
        layer_norm.layer_norm_grad_rows(d, x, gamma, mean, var, reals[REAL], dx, b - a, o)
        return 0.0

    return run


@cache
def layer_norm_weights(dtype):
    """The gradients of gain and shift over the batch's rows FROM to TO."""
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        first, last, o = frame[FROM], frame[TO], row[N_OUT]
        mean, var = work_of(job, row[EXTRA], 1, first, last, real), work_of(job, row[Z], 1, first, last, real)
        d, x = work_of(job, row[D], o, first, last, real), work_of(job, row[X], o, first, last, real)
        dgamma, dbeta = view(frame[SUMS], row[W], o, real), view(frame[SUMS], row[B], o, real)
        layer_norm.layer_norm_gain_grad(d, x, mean, var, reals[REAL], dgamma, dbeta, last - first, o)
        return 0.0

    return run


@cache
def batch_norm_forward(kind, dtype):
    """Normalise by the batch in training (and move the running statistics), by running statistics otherwise."""
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        n, o = b - a, row[N_OUT]
        gamma, beta = view(job[PARAMS], row[W], o, real), view(job[PARAMS], row[B], o, real)
        x, y = work_of(job, row[X], o, a, b, real), work_of(job, row[Y], o, a, b, real)
        mean, var = view(job[STATS], row[MEAN], o, real), view(job[STATS], row[VAR], o, real)
        if job[TRAINING]:
            batch_mean, batch_var = view(job[WORK], row[EXTRA], o, real), view(job[WORK], row[Z], o, real)
            batch_norm.batch_statistics(x, batch_mean, batch_var, n, o)
            if n > 1:  # a single row has no variance
                momentum, unbiased = real(reals[MOMENTUM]), real(n / (n - 1))
                for j in range(o):
                    mean[j] += momentum * (batch_mean[j] - mean[j])
                    var[j] += momentum * (batch_var[j] * unbiased - var[j])
            mean, var = batch_mean, batch_var
        batch_norm.batch_normalise(x, gamma, beta, mean, var, reals[REAL], y, n, o)
        return 0.0

    return run


@cache
def batch_norm_backward(kind, dtype):
    """The gradients of gain and shift, which the one for the input needs, and that one; all rows are here at once."""
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        n, o = b - a, row[N_OUT]
        mean, var = view(job[WORK], row[EXTRA], o, real), view(job[WORK], row[Z], o, real)
        d, x = work_of(job, row[D], o, a, b, real), work_of(job, row[X], o, a, b, real)
        dgamma, dbeta = view(job[GRADS], row[W], o, real), view(job[GRADS], row[B], o, real)
        batch_norm.batch_gain_grad(d, x, mean, var, reals[REAL], dgamma, dbeta, n, o)
        if row[DX] >= 0:
            gamma, dx = view(job[PARAMS], row[W], o, real), work_of(job, row[DX], o, a, b, real)
            batch_norm.batch_norm_dx(d, x, gamma, mean, var, reals[REAL], dgamma, dbeta, dx, n, o, n)
        return 0.0

    return run
