"""A second backend for the tests: array-api-strict on a fake device, which refuses whatever a GPU would refuse."""

from typing import Any

import array_api_strict
import numpy as np

from mlpx.backend import Backend, to_numpy

STRICT = Backend("array_api_strict", array_api_strict, array_api_strict.Device("device1"))


def to_strict(a: Any) -> Any:
    """Return a NumPy array on the fake device; anything else as it is."""
    return STRICT.asarray(a) if isinstance(a, np.ndarray) else a


def from_strict(a: Any) -> Any:
    """Return an array of the fake device on the host, having seen that it lies there; None stays None."""
    if a is None:
        return None
    assert type(a).__module__.startswith("array_api_strict"), f"{type(a)} is no array of the backend"
    assert a.device == STRICT.device, f"lies on {a.device}"
    return to_numpy(a)
