"""Refused fits: an error with the right words, and a network that is as it was."""

from typing import Any

import numpy as np
import pytest

import mlpx


def refused(net: mlpx.Sequential, error: type[Exception], words: str, *args: Any, **fit: Any) -> None:
    """Raise unless fit raises such an error and leaves the network alone."""
    before = net.parameters.copy(), net.buffers.statistics.copy()
    with pytest.raises(error, match=words):
        net.fit(*args, **({"progress": False} | fit))
    np.testing.assert_array_equal(net.parameters, before[0])
    np.testing.assert_array_equal(net.buffers.statistics, before[1])
