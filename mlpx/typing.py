"""The names of types that cross module borders."""

from typing import Any, TypeAlias

Array: TypeAlias = Any
"""An array of NumPy, of CuPy, or of any other library that follows the array API standard."""

Namespace: TypeAlias = Any
"""The module that an array's functions come from: ``numpy``, ``cupy``, …; called ``xp`` everywhere."""

ArrayLike: TypeAlias = Any
"""What `mlpx.asarray` accepts: arrays, nested sequences of numbers, objects with an array interface or DLPack."""

Shape: TypeAlias = tuple[int, ...]
