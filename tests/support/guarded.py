"""Arrays between pages that nobody may touch: a read or write beyond an end ends the process at once."""

import ctypes
import mmap
import sys
from typing import Any

import numpy as np

PAGE = mmap.PAGESIZE
PROTECTED = sys.platform == "linux"


def guarded(a: Any, *, front: bool = False) -> Any:
    """Return a C-contiguous copy that ends (or, with ``front``, begins) at a page that cannot be read or written.

    What is no array, or holds references, comes back as it is.
    """
    if type(a) is not np.ndarray or a.dtype.hasobject or not PROTECTED:
        return a
    inside = -(-max(a.nbytes, 1) // PAGE) * PAGE
    memory = mmap.mmap(-1, inside + 2 * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for page in (address, address + PAGE + inside):
        if protect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    start = PAGE if front else PAGE + inside - a.nbytes
    copy = np.frombuffer(memory, np.uint8, a.nbytes, start).view(a.dtype)
    copy = copy.reshape(a.shape)
    copy[...] = a
    return copy
