"""Orders of rows, drawn as `numpy.random.RandomState.shuffle` draws them, in a third of the time.

NumPy draws again where a number is too large, which a processor cannot foresee; here what is too large swaps a row with
itself.
"""

import ctypes

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mlpx_kernels import Unsupported
from mlpx_kernels.cpu.compile import kernel
from mlpx_kernels.cpu.memory import view

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
def shuffle(generator, before, orders):
    """Write orders (epochs, n): the first shuffles ``before`` (n,), each other one the one above it."""
    words = view(generator, 0, N_WORDS, np.int64)
    function, state = words[NEXT_UINT32], words[STATE]
    for e in range(orders.shape[0]):
        source, x = before if e == 0 else orders[e - 1], orders[e]
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


def orders(state, before, epochs):
    """Return the orders (epochs, n) that ``state.shuffle`` would give, each from the one above it.

    Parameters
    ----------
    state : numpy.random.RandomState
        Afterwards it is where it would then be.
    before : array (n,), int64
        C-contiguous; the first order shuffles it.
    epochs : int
    """
    if type(state) is not np.random.RandomState or before.size > 2**32:
        raise Unsupported(f"{type(state).__name__} shuffles by itself")
    result = np.empty((epochs, before.size), np.int64)
    generator = state._bit_generator
    with generator.lock:
        shuffle(_address(generator.capsule, b"BitGenerator"), before, result)
    return result
