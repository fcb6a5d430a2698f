"""Refused fits: an error with the right words, and a network that is as it was; good data and networks to spoil."""

from typing import Any

import numpy as np
import pytest
from cases_kit import normal

import mlpx

N, N_IN, C = 12, 4, 3
X = normal("x", N, N_IN)
Y = np.arange(N) % C
T = normal("t", N, C)


def network(output: str = "softmax", **options: Any) -> mlpx.MLP:
    return mlpx.MLP([N_IN, 5, C], "tanh", output, seed=1, **options)


def refused(net: mlpx.Sequential, error: type[Exception], words: str, *args: Any, **fit: Any) -> None:
    """Raise unless fit raises such an error and leaves the network alone."""
    before = net.parameters.copy(), net.buffers.statistics.copy()
    with pytest.raises(error, match=words):
        net.fit(*args, **({"progress": False} | fit))
    np.testing.assert_array_equal(net.parameters, before[0])
    np.testing.assert_array_equal(net.buffers.statistics, before[1])
