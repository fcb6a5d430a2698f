"""Which products a step on this machine is made of."""

from collections.abc import Sequence

from mlpx_kernels import Unsupported
from mlpx_kernels.cuda.gemm.cublaslt import LtProducts
from mlpx_kernels.cuda.gemm.products import CupyProducts, Products, TileProducts

SMALL = 1 << 22
"""Multiplications of a product up to which our own tiles are not much slower than cuBLAS, and a graph wins more than
they lose: some 10 us on a large GPU, two launches' worth."""


def products(sizes: Sequence[tuple[int, int, int]], precision: str = "float32") -> tuple[Products, str]:
    """Return the products for dense layers of given (rows, n_in, n_out), and why better ones cannot be had.

    cuBLASLt where nvmath-python is installed; else our own tiles where every product is small; else cuBLAS through
    CuPy, which cannot be captured. Tensor cores ("tf32", "bf16") want the first.

    Raises
    ------
    Unsupported
        For bf16 factors too large for our own tiles, where there is no cuBLASLt.
    """
    try:
        return LtProducts(tf32=precision == "tf32"), ""
    except Unsupported as reason:
        small = all(rows * n_in * n_out <= SMALL for rows, n_in, n_out in sizes)
        if small and precision != "tf32":
            return TileProducts(), ""
        if precision == "bf16":
            raise
        return CupyProducts(), str(reason)
