"""The first layer's weights by inputs while steps are taken, so that no step has to turn them.

A product wants vectors of what it sums into: of outputs in the forward pass, of inputs in the backward pass, so one of
the two turns the weights of a layer, (n_out, n_in), in every step. The first layer has no backward pass to its inputs.
Its weights are turned once for all steps between two looks from outside, with all that is kept for each of them:
optimiser's state, gradient, and the weights of the step before.
"""

from functools import cache

from mlpx_kernels.cpu.job import BACKUP, GRADS, N_IN, N_OUT, N_STATES, PARAMS, S1, S2, W, piece, real_of
from mlpx_kernels.cpu.memory import leave, place, room, size_of
from mlpx_kernels.cpu.tiles import pack, padded
from mlpx_kernels.cpu.vectors import VECTOR_BYTES, copy_lanes


@cache
def turn(dtype):
    """Turn what there is of a layer's weights: from (n_out, n_in) if ``a`` is 0, else back.

    On the way in gradient and backup are left as they are: the first step writes them before anybody reads them.
    """
    real = real_of(dtype)

    @piece
    def run(row, reals, job, frame, a, b):
        size, lanes, states = size_of(real), VECTOR_BYTES // size_of(real), job[N_STATES]
        n, k = (row[N_IN], row[N_OUT]) if a else (row[N_OUT], row[N_IN])
        wide = padded(n, lanes)
        scratch = room(wide * padded(k, lanes), real)
        there = scratch.ctypes.data
        held = job[PARAMS], job[S1] if states > 0 else 0, job[S2] if states > 1 else 0, job[GRADS] * a, job[BACKUP] * a
        for buffer in held:
            if buffer:
                here = place(buffer, row[W], real)
                pack(real, True, here, k, n, k, wide, there)
                for r in range(k):
                    copy_lanes(real, there + r * wide * size, n, here + r * n * size)
        leave(scratch)
        return 0.0

    return run
