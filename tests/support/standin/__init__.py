"""A stand-in for CuPy on machines without a GPU, for tests: see array.py, functions.py, streams.py, kernels.py."""

from standin.device import Counters, Failures, StandInError, device
from standin.install import installed

__all__ = ["Counters", "Failures", "StandInError", "device", "installed"]
