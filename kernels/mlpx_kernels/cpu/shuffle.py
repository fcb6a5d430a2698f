"""Orders of rows, drawn as NumPy's ``shuffle`` draws them, in a third of the time.

NumPy draws again where a number is too large, which a processor cannot foresee; here what is too large swaps a row with
itself.
"""

import ctypes

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mlpx_kernels import Unsupported
from mlpx_kernels.cpu.lowlevel.compile import kernel
from mlpx_kernels.cpu.lowlevel.memory import view

STATE, _, NEXT_UINT32 = range(3)
"""Words of a ``bitgen_t``, which is NumPy's interface for C: an address that its functions take; functions."""
N_WORDS = 3

_address = ctypes.pythonapi.PyCapsule_GetPointer
_address.restype, _address.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


@intrinsic
def draw(typingctx, function, state):
    """Return the next 32 random bits of a generator."""

    def codegen(context, builder, signature, args):
        word = ir.FunctionType(ir.IntType(32), [ir.IntType(64)])
        return builder.call(builder.inttoptr(args[0], word.as_pointer()), [args[1]])

    return types.uint32(types.int64, types.int64), codegen


@kernel
def shuffle(generator, before, orders, chained):
    """Write orders (epochs, n): shuffles of ``before`` (n,); if ``chained``, of the one above but for the first."""
    words = view(generator, 0, N_WORDS, np.int64)
    function, state = words[NEXT_UINT32], words[STATE]
    for e in range(orders.shape[0]):
        source, x = orders[e - 1] if chained and e > 0 else before, orders[e]
        for k in range(x.size):
            x[k] = source[k]
        last = x.size - 1
        mask = np.int64(0)
        while mask < last:
            mask = 2 * mask + 1
        while last > 0:
            half = mask >> 1
            while last > half:
                place = np.int64(draw(function, state)) & mask
                fits = place <= last
                other = place if fits else last
                x[last], x[other] = x[other], x[last]
                last -= np.int64(fits)
            mask = half


BITS = {np.random.RandomState: "_bit_generator", np.random.Generator: "bit_generator"}
"""Where each kind of generator has what its bits come from."""


def orders(generator, before, epochs, chained):
    """Return the orders (epochs, n) that ``generator.shuffle`` would give.

    Parameters
    ----------
    generator : numpy.random.RandomState or numpy.random.Generator
        Afterwards it is where it would then be.
    before : array (n,), int64
        C-contiguous; what is shuffled.
    epochs : int
    chained : bool
        Whether each order but the first shuffles the one above it instead.
    """
    if type(generator) not in BITS or before.size > 2**32:
        raise Unsupported(f"{type(generator).__name__} shuffles by itself")
    result = np.empty((epochs, before.size), np.int64)
    bits = getattr(generator, BITS[type(generator)])
    with bits.lock:
        shuffle(_address(bits.capsule, b"BitGenerator"), before, result, chained)
    return result
