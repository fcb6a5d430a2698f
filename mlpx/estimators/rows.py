"""Checked rows of one fit, and how some of them are held out."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.model_selection import train_test_split

from mlpx.backend import NUMPY, Backend, kind_of
from mlpx.estimators.devices import home_of
from mlpx.estimators.sparse import stays_sparse
from mlpx.network.host_rows import HostRows, moved
from mlpx.typing import Array


@dataclass
class Rows:
    """Rows as a fit takes them.

    Attributes
    ----------
    x : array, sparse matrix or HostRows (n, n_features)
    y : array
        Classes, labels or numbers as they came, on the host; scores compare with them.
    target : array
        What the network's loss takes.
    weight : array (n,), optional
    mask : array (n, n_outputs), bool, optional
    exponent : int
        The weights that were given are these times 2 to this power.
    """

    x: Any
    y: Any
    target: Array
    weight: Array | None = None
    mask: Array | None = None
    exponent: int = 0

    @property
    def n(self) -> int:
        """The number of rows."""
        return int(self.x.shape[0])

    def take(self, rows: Array | slice) -> "Rows":
        """Return some of the rows."""
        parts = (self.x, self.y, self.target, self.weight, self.mask)
        x, y, target, weight, mask = (None if part is None else _some(part, rows) for part in parts)
        return Rows(x, y, target, weight, mask, self.exponent)

    def on(self, backend: Backend, dtype: str) -> "Rows":
        """Return the rows as a network on a backend takes them; sparse ones stay on the host alone, and so do those
        that would fill the device's memory.
        """
        x = self.x.toarray() if issparse(self.x) and backend is not NUMPY else self.x
        with in_range("X", dtype):
            x = moved(x, backend, dtype, streamed=True)
            if issparse(x):
                x = x.astype(dtype, copy=False)
            elif not isinstance(x, HostRows):
                x = backend.asarray(x, dtype)
        with in_range("y", dtype):
            target = backend.asarray(self.target, None if self.target.dtype.kind == "i" else dtype)
        weight = None if self.weight is None else backend.asarray(self.weight, dtype)
        mask = None if self.mask is None else backend.asarray(self.mask)
        return Rows(x, self.y, target, weight, mask, self.exponent)

    def penalty(self, alpha: float) -> float:
        """Return scikit-learn's ``alpha`` for the weights that are here: a loss divides both by their sum."""
        try:
            return math.ldexp(alpha, -self.exponent)
        except OverflowError:
            raise ValueError(
                f"sample_weight: the largest is about 2 to the power {self.exponent}, beside which the penalty of "
                f"alpha={alpha:g} overflows. Scale the weights up, or set alpha=0."
            ) from None

    def largest(self) -> str:
        """Return the largest magnitudes, for an error."""
        told = []
        for name, part in (("X", self.x), ("y", self.target)):
            data = part.data if issparse(part) else part
            if not isinstance(data, HostRows) and kind_of(data) == "f" and math.prod(data.shape):
                xp = home_of(data).xp
                told.append(f"{float(xp.max(xp.abs(data))):.3g} in {name}")
        return f"up to {' and '.join(told)}" if told else "numbers that are not in memory"

    def check_weigh(self, what: str, prefix: str = "sample_weight") -> None:
        """Raise ValueError where all rows have a weight of 0."""
        if self.weight is not None and not bool(home_of(self.weight).xp.any(self.weight > 0)):
            raise ValueError(
                f"{prefix}: {what} weigh nothing: every weight is 0, of the row or of its class, or vanishes in the "
                "dtype of the network beside the largest."
            )

    def together(self) -> Array:
        """Return all of x where the network is: an array, or a sparse matrix that would take much memory as one."""
        if isinstance(self.x, HostRows):
            return self.x.take(slice(None))
        return self.x.toarray() if issparse(self.x) and not stays_sparse(self.x, self.n) else self.x

    def split(self, share: float, random_state: Any, stratify: Any) -> tuple["Rows", "Rows"]:
        """Return the rows to train on and the share held out, as scikit-learn draws them."""
        if share == 0.0:
            raise ValueError(
                "validation_fraction: is 0, and early_stopping needs rows that are held out; expected more, or "
                "validation_data."
            )
        try:
            kept, held_out = train_test_split(
                np.arange(self.n), random_state=random_state, test_size=share, stratify=stratify
            )
        except ValueError as error:
            why = _lone(self.y, stratify)
            raise ValueError(
                f"early_stopping: validation_fraction={share} of {self.n} rows cannot be held out{why}. Give "
                f"validation_data, or more rows. scikit-learn says: {error}"
            ) from error
        if held_out.size < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        return self.take(kept), self.take(held_out)


@contextmanager
def in_range(name: str, dtype: str) -> Iterator[None]:
    """Raise ValueError for numbers that become infinite as they are converted to a dtype on the host."""
    try:
        with np.errstate(over="raise"):
            yield
    except FloatingPointError:
        raise ValueError(
            f"{name}: holds numbers too large for {dtype}, the dtype of the weights. Scale it, or fit in float64."
        ) from None


def weighed(factors: Sequence[Array]) -> tuple[Array | None, int]:
    """Return the product of several weights of each row, and its power of 2.

    The largest of each is brought to [1, 2) by a power of 2 first, which changes no bit of what is left: neither small
    weights nor large ones are lost in another dtype or in a sum.
    """
    weight, exponent = None, 0
    for factor in factors:
        largest = float(factor.max())
        if not math.isfinite(largest):
            raise ValueError("sample_weight: holds NaN or infinity, by itself or from class_weight; expected numbers.")
        shift = math.frexp(largest)[1] - 1 if largest > 0.0 else 0
        part = np.ldexp(factor, -shift) if shift else factor
        weight, exponent = part if weight is None else weight * part, exponent + shift
    return weight, exponent


def _lone(y: Array, stratify: Array | None) -> str:
    """Return the class that has a single row, if one of two has: so few cannot be shared out."""
    if stratify is None:
        return ""
    _, first, counts = np.unique(stratify, return_index=True, return_counts=True)
    alone = first[counts == 1]
    return f": class {y[alone[0]]} has a single one" if alone.size else ""


def _some(part: Any, rows: Array | slice) -> Any:
    if isinstance(part, HostRows):
        return part.subset(np.arange(part.shape[0])[rows])
    if isinstance(rows, slice) or home_of(part) is NUMPY:
        return part[rows, ...] if isinstance(rows, slice) and not issparse(part) else part[rows]
    backend = home_of(part)
    return backend.xp.take(part, backend.asarray(rows), axis=0)
