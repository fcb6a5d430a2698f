"""The data and the network of the tests of networks."""

import numpy as np
from cases_kit import normal

import mlpx

N, N_IN, C = 9, 4, 3
X = 0.6 * normal("x", N, N_IN)
Y = np.arange(N) % C
T = normal("t", N, C)


def network(**options):
    return mlpx.MLP([N_IN, 5, C], **({"activation": "tanh", "seed": 1} | options))
