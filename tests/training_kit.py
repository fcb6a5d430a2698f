"""The data and the network of the tests of training."""

from cases_kit import normal

import mlpx

N, N_IN, C = 90, 4, 3
X = normal("x", N, N_IN)
Y = (X @ normal("w", N_IN, C)).argmax(axis=1)


def network(**options):
    return mlpx.MLP([N_IN, 7, C], **({"activation": "tanh", "seed": 1} | options))


def fit(net, **options):
    return net.fit(X, Y, **({"epochs": 4, "batch_size": 20, "progress": False} | options))
