"""``cupy.RawModule`` on the emulator: the same source, compiled for the CPU."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from emulator import EmulationError, Module
from emulator.module import settings

from standin.array import ndarray, unsupported
from standin.device import CUDADriverError, device
from standin.streams import current


class CompileException(Exception):
    """``cupy.cuda.compiler.CompileException``."""


GROUPS: dict[str, list[tuple[str, ...]]] = {}
"""Source to groups of instances that tests will ask of it: a group is compiled together, since g++ spends most of its
time on what they share."""


@cache
def _module(source: str, names: tuple[str, ...]) -> Module:
    return Module(source, names, "kernels")


class RawModule:
    """``cupy.RawModule``: CUDA source, and the instances asked for."""

    def __init__(
        self, *, code: str, options: Sequence[str] = (), name_expressions: Sequence[str] = (), **_: Any
    ) -> None:
        self.code, self.options, self.names = code, tuple(options), tuple(name_expressions)

    def get_function(self, name: str) -> "RawKernel":
        """Return a kernel; it is compiled here."""
        device.check_driver()
        device.check_compiler()
        if device.failures.source and device.failures.source in name:
            raise CompileException('kernels.cu(7): catastrophic error: cannot open source file "cuda_bf16.h"')
        names = next((group for group in GROUPS.get(self.code, []) if name in group), self.names)
        module = _module(self.code, names)
        try:
            module.loaded(settings.build)
            return RawKernel(module.function(name))
        except RuntimeError as error:
            raise CompileException(str(error)) from error


class RawKernel:
    """One kernel."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self.max_dynamic_shared_size_bytes = 48 * 1024

    def __call__(self, grid: Any, block: Any, args: Sequence[Any], *, shared_mem: int = 0, stream: Any = None) -> None:
        """Launch, or record. Plain Python numbers are refused: CuPy would pass each as eight bytes."""
        if not (isinstance(grid, tuple) and isinstance(block, tuple)):
            raise TypeError("Expected tuple for grid and block")
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE", f"invalid argument ({shared_mem} bytes of shared memory)")
        for a in args:
            if not isinstance(a, (ndarray, np.generic)):  # not None either: CuPy would have the driver read at 0
                raise unsupported(a)
        device.counters.kernels += 1
        device.names.append(self._function.name)
        if device.failures.launch is not None and device.counters.kernels >= device.failures.launch:
            raise CUDADriverError("CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure")
        arrays = [a for a in args if isinstance(a, ndarray)]
        hosts = tuple(a._host if isinstance(a, ndarray) else a for a in args)
        written = self._function.written()

        def run() -> None:
            self._function(grid, block, hosts, shared_mem)

        writes = [a._memory for n, a in enumerate(args) if isinstance(a, ndarray) and written[n]]
        (stream or current()).run(run, [a._memory for a in arrays], writes)
        for memory in writes:
            memory.check_frame(self._function.name)


__all__ = ["GROUPS", "CompileException", "EmulationError", "RawKernel", "RawModule"]
