"""Where an estimator's arrays live: on the host, or on a GPU, by the parameter ``device`` and by the data."""

from typing import Any

from sklearn.utils.validation import validate_data

from mlpx.backend import NUMPY, Backend, backend_name, backend_of, dtype_name, resolve, to_numpy
from mlpx.backend.inspection import check_readable
from mlpx.typing import Array

ON_A_DEVICE = ["cupy"]
"""Backends whose arrays are not on the host."""


def check_all_readable(prefix: str = "", **given: Any) -> None:
    """Raise for data that would lose a mask or a record of gradients by being read, by the argument's name."""
    for name, each in given.items():
        check_readable(prefix + name, each)


def home_of(x: Any) -> Backend:
    """Return the backend that data lie on: NumPy for everything that is on the host."""
    name = backend_name(x)
    if name == "numpy":
        return NUMPY
    if name in ON_A_DEVICE:
        return backend_of(x)
    on_a_gpu = hasattr(x, "__cuda_array_interface__")
    return resolve("cupy") if on_a_gpu else NUMPY


def backend_for(device: str, x: Any) -> Backend:
    """Return the backend of a network: the one that ``device`` names, or with "auto" the one that ``x`` lies on.

    Raises
    ------
    BackendError
        For "cuda" where no GPU works; the message says what is missing.
    """
    return home_of(x) if device == "auto" else resolve("cupy" if device == "cuda" else "numpy")


def copied(x: Array) -> Array:
    """Return a copy that lies where ``x`` does."""
    return backend_of(x).xp.asarray(x, copy=True)


def checked(estimator: Any, x: Any, home: Backend, *, reset: bool) -> Array:
    """Return rows on a device, checked there as scikit-learn checks rows on the host."""
    x = home.asarray(x)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"X: has shape {tuple(x.shape)}; expected (n, n_features), at least one of each.")
    validate_data(estimator, x, skip_check_array=True, reset=reset)
    if dtype_name(x) not in ("float32", "float64"):
        x = home.asarray(x, "float64")
    if not bool(home.xp.all(home.xp.isfinite(x))):
        raise ValueError("X: holds NaN or infinity; expected finite numbers.")
    return x


def on_host(x: Any) -> Any:
    """Return an array on a device as one on the host; anything else as it is."""
    return x if x is None or home_of(x) is NUMPY else to_numpy(x)


def sent_back(result: Array, home: Backend) -> Array:
    """Return results from the host where the rows lay, but for names of classes and sparse labels."""
    return home.asarray(result) if home is not NUMPY and result.dtype.kind in "fiub" else result
