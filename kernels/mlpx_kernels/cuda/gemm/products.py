"""Matrix products of a training step, each prepared once for fixed arrays and launched many times.

Three products make a dense layer, all over C-contiguous arrays:

===============  ======================  =============================================
``forward``      ``y = x @ w.T``         x (n, i), w (o, i), y (n, o)
``input_grad``   ``dx = d @ w``          d (n, o), dx (n, i)
``weight_grad``  ``dw = d.T @ x``        dw (o, i)
===============  ======================  =============================================

`CupyProducts` are cuBLAS through CuPy, which refuses it while a step is captured; `TileProducts` are a kernel of our
own, for small matrices; cublaslt.py has those that also take bias and activation along.
"""

from typing import Any, Protocol

import numpy as np

from mlpx_kernels.cuda.runtime.arrays import Launch, ctype
from mlpx_kernels.cuda.runtime.compile import kernel

TILE, SIDE = 32, 16
"""As in product.cu."""


class Products(Protocol):
    """Products that a step is made of.

    Attributes
    ----------
    name : str
        What reports call them.
    captured : bool
        Whether they may be part of a captured step.
    """

    name: str
    captured: bool

    def forward(self, x: Any, w: Any, y: Any) -> Launch:
        """Return the launch of ``y = x @ w.T``."""

    def input_grad(self, d: Any, w: Any, dx: Any) -> Launch:
        """Return the launch of ``dx = d @ w``."""

    def weight_grad(self, d: Any, x: Any, dw: Any) -> Launch:
        """Return the launch of ``dw = d.T @ x``."""


class CupyProducts:
    """cuBLAS through CuPy. CuPy's own settings choose TF32."""

    name, captured = "cuBLAS through CuPy", False

    def forward(self, x: Any, w: Any, y: Any) -> Launch:
        """Return the launch of ``y = x @ w.T``."""
        return self._product(x, w.T, y)

    def input_grad(self, d: Any, w: Any, dx: Any) -> Launch:
        """Return the launch of ``dx = d @ w``."""
        return self._product(d, w, dx)

    def weight_grad(self, d: Any, x: Any, dw: Any) -> Launch:
        """Return the launch of ``dw = d.T @ x``."""
        return self._product(d.T, x, dw)

    @staticmethod
    def _product(a: Any, b: Any, out: Any) -> Launch:
        import cupy

        def launch() -> None:
            cupy.matmul(a, b, out=out)

        return launch


class TileProducts:
    """The kernel of product.cu: one launch, captured like any other, at its best where all matrices are small.

    Factors may be bfloat16 while the result is float32.
    """

    name, captured = "tiles of our own", True

    def forward(self, x: Any, w: Any, y: Any) -> Launch:
        """Return the launch of ``y = x @ w.T``."""
        return self._product(x, w, y, x.shape[1], "false, true")

    def input_grad(self, d: Any, w: Any, dx: Any) -> Launch:
        """Return the launch of ``dx = d @ w``."""
        return self._product(d, w, dx, d.shape[1], "false, false")

    def weight_grad(self, d: Any, x: Any, dw: Any) -> Launch:
        """Return the launch of ``dw = d.T @ x``."""
        return self._product(d, x, dw, d.shape[0], "true, false")

    @staticmethod
    def _product(a: Any, b: Any, out: Any, k: int, transposed: str) -> Launch:
        run = kernel("product", f"product<{ctype(a)}, {ctype(out)}, {transposed}>")
        m, n = out.shape
        grid = (-(-n // TILE), -(-m // TILE))
        args = (a, b, out, np.int64(m), np.int64(n), np.int64(k))
        return lambda: run(grid, SIDE * SIDE, args)
