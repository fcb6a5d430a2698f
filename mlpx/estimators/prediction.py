"""What an estimator's network says about rows: dense, sparse, masked, and more of them than memory holds."""

import math
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from mlpx import ops
from mlpx.estimators.weights import Weights
from mlpx.layers import INFERENCE
from mlpx.model import Sequential
from mlpx.typing import Array

CONVERTED_AT_ONCE = 1 << 20
"""Elements of rows that a prediction converts or makes dense at once: the whole of them never exists twice."""


def _finite_sum(x: Array) -> bool:
    """Return whether the sum is finite; where it is, every element is."""
    with np.errstate(invalid="ignore", over="ignore"):
        return math.isfinite(x.sum())


class Predicting(Weights):
    """The parts of an estimator that predict."""

    def _output(self, X: Any, mask: Any = None) -> Array:
        """Return the network's output (n, n_outputs) for unchecked rows."""
        check_is_fitted(self)
        net = self._network()
        if not self._plainly_fine(X, net):
            X = validate_data(self, X, accept_sparse="csr", reset=False)
        return self._output_of(X, net, None if mask is None else self._checked_mask(mask, X.shape[0]))

    def _plainly_fine(self, X: Any, net: Sequential) -> bool:
        """Return whether ``X`` needs no further check: scikit-learn's checks take longer than a small prediction."""
        return (
            type(X) is np.ndarray
            and X.dtype == net.dtype
            and X.ndim == 2
            and X.shape[1] == self.n_features_in_
            and X.shape[0] > 0
            and not hasattr(self, "feature_names_in_")
            and _finite_sum(X)
        )

    def _output_of(self, X: Any, net: Sequential, mask: Array | None = None) -> Array:
        """Return the output for checked rows: all at once where they can be read in place, else block by block."""
        masked = mask is not None or self._masked
        if isinstance(X, np.ndarray) and X.dtype == net.dtype and X.flags.c_contiguous and not masked:
            return net.predict(X)
        size = max(1, CONVERTED_AT_ONCE // max(X.shape[1], 1))
        result = np.empty((X.shape[0], self.n_outputs_), net.dtype)
        for start in range(0, X.shape[0], size):
            part = slice(start, start + size)
            x = X[part] if isinstance(X, np.ndarray) else X[part].toarray()
            x = np.ascontiguousarray(x, net.dtype)
            result[part] = self._allowed(x, net, None if mask is None else mask[part]) if masked else net.predict(x)
        return result

    def _allowed(self, x: Array, net: Sequential, mask: Array | None) -> Array:
        """Return probabilities (n, n_outputs) with zeros where the mask (n, n_classes) forbids."""
        if self.n_outputs_ == 1:
            return self._forced(net.predict(x), mask)
        predictor = net.predictor(to_the_loss=True)
        z = x
        if predictor is not None:
            z = predictor(x, None)
        else:
            for layer in net.layers[:-1]:
                z = layer.forward(z, INFERENCE)[0]
        return ops.masked_softmax(z, np.ones(z.shape, bool) if mask is None else mask)

    def _forced(self, output: Array, mask: Array | None) -> Array:
        """Return probabilities of the second of two classes (n, 1), exact where only one is allowed."""
        if mask is None:
            return output
        second = np.where(mask[:, :1], output, 1.0)
        return np.where(mask[:, 1:], second, 0.0).astype(output.dtype, copy=False)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
