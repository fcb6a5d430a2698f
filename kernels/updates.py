"""How the kernels of every backend number the parameter updates, and the array of numbers that each of them takes."""

import math

import numpy as np

SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADADELTA, ADAM, RPROP = range(8)
LR, SCALE, CLIP, L1, L2, DECAY, A, B, C, D, STEP = range(11)
"""Places in the array of numbers that an update takes; A to D are particular to each kind; the step counts from 1."""
N_NUMBERS = 11

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


def encode(op, *, lr, scale=1.0, clip=math.inf, l1=0.0, l2=0.0, decay=0.0, nesterov=False, **own):
    """Return the code and the array of numbers that `update` takes for the parameters of an op."""
    kind, names = OWN[op]
    numbers = np.zeros(N_NUMBERS)
    numbers[:A] = lr, scale, clip, l1, l2, decay
    for place, name in enumerate(names, A):
        numbers[place] = own.get(name, 0.0)
    return NESTEROV if nesterov else kind, numbers
