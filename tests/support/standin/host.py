"""Memory of the host: pinned memory, whose copies to the device are under way until they are waited for."""

import ctypes
import zlib
from typing import Any

import numpy as np

from standin.device import StandInError, device
from standin.streams import Stream, current


class PinnedMemoryPointer:
    """``cupy.cuda.PinnedMemoryPointer``: a buffer that the device copies from while the host goes on."""

    def __init__(self, nbytes: int) -> None:
        device.check_driver()
        self._bytes = (ctypes.c_ubyte * max(1, nbytes))()
        self.ptr = ctypes.addressof(self._bytes)
        self._size = nbytes
        pinned.append((self.ptr, self.ptr + nbytes))

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(self._bytes)

    def size(self) -> int:
        """Return the bytes."""
        return self._size


def alloc_pinned_memory(nbytes: int) -> Any:
    """Return pinned memory with the buffer protocol: ``cupy.cuda.alloc_pinned_memory``."""
    memory = PinnedMemoryPointer(nbytes)
    # Before Python 3.12 a class cannot offer a buffer; the ctypes array can, and carries the rest.
    memory._bytes.__dict__.update(ptr=memory.ptr, mem=memory)
    return memory._bytes


pinned: list[tuple[int, int]] = []
_under_way: list[tuple[Stream, int, Any, int]] = []
"""Copies that nobody has waited for: stream, number of the operation, the host's array, its checksum then."""


def copy_in(array: Any, host: Any, stream: Stream) -> None:
    """Copy to the device; from pinned memory it may go on after the call."""
    address = host.ctypes.data
    is_pinned = any(low <= address < high for low, high in pinned)
    if not is_pinned:
        stream.forbid("cudaMemcpyAsync from pageable memory")
    device.counters.to_device += 1
    target = array._host
    stream.run(lambda: target.__setitem__(..., host), [], [array._memory])
    if is_pinned and not stream.is_capturing():
        from standin.streams import _timelines

        check_copies()
        _under_way.append((stream, _timelines[stream.timeline], host, zlib.crc32(np.ascontiguousarray(host))))


def check_copies() -> None:
    """Raise if the host changed memory that the device may still have been copying; forget what was waited for."""
    from standin.streams import _host

    for entry in list(_under_way):
        stream, number, host, checksum = entry
        if zlib.crc32(np.ascontiguousarray(host)) != checksum:
            if _host.get(stream.timeline, 0) < number:
                raise StandInError("pinned memory was written to while its copy to the device was under way")
            _under_way.remove(entry)
        elif _host.get(stream.timeline, 0) >= number:
            _under_way.remove(entry)


def start_host() -> None:
    """Forget all pinned memory."""
    pinned.clear()
    _under_way.clear()


__all__ = ["alloc_pinned_memory", "check_copies", "copy_in", "current", "start_host"]
