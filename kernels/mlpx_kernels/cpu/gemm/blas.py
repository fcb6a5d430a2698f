"""Matrix products inside compiled code, through a function pointer to whichever BLAS is there.

The address is registered under a name of our own ("mlpx_sgemm", "mlpx_dgemm") and compiled code calls the name, so
compiled kernels can be cached on disk and the BLAS behind them can change between processes. SciPy's OpenBLAS is
always there; Intel's MKL is taken where its package is installed (extra ``mkl``). ``MLPX_BLAS`` = auto, openblas, mkl.
"""

import ctypes
import os
import sys
from pathlib import Path

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

from mlpx_kernels import BadSetting
from mlpx_kernels.cpu.lowlevel.compile import inlined

ASKED = os.environ.get("MLPX_BLAS") or "auto"
"""Which library was asked for; an empty variable says nothing."""


def _mkl() -> ctypes.CDLL | None:
    """Return MKL's single dynamic library where its wheel has put it."""
    places = [Path(sys.prefix) / "lib", Path(sys.prefix) / "Library" / "bin"]
    for folder in places:
        for name in ("libmkl_rt.so.3", "libmkl_rt.so.2", "mkl_rt.3.dll", "mkl_rt.2.dll"):
            if (folder / name).is_file():
                return ctypes.CDLL(str(folder / name))
    return None


def _register() -> str:
    """Give the products their names; return which library stands behind them."""
    if ASKED not in ("auto", "openblas", "mkl"):
        raise BadSetting(f"MLPX_BLAS: expected auto, openblas or mkl, got {ASKED!r}.")
    mkl = _mkl() if ASKED != "openblas" else None
    if ASKED == "mkl" and mkl is None:
        raise BadSetting("MLPX_BLAS is mkl, but MKL is not installed: pip install 'mlpx[mkl]'")
    for name in ("sgemm", "dgemm"):
        if mkl is not None:
            address = ctypes.cast(getattr(mkl, name), ctypes.c_void_p).value
        else:
            address = get_cython_function_address("scipy.linalg.cython_blas", name)
        llvmlite.binding.add_symbol(f"mlpx_{name}", address)
    return "mkl" if mkl is not None else "openblas"


LIBRARY = _register()
"""The library behind the products: "mkl" or "openblas"."""


@intrinsic
def _gemm(typingctx, transpose_a, transpose_b, m, n, k, a, lda, b, ldb, beta, c, ldc):
    """Fortran's ``xGEMM`` with alpha 1 on raw pointers; column-major, as BLAS has it."""
    real = c.dtype
    name = "mlpx_sgemm" if real == types.float32 else "mlpx_dgemm"
    integers = (types.int64,) * 3
    signature = types.void(types.uint8, types.uint8, *integers, a, types.int64, b, types.int64, real, c, types.int64)

    def codegen(context, builder, signature, args):
        byte, int32, value = ir.IntType(8), ir.IntType(32), context.get_value_type(real)

        def slot(kind, content):
            place = cgutils.alloca_once(builder, kind)
            builder.store(content, place)
            return place

        def integer(content):
            return slot(int32, builder.trunc(content, int32))

        ta, tb, m_, n_, k_, a_, lda_, b_, ldb_, beta_, c_, ldc_ = args
        call = [
            slot(byte, ta),
            slot(byte, tb),
            integer(m_),
            integer(n_),
            integer(k_),
            slot(value, ir.Constant(value, 1.0)),
            a_,
            integer(lda_),
            b_,
            integer(ldb_),
            slot(value, beta_),
            c_,
            integer(ldc_),
        ]
        kind = ir.FunctionType(ir.VoidType(), [x.type for x in call])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), call)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _pointer(typingctx, array):
    """Return the address of an array's first element."""
    kind = types.CPointer(array.dtype)

    def codegen(context, builder, signature, args):
        return cgutils.create_struct_proxy(array)(context, builder, value=args[0]).data

    return kind(array), codegen


NORMAL, TRANSPOSED = ord("N"), ord("T")
NT, NN, TN = range(3)
"""Forms of a product ``c (m, n)``: ``a (m, k) @ b (n, k).T``, ``a (m, k) @ b (k, n)`` and ``a (k, m).T @ b (k, n)``."""


@inlined
def blas_product(form, a, b, c, m, n, k, lda, ldb, ldc):
    """Write a row-major product; arguments are flat arrays that start at the first element."""
    first = TRANSPOSED if form == NT else NORMAL
    second = TRANSPOSED if form == TN else NORMAL
    _gemm(first, second, n, m, k, _pointer(b), ldb, _pointer(a), lda, c.dtype.type(0.0), _pointer(c), ldc)
