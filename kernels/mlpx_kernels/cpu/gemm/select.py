"""Matrix products in tiles of vector registers, where they beat the BLAS.

Nothing is packed but a ``b`` that comes transposed, and operands whose rows lie far apart. A BLAS packs both operands
and chooses its way per call; at the sizes of a batch through a layer that costs it 10 to 40 %.
"""

from bisect import bisect_left
from functools import cache, partial

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mlpx_kernels.cpu.gemm.blas import ASKED, LIBRARY, NT, TN, blas_product
from mlpx_kernels.cpu.gemm.register_tiles import ROWS, VECTORS, multiply, pack, padded
from mlpx_kernels.cpu.gemm.row_dots import dots, lone_row
from mlpx_kernels.cpu.lowlevel.compile import cached_callback, inlined, merged
from mlpx_kernels.cpu.lowlevel.memory import alloc_scratch, free_scratch, size_of, view
from mlpx_kernels.cpu.lowlevel.simd import VECTOR_BYTES, add_rows
from mlpx_kernels.cpu.threading.blas_threads import LIBRARIES

SKINNY, LONG = 16, 1024
"""Outputs up to which, and inputs from which on, sums of products along the rows (dots.py) are faster than tiles."""
FEW = 16
"""Numbers of a sum up to which a product waits for its stores: it is written some rows at a time, since stores to one
place of many rows, a power of two apart, drive each other from the cache."""
FAR, OFTEN = 2048, 128
"""Bytes between rows beyond which they are copied side by side, if every number is used so many times, in sums of more
than `FEW`: rows a page apart share a few places of each cache, and drive each other out."""
QUICK_RESULT, QUICK_PRODUCT = 1200, 1_000_000
"""Numbers of a result (NT alone) and multiplications up to which OpenBLAS has a quicker way of its own, which wins over
tiles that are not filled, or for which few rows' weights are turned; on some processors."""
QUICK_ON = {"SkylakeX", "Cooperlake", "SapphireRapids"}
"""OpenBLAS's names of them: those with AVX-512."""


TILES = 8
"""What is added to a form so that tiles are taken without asking: by those who share the rows of one product, all of
which must be computed alike."""


@cache
def has_quick_way():
    """Return whether OpenBLAS has its quicker way here."""
    return any(each.architecture in QUICK_ON for each in LIBRARIES if "scipy" in each.filepath)


@merged
def fits_tiles(form, m, n, k, lanes, quick_way):
    """Return whether tiles are faster than the BLAS: packing must pay, and where the BLAS is quick they must be filled.

    Sums of a few numbers are over before a BLAS has begun. Where tiles are not filled, or rows are few, the number of a
    batch's rows counts, so the same rows in a batch of another size may be summed in another order.
    """
    if m < ROWS:
        return False
    if form == NT and k <= lanes:
        return True
    filled = n / padded(n, lanes)
    if form == TN:
        filled *= m / padded(m, ROWS)
    quick = m * n * k <= QUICK_PRODUCT
    if form == NT:
        quick = quick and m * n <= QUICK_RESULT
        filled *= m >= 2 * ROWS  # to turn weights for few rows does not pay
    else:
        quick = quick or filled < 0.5
    return filled >= 0.8 or not (quick and quick_way)


@cache
def batch_invariant_from(form, most, n, k, dtype):
    """Return from how many rows of ``a`` on, up to ``most``, each gets the same numbers whatever others come with it.

    One more than ``most`` where a BLAS takes them all, which may sum in another order for every number of rows.
    """
    if not IN_TILES:
        return most + 1
    if form == NT and n <= SKINNY and k >= LONG:
        return 2
    lanes, quick_way = VECTOR_BYTES // np.dtype(dtype).itemsize, has_quick_way()
    fit = partial(fits_tiles.py_func, form, n=n, k=k, lanes=lanes, quick_way=quick_way)
    return 1 + bisect_left(range(1, most + 1), True, key=fit)  # once tiles fit some rows, they fit more


@inlined
def add_to_rows(real, bias, c, m, n, ldc):
    """Add the n numbers at the address ``bias``, if it is not 0, to the rows of ``c``."""
    size = size_of(real)
    if bias:
        for r in range(m):
            for j in range(0, n, VECTOR_BYTES // size):
                add_rows(real, bias + j * size, 0, 1, n - j, c + (r * ldc + j) * size)


@inlined
def by_blas(real, form, a, b, bias, c, m, n, k, lda, ldb, ldc):
    """A product by the BLAS, then the bias."""
    blas_product(form, view(a, 0, 1, real), view(b, 0, 1, real), view(c, 0, 1, real), m, n, k, lda, ldb, ldc)
    add_to_rows(real, bias, c, m, n, ldc)


@cache
def products(dtype):
    """Return the compiled ``run(form, a, b, bias, c, m, n, k, lda, ldb, ldc)`` of a dtype, which writes ``c``.

    Addresses, and strides in elements. Rows of c begin as the n numbers at ``bias``; as 0, if that is 0.
    """
    real, quick_way = np.dtype(dtype).type, has_quick_way()

    @cached_callback(types.void(*(types.int64,) * 11))
    def run(form, a, b, bias, c, m, n, k, lda, ldb, ldc):
        size = size_of(real)
        lanes = VECTOR_BYTES // size
        asking, form = form < TILES, form % TILES
        if form == NT and (m == 1 or (n <= SKINNY and k >= LONG)):
            if m == 1:
                lone_row(real, a, b, c, n, k, ldb)
            else:
                dots(real, a, b, c, m, n, k, lda, ldb, ldc)
            add_to_rows(real, bias, c, m, n, ldc)
            return
        if asking and not fits_tiles(form, m, n, k, lanes, quick_way):
            by_blas(real, form, a, b, bias, c, m, n, k, lda, ldb, ldc)
            return
        wide, deep = VECTORS * lanes, padded(k, lanes)
        b_stripe = wide * (ldb if form == NT else 1)
        a_row, a_k, a_stripe = (1, lda, lanes) if form == TN else (lda, 1, lanes * lda)
        pack_b = form == NT or (ldb * size > FAR and m >= OFTEN and k > FEW)
        pack_a = form == TN and lda * size > FAR and n >= OFTEN and m % ROWS == 0 and lanes % ROWS == 0
        stripe = wide * deep if pack_b else 0
        scratch = alloc_scratch(stripe + (padded(m, lanes) * deep if pack_a else 0), real)
        packed = scratch.ctypes.data
        if pack_a:
            target = packed + stripe * size
            pack(real, False, a, lda, m, k, lanes, target)
            a, a_k, a_stripe = target, lanes, lanes * deep
        rows = ROWS if k <= FEW and not pack_b else m
        top = 0
        while top < m:
            top = min(top, m - rows)
            x, y = a + (top // lanes * a_stripe + top % lanes * a_row) * size, c + top * ldc * size
            multiply(real, x, a_row, a_k, a_stripe, form, b, ldb, b_stripe, pack_b, packed, bias, y, ldc, rows, n, k)
            top += rows
        free_scratch(scratch)

    return run


@cache
def blas_products(dtype):
    """Return a function as `products` gives, for processors or users that want nothing but the BLAS."""
    real = np.dtype(dtype).type

    @cached_callback(types.void(*(types.int64,) * 11))
    def run(form, a, b, bias, c, m, n, k, lda, ldb, ldc):
        by_blas(real, form, a, b, bias, c, m, n, k, lda, ldb, ldc)

    return run


IN_TILES = VECTOR_BYTES >= 32 and LIBRARY == "openblas" and ASKED == "auto"
"""Whether tiles may be taken: where they were measured, and unless a BLAS was asked for."""


@cache
def register(dtype):
    """Name the products of a dtype for compiled code, which must be done before that is compiled or loaded."""
    run = (products if IN_TILES else blas_products)(dtype)
    llvmlite.binding.add_symbol(f"mlpx_product_{np.dtype(dtype)}", run.address)
    return run


@intrinsic
def product(typingctx, form, a, b, bias, c, m, n, k, lda, ldb, ldc):
    """Write ``c (m, n)`` by tiles or the BLAS, whichever is faster; flat arrays that start at the first element.

    ``bias`` is the address of what is added to each row, or 0. Calls what is registered for the dtype of the arrays.
    """
    name = f"mlpx_product_{c.dtype}"

    def codegen(context, builder, signature, args):
        i64 = ir.IntType(64)

        def start(place):
            array = cgutils.create_struct_proxy(signature.args[place])(context, builder, value=args[place])
            return builder.ptrtoint(array.data, i64)

        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), [i64] * 11), name)
        builder.call(function, [args[0], start(1), start(2), args[3], start(4), *args[5:]])
        return context.get_dummy_value()

    whole = types.int64
    return types.void(whole, a, b, whole, c, *(whole,) * 6), codegen
