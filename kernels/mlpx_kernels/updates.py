"""How the kernels of every backend number the parameter updates, the array of numbers that each of them takes, and the
signatures of the ops, which are the same on every backend."""

import math

import numpy as np

SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADADELTA, ADAM, RPROP = range(8)
LR, SCALE, CLIP, L1, L2, DECAY, A, B, C, D, STEP, RISE, ROOT = range(13)
"""Places in the array of numbers that an update takes; A to D are particular to each kind; the step counts from 1. The
last two are `corrections`, for kernels that do not work them out themselves."""
N_NUMBERS = 13

OWN = {
    "sgd_inplace": (SGD, ()),
    "momentum_inplace": (MOMENTUM, ("momentum",)),
    "adagrad_inplace": (ADAGRAD, ("", "eps")),
    "rmsprop_inplace": (RMSPROP, ("rho", "eps")),
    "adadelta_inplace": (ADADELTA, ("rho", "eps")),
    "adam_inplace": (ADAM, ("beta1", "beta2", "eps", "", "step")),
    "rprop_inplace": (RPROP, ("shrink", "grow", "smallest", "largest")),
}
"""Op to its code and the names of the numbers that are particular to it, from place A on."""


def places(*numbers):
    """Return the array of numbers that an update takes: these, in the order of their places, and then zeros."""
    result = np.zeros(N_NUMBERS)
    result[: len(numbers)] = numbers
    return result


def corrections(kind, numbers, steps):
    """Return what makes up for Adam's sums beginning at zero: ``1 / (1 - A^t)`` and ``(1 - B^t)^-1/2`` at steps ``t``.

    For other kinds 1, which they do not look at.
    """
    if kind != ADAM:
        return 1.0, 1.0
    a, b = (math.log(decay) if decay > 0.0 else -math.inf for decay in (numbers[A], numbers[B]))
    # Exponentials, since powers are slow where they are denormal.
    return -1.0 / np.expm1(a * steps), (-np.expm1(b * steps)) ** -0.5


def encode(op, *, lr, scale=1.0, clip=math.inf, l1=0.0, l2=0.0, decay=0.0, nesterov=False, **own):
    """Return the code and the array of numbers that `update` takes for the parameters of an op."""
    kind, names = OWN[op]
    numbers = places(lr, scale, clip, l1, l2, decay, *(own.get(name, 0.0) for name in names))
    return NESTEROV if nesterov else kind, numbers


class Updates:
    """The update kernels of one backend, with the signatures of their ops.

    Parameters
    ----------
    run : callable
        ``run(w, g, states, kind, numbers)`` takes one step of the weights ``w`` along the gradient ``g``, with up to
        two arrays of state; kind and numbers as `encode` makes them.
    """

    def __init__(self, run):
        self.run = run

    def sgd_inplace(self, w, g, *, lr, scale=1.0, clip=math.inf, l1=0.0, l2=0.0, decay=0.0):
        """12 bytes a parameter in float32."""
        self.run(w, g, (), SGD, places(lr, scale, clip, l1, l2, decay))

    def momentum_inplace(
        self, w, g, v, *, lr, momentum, nesterov=False, scale=1.0, clip=math.inf, l1=0.0, l2=0.0, decay=0.0
    ):
        """20 bytes a parameter in float32."""
        kind = NESTEROV if nesterov else MOMENTUM
        self.run(w, g, (v,), kind, places(lr, scale, clip, l1, l2, decay, momentum))

    def adagrad_inplace(self, w, g, s, *, lr, eps, scale=1.0, clip=math.inf, l1=0.0, l2=0.0, decay=0.0):
        """20 bytes a parameter in float32."""
        self.run(w, g, (s,), ADAGRAD, places(lr, scale, clip, l1, l2, decay, 0.0, eps))

    def rmsprop_inplace(self, w, g, s, *, lr, rho, eps, scale=1.0, clip=math.inf, l1=0.0, l2=0.0, decay=0.0):
        """20 bytes a parameter in float32."""
        self.run(w, g, (s,), RMSPROP, places(lr, scale, clip, l1, l2, decay, rho, eps))

    def adadelta_inplace(self, w, g, s, d, *, lr, rho, eps, scale=1.0, clip=math.inf, l1=0.0, l2=0.0, decay=0.0):
        """28 bytes a parameter in float32."""
        self.run(w, g, (s, d), ADADELTA, places(lr, scale, clip, l1, l2, decay, rho, eps))

    def adam_inplace(
        self, w, g, m, v, *, lr, beta1, beta2, eps, step, scale=1.0, clip=math.inf, l1=0.0, l2=0.0, decay=0.0
    ):
        """28 bytes a parameter in float32: w, g, m, v read, w, m, v written."""
        self.run(w, g, (m, v), ADAM, places(lr, scale, clip, l1, l2, decay, beta1, beta2, eps, 0.0, step))

    def rprop_inplace(
        self, w, g, last, size, *, lr, shrink, grow, smallest, largest,
        scale=1.0, clip=math.inf, l1=0.0, l2=0.0, decay=0.0,
    ):  # fmt: skip
        """28 bytes a parameter in float32."""
        self.run(w, g, (last, size), RPROP, places(lr, scale, clip, l1, l2, decay, shrink, grow, smallest, largest))
