"""What an estimator's network says about rows: dense, sparse, masked, and more of them than memory holds."""

from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted, validate_data

from mlpx import ops
from mlpx.backend import NUMPY, backend_of, dtype_name
from mlpx.estimators.devices import check_all_readable, checked, home_of
from mlpx.estimators.fitted import FittedNetwork
from mlpx.estimators.naming import naming
from mlpx.estimators.weights import Weights
from mlpx.typing import Array

CONVERTED_AT_ONCE = 1 << 18
"""Elements of rows that are checked, converted or made dense at once: the whole of them never exists twice."""


def all_finite(x: Array) -> bool:
    """Return whether every element of an array on the host is finite; in blocks, since rows may fill the memory."""
    if x.size <= CONVERTED_AT_ONCE:
        return bool(np.isfinite(x).all())
    if x.flags.c_contiguous or x.flags.f_contiguous:
        x = x.ravel(order="K")
    size = max(1, CONVERTED_AT_ONCE * x.shape[0] // x.size)
    return all(np.isfinite(x[start : start + size]).all() for start in range(0, x.shape[0], size))


def _converted(x: Array, dtype: str) -> Array:
    """Return rows on the host as C-contiguous ones of a dtype, or raise ValueError for numbers too large for it."""
    with naming("X"), np.errstate(over="ignore"):
        converted = np.ascontiguousarray(x, dtype)
    if x.dtype != dtype and not all_finite(converted) and all_finite(x):
        raise ValueError(
            f"X: holds numbers too large for {dtype}, the dtype of the weights. Scale it, or fit in float64."
        )
    return converted


class Predicting(Weights):
    """The parts of an estimator that predict."""

    def _output(self, X: Any, mask: Any = None, *, logits: bool = False) -> Array:
        """Return the network's output (n, n_outputs) for unchecked rows, or the logits, which no mask changes."""
        if "_fitted" not in self.__dict__:  # scikit-learn's check takes longer than a small prediction
            check_is_fitted(self)
        now, home = self._current(), NUMPY
        if type(X) is not np.ndarray:
            check_all_readable(X=X)
            home = home_of(X)
        if home is not NUMPY:
            X = checked(self, X, home, reset=False)
        elif not self._plainly_fine(X, now):
            with naming("X"):
                X = validate_data(self, X, accept_sparse="csr", reset=False)
        return self._output_of(X, now, None if mask is None else self._checked_mask(mask, X.shape[0]), logits)

    def _plainly_fine(self, X: Any, now: FittedNetwork) -> bool:
        """Return whether ``X`` needs no further check: scikit-learn's checks take longer than a small prediction."""
        return (
            type(X) is np.ndarray
            and X.dtype == now.dtype
            and X.ndim == 2
            and X.shape[1] == now.n_in
            and X.shape[0] > 0
            and "feature_names_in_" not in self.__dict__
            and all_finite(X)
        )

    def _output_of(self, X: Any, now: FittedNetwork, mask: Array | None = None, logits: bool = False) -> Array:
        """Return the output for checked rows: all at once where they can be read in place, else block by block."""
        masked, predict = (mask is not None or now.architecture.masked) and not logits, now.predict
        backend, home = now.backend, home_of(X)
        if logits:
            predict = now.logits
        if backend.name == home.name and not masked and self._readable(X, now.dtype):
            return predict(X)
        size = max(1, CONVERTED_AT_ONCE // max(X.shape[1], 1))
        result = home.zeros((X.shape[0], now.n_out), now.dtype)
        for start in range(0, X.shape[0], size):
            part = slice(start, min(start + size, X.shape[0]))
            x = X[part].toarray() if issparse(X) else X[part, ...]
            x = backend.asarray(_converted(x, now.dtype) if home is NUMPY else x, now.dtype)
            flags = None if mask is None else backend.asarray(mask[part])
            y = self._allowed(x, now, flags) if masked else predict(x)
            result[part, ...] = home.asarray(y)
        return result

    def _readable(self, X: Any, dtype: str) -> bool:
        """Return whether a network of this dtype reads rows where they lie, without a copy."""
        if isinstance(X, np.ndarray):
            return bool(X.dtype == dtype and X.flags.c_contiguous)
        return not issparse(X) and dtype_name(X) == dtype

    def _allowed(self, x: Array, now: FittedNetwork, mask: Array | None) -> Array:
        """Return probabilities (n, n_outputs) with zeros where the mask (n, n_classes) forbids."""
        if now.n_out == 1:
            return self._forced(now.predict(x), mask)
        if mask is None:
            mask = now.backend.asarray(np.ones((x.shape[0], now.n_out), bool))
        return ops.masked_softmax(now.logits(x), mask)

    def _forced(self, output: Array, mask: Array | None) -> Array:
        """Return probabilities of the second of two classes (n, 1), exact where only one is allowed."""
        if mask is None or mask.shape[1] == 1:  # with one class there is nothing to choose
            return output
        xp = backend_of(output).xp
        zeros = xp.zeros_like(output)
        return xp.where(mask[:, 1:], xp.where(mask[:, :1], output, zeros + 1), zeros)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
