"""Put the stand-in where ``import cupy`` finds it, and put all back afterwards."""

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np

from mlpx import ops
from mlpx.backend import inspection, selection
from standin import array, cublaslt, functions, host, kernels, streams
from standin.device import (
    CUDADriverError,
    CUDARuntimeError,
    Device,
    Failures,
    OutOfMemoryError,
    device,
    reset,
)


class _NoRandom(types.ModuleType):
    """``cupy.random`` draws other numbers than NumPy for the same seed; the library must not use it."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"cupy.random.{name}: the library draws on the host or by its own counters")


class _Pool:
    """``cupy.cuda.MemoryPool``, as far as it tells and limits."""

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        """Bound the bytes in use; 0 is no bound."""
        device.limit = size or 0

    def get_limit(self) -> int:
        """Return the bound."""
        return device.limit

    def used_bytes(self) -> int:
        """Return the bytes in use."""
        return device.used

    def total_bytes(self) -> int:
        """Return the bytes held; nothing is kept back here."""
        return device.used

    def free_all_blocks(self, stream: Any = None) -> None:
        """Nothing is kept back."""


class _Device:
    """``cupy.cuda.Device``."""

    def __init__(self, number: int = 0) -> None:
        device.check_driver()
        self.id = number
        self.compute_capability = "90"
        self.attributes = {"MultiProcessorCount": 4, "MaxSharedMemoryPerBlockOptin": 232448, "WarpSize": 32}
        self.mem_info = (64 << 30, 80 << 30)

    def __enter__(self) -> "_Device":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def use(self) -> None:
        """There is only one."""

    def synchronize(self) -> None:
        """Wait for all streams."""
        streams.current().synchronize()
        for timeline, number in streams._timelines.items():
            streams._host[timeline] = number


def _properties(number: int) -> dict[str, Any]:
    device.check_driver()
    return {
        "name": b"Stand-in",
        "major": 9,
        "minor": 0,
        "multiProcessorCount": 4,
        "warpSize": 32,
        "sharedMemPerBlock": 48 * 1024,
        "sharedMemPerBlockOptin": 232448,
        "sharedMemPerMultiprocessor": 233472,
        "regsPerMultiprocessor": 65536,
        "maxThreadsPerMultiProcessor": 2048,
        "totalGlobalMem": 80 << 30,
        "l2CacheSize": 50 << 20,
        "memoryClockRate": 2619000,
        "memoryBusWidth": 5120,
        "clockRate": 1980000,
    }


def _device_count() -> int:
    device.check_driver()
    return device.failures.devices


def _elementwise(function: Any) -> Any:
    return lambda x: functions.call(function, (x,), {})


def _modules() -> dict[str, types.ModuleType]:
    """Return the modules by name."""

    def module(name: str, **members: Any) -> types.ModuleType:
        made = types.ModuleType(name)
        made.__spec__ = ModuleSpec(name, None, is_package=True)
        made.__path__ = []
        made.__dict__.update(members)
        return made

    runtime = module(
        "cupy.cuda.runtime",
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=_device_count,
        getDeviceProperties=_properties,
        getDevice=lambda: 0,
        runtimeGetVersion=lambda: 12090,
        driverGetVersion=lambda: 12090,
        deviceSynchronize=lambda: _Device().synchronize(),
        memGetInfo=lambda: (64 << 30, 80 << 30),
        streamCaptureModeGlobal=0,
        streamCaptureModeThreadLocal=1,
        streamCaptureModeRelaxed=2,
    )
    memory = module("cupy.cuda.memory", OutOfMemoryError=OutOfMemoryError, MemoryPointer=array.MemoryPointer)
    compiler = module("cupy.cuda.compiler", CompileException=kernels.CompileException)
    driver = module("cupy.cuda.driver", CUDADriverError=CUDADriverError)
    pool = _Pool()
    cuda = module(
        "cupy.cuda",
        runtime=runtime,
        memory=memory,
        compiler=compiler,
        driver=driver,
        Stream=streams.Stream,
        Event=streams.Event,
        Graph=streams.Graph,
        Device=_Device,
        MemoryPointer=array.MemoryPointer,
        get_current_stream=streams.current,
        get_elapsed_time=streams.elapsed,
        alloc_pinned_memory=host.alloc_pinned_memory,
        is_available=lambda: not device.failures.driver and device.failures.devices > 0,
    )
    cupy = module(
        "cupy",
        **functions.NAMESPACE,
        __version__="14.2.0",
        cuda=cuda,
        random=_NoRandom("cupy.random"),
        RawModule=kernels.RawModule,
        RawKernel=kernels.RawKernel,
        get_default_memory_pool=lambda: pool,
        get_default_pinned_memory_pool=lambda: pool,
    )
    from scipy.special import erf

    special = module("cupyx.scipy.special", erf=_elementwise(erf))
    scipy = module("cupyx.scipy", special=special)
    found = [cupy, cuda, runtime, memory, compiler, driver, module("cupyx", scipy=scipy), scipy, special]
    return {m.__name__: m for m in found}


def _forget() -> None:
    """Clear what the library remembers of CuPy."""
    selection.gpu_problem.cache_clear()
    selection._cupy.cache_clear()
    inspection._by_type.pop(array.ndarray, None)
    for op in ops.ALL.values():
        op._loaded.pop("cupy", None)
        op.declined.pop("cupy", None)
    for name, module in list(sys.modules.items()):
        if name.startswith("mlpx_kernels.cuda") or name.startswith("mlpx."):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear") and getattr(value, "__module__", "").startswith("mlpx_kernels.cuda"):
                    value.cache_clear()


@contextmanager
def installed(failures: Failures | None = None, *, nvmath: bool = False) -> Iterator[Device]:
    """Have ``import cupy`` find the stand-in for a ``with`` block; yields its device, with nothing counted yet.

    With ``nvmath``, ``nvmath.bindings.cublasLt`` is there too; otherwise nvmath-python counts as not installed.
    """
    modules: dict[str, Any] = {**_modules(), **(cublaslt.modules() if nvmath else {"nvmath": None})}
    before = {name: sys.modules.pop(name, None) for name in modules}
    sys.modules.update(modules)
    _forget()
    streams.start_streams()
    host.start_host()
    try:
        yield reset(failures)
        host.check_copies()
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
        _forget()
        reset()
        streams.start_streams()


def to_device(a: Any) -> Any:
    """Return a NumPy array on the stand-in, with its layout where a device array can have it; else as it is."""
    if not isinstance(a, np.ndarray):
        return a
    made = functions.asarray(a)
    device.counters.to_device -= 1
    return made
