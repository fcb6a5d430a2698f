"""Sparse rows in training: when they stay sparse, and the first layer that multiplies them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse

from mlpx import ops
from mlpx.layers import INFERENCE, Backprop, Context, Dense
from mlpx.layers.base import PlanRow
from mlpx.typing import Array

DENSE_ELEMENTS = 1 << 22
"""Elements of sparse rows that are dense at once, unless a single step needs more of rows that are not sparse."""
FEW_ELEMENTS = 1 << 16
"""Elements of a step up to which the products are not what takes the time."""


def stays_sparse(x: Any, rows: int) -> bool:
    """Return whether ``x`` is left sparse where a step takes so many of its rows at once.

    Fused kernels, which take dense rows, are as fast as products of sparse ones where a tenth is not zero, and several
    times slower where a hundredth is. Where the rows take much memory they stay sparse unless that takes as much.
    """
    if not issparse(x):
        return False
    elements, density = rows * x.shape[1], x.nnz / (x.shape[0] * x.shape[1])
    return bool(density < 1 / 4 if elements > DENSE_ELEMENTS else density < 1 / 32 and elements > FEW_ELEMENTS)


@dataclass
class FirstDense(Dense):
    """A dense layer whose input may be a sparse matrix (n, n_in); the gradient of its weights alone is dense.

    Fused kernels, which take arrays alone, treat it as any dense layer; so do files.
    """

    saved_as = Dense

    def describe(self, n_in: int) -> PlanRow:
        """Return the row of a plan."""
        return super().describe(n_in)

    def forward(self, x: Any, context: Context = INFERENCE) -> tuple[Array, Backprop]:
        """Return y (n, n_out) for x (n, n_in), and its backprop."""
        if not issparse(x):
            return super().forward(x, context)
        w, kind = self.value("w"), self.activation
        z = np.asarray(x @ w.T)
        if self.bias:
            z += self.value("b")
        y, saved = ops.activation(z, kind=kind)

        def backprop(dy: Array) -> Array | None:
            if context.per_row is not None:  # a row of all weights for each row: dense rows are the least of it
                self._store_rows(context.per_row, *ops.dense_grad_rows(dy, x.toarray(), saved, activation=kind))
            dz = ops.activation_grad(dy, saved, kind=kind)
            self.parameters["w"].store(np.asarray(x.T @ dz).T)
            if self.bias:
                self.parameters["b"].store(dz.sum(axis=0))
            return dz @ w if context.need_dx else None

        return y, backprop
