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


class Tensor:
    """A tensor like PyTorch's, as far as reading it goes: its attributes, and its refusal to be an array."""

    def __init__(self, array, dtype: str, *, requires_grad: bool) -> None:
        self.held, self.shape, self.ndim = array, array.shape, array.ndim
        self.dtype, self.requires_grad = dtype, requires_grad

    @property
    def __cuda_array_interface__(self):
        if self.requires_grad:
            raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.")
        raise AttributeError("not on a GPU")

    def __array__(self, dtype=None, copy=None):
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if "bfloat16" in str(self.dtype):
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.held if dtype is None else self.held.astype(dtype)
