"""The device of the stand-in: its memory, what was asked of it, and where it is told to fail."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

ALIGNMENT = 512
"""CuPy's pool hands out multiples of so many bytes, aligned to as many."""
FRAME, FRAME_BYTE = 64, 0xA5
"""What lies behind every allocation: a kernel that writes past its array is seen even in the fast build."""


class CUDARuntimeError(RuntimeError):
    """``cupy.cuda.runtime.CUDARuntimeError``, which carries CUDA's own number."""

    def __init__(self, status: int, name: str, text: str) -> None:
        self.status = status
        super().__init__(f"{name}: {text}")


class CUDADriverError(RuntimeError):
    """``cupy.cuda.driver.CUDADriverError``."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")


class DynamicLibNotFoundError(RuntimeError):
    """What CuPy 14 raises where a library of CUDA is not installed."""


class OutOfMemoryError(MemoryError):
    """``cupy.cuda.memory.OutOfMemoryError``."""


class StandInError(AssertionError):
    """A program did what a GPU would not report, or not at once: a bug that the stand-in alone can see."""


@dataclass
class Counters:
    """What a program asked of the device.

    Attributes
    ----------
    kernels, others, products : int
        Launches of kernels of our own, of CuPy's (element-wise, reductions, copies, fills), and of cuBLAS; those that a
        graph replays are not counted again.
    graphs : int
        Launches of captured graphs.
    to_device, to_host : int
        Copies between host and device.
    synchronisations : int
        Waits of the host for the device; a copy to the host is one too.
    allocations : int
    """

    kernels: int = 0
    others: int = 0
    products: int = 0
    graphs: int = 0
    to_device: int = 0
    to_host: int = 0
    synchronisations: int = 0
    allocations: int = 0

    @property
    def launches(self) -> int:
        """Everything that Python launched."""
        return self.kernels + self.others + self.products + self.graphs

    def copy(self) -> "Counters":
        """Return the counts as they stand."""
        return Counters(**{f.name: getattr(self, f.name) for f in fields(self)})

    def __sub__(self, earlier: "Counters") -> "Counters":
        return Counters(**{f.name: getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)})


@dataclass
class Failures:
    """Where the device fails: numbers count from 1 and None means never.

    Attributes
    ----------
    allocation : int
        The allocation that finds no memory, and all after it.
    launch : int
        The launch of a kernel of our own that fails, and all after it.
    capture : bool
        Streams cannot capture.
    compiler : bool
        NVRTC is not installed, so neither CuPy's kernels nor ours can be compiled.
    source : str or None
        A word in the names of kernels of ours that NVRTC refuses.
    driver : bool
        There is no driver.
    devices : int
        How many GPUs there are.
    """

    allocation: int | None = None
    launch: int | None = None
    capture: bool = False
    compiler: bool = False
    source: str | None = None
    driver: bool = False
    devices: int = 1


class Device:
    """One GPU's memory and counters; there is one at a time, made by `standin.install`."""

    def __init__(self, failures: Failures | None = None) -> None:
        self.counters = Counters()
        self.failures = failures or Failures()
        self.account = [0]
        self.limit = 0
        self.names: list[str] = []
        """Kernels of our own in the order of their launches."""

    @property
    def used(self) -> int:
        """Bytes of all allocations that are alive."""
        return self.account[0]

    def check_driver(self) -> None:
        """Raise as CuPy does without a driver or a device."""
        if self.failures.driver:
            text = "CUDA driver version is insufficient for CUDA runtime version"
            raise CUDARuntimeError(35, "cudaErrorInsufficientDriver", text)
        if self.failures.devices == 0:
            raise CUDARuntimeError(100, "cudaErrorNoDevice", "no CUDA-capable device is detected")

    def check_compiler(self) -> None:
        """Raise as CuPy does where a kernel, one of its own too, cannot be compiled."""
        if self.failures.compiler:
            raise DynamicLibNotFoundError('Failure finding "libnvrtc.so.12": No such file: libnvrtc.so.12')


device = Device()


def reset(failures: Failures | None = None) -> Device:
    """Put a fresh device in place of the one before."""
    fresh = Device(failures)
    device.__dict__.update(fresh.__dict__)
    return device


class Memory:
    """One allocation: its bytes hold 0xff at first (NaN, -1), and are framed.

    Attributes
    ----------
    write : tuple[int, int] or None
        The stream that wrote last, and the number of that operation of the stream.
    reads : dict[int, int]
        Streams that have read since, and the number of the last such operation.
    """

    def __init__(self, nbytes: int) -> None:
        device.check_driver()
        device.counters.allocations += 1
        rounded = -(-nbytes // ALIGNMENT) * ALIGNMENT
        fail = device.failures.allocation
        over = device.limit and device.used + rounded > device.limit
        if over or (fail is not None and device.counters.allocations >= fail):
            limit = f", limit set to: {device.limit:,} bytes" if device.limit else ""
            raise OutOfMemoryError(
                f"Out of memory allocating {rounded:,} bytes (allocated so far: {device.used:,} bytes{limit})."
            )
        self.nbytes = nbytes
        raw = np.full(rounded + ALIGNMENT + FRAME, 0xFF, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        self.bytes = raw[start : start + nbytes]
        self._frame = raw[start + nbytes : start + nbytes + FRAME]
        self._frame[:] = FRAME_BYTE
        self.write: tuple[int, int] | None = None
        self.reads: dict[int, int] = {}
        device.account[0] += rounded
        _live[id(self)] = self
        weakref.finalize(self, _give_back, device.account, rounded)

    def check_frame(self, what: str) -> None:
        """Raise if something wrote past the end."""
        if not (self._frame == FRAME_BYTE).all():
            raise StandInError(f"{what} wrote past the end of an array of {self.nbytes} bytes")


_live: "weakref.WeakValueDictionary[int, Memory]" = weakref.WeakValueDictionary()


def live() -> list[Memory]:
    """Return all allocations."""
    return list(_live.values())


def _give_back(account: list[int], nbytes: int) -> None:
    account[0] -= nbytes  # of the device that it came from, which may be gone


Work = Callable[[], Any]
