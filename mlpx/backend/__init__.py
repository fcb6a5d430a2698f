"""Array modules and devices: which one is in force, what an array is, and the checked way in and out."""

from mlpx.backend.inspection import (
    backend_name,
    dtype_name,
    kind_of,
)
from mlpx.backend.selection import (
    FLOATS,
    NUMPY,
    Backend,
    asarray,
    backend_of,
    current_backend,
    erf,
    get_backend,
    gpu_problem,
    host_array,
    resolve,
    set_backend,
    to_numpy,
    using_backend,
)

__all__ = [
    "FLOATS",
    "NUMPY",
    "Backend",
    "asarray",
    "backend_name",
    "backend_of",
    "current_backend",
    "dtype_name",
    "erf",
    "get_backend",
    "gpu_problem",
    "host_array",
    "kind_of",
    "resolve",
    "set_backend",
    "to_numpy",
    "using_backend",
]
