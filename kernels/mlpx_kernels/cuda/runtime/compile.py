"""Compile CUDA sources on first use, one instance of one kernel at a time, so that nobody waits for the others."""

import re
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlpx_kernels import Unsupported

FOLDER = Path(__file__).parents[1]
OPTIONS = ("-std=c++17",)
INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.MULTILINE)
STATIC_SHARED = 48 * 1024
"""Bytes of shared memory a block may have without being asked for by name."""


@cache
def _sources() -> dict[str, str]:
    """Return the text of every CUDA source and header of the package by its file's name."""
    return {path.name: path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.cu*")}


@cache
def source(family: str) -> str:
    """Return a family's CUDA source with its own headers put in, each once.

    The text is whole: CuPy's cache on disk goes by the text it is given and would miss a change in a header.
    """
    seen: set[str] = set()

    def included(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return ""
        seen.add(name)
        return INCLUDE.sub(included, _sources()[name].replace("#pragma once\n", ""))

    return INCLUDE.sub(included, _sources()[f"{family}.cu"])


def _tensor_headers() -> tuple[str, ...]:
    """Return the option for the headers of tensor cores that CUDA 12's wheels keep where CuPy does not look."""
    try:
        spec = find_spec("nvidia.cuda_nvcc")
    except ModuleNotFoundError:
        return ()
    places = spec.submodule_search_locations if spec else None
    return tuple(f"-I{place}/include" for place in places or ())


class Kernel:
    """One instance of a CUDA kernel, ready to be launched on CuPy's current stream.

    Attributes
    ----------
    name : str
        The instance as C++ writes it: ``softmax_warp<float, 32>``.
    """

    def __init__(self, family: str, name: str) -> None:
        import cupy

        self.name = name
        options = (*OPTIONS, "-DMLPX_BF16") if "bfloat16" in name else OPTIONS  # a header that only they need
        options += _tensor_headers() if family == "network_tensor" else ()
        module = cupy.RawModule(code=source(family), options=options, name_expressions=(name,))
        self._function = module.get_function(name)

    def __call__(
        self, grid: int | tuple[int, ...], block: int | tuple[int, ...], args: tuple[Any, ...], shared: int = 0
    ) -> None:
        """Launch over ``grid`` blocks of ``block`` threads with ``shared`` bytes of dynamic shared memory.

        Arguments are CuPy arrays and NumPy scalars of the parameter's exact type: CuPy would pass a Python int or
        float as eight bytes, whatever the kernel takes.

        Raises
        ------
        RuntimeError
            If the device or its driver refuses; it names the kernel.
        """
        try:
            if shared > STATIC_SHARED:
                self._function.max_dynamic_shared_size_bytes = shared
            self._function(_dimensions(grid), _dimensions(block), args, shared_mem=shared)
        except RuntimeError as error:  # CUDADriverError names neither the kernel nor what to do
            raise RuntimeError(
                f"CUDA: the launch of {self.name} failed: {error}. MLPX_FUSED=off does without the CUDA kernels; after "
                "a fault on the device a new process is needed first."
            ) from error


@cache
def _compiled(family: str, name: str) -> Kernel | str:
    """Return a kernel, or what is wrong with it here; tried once."""
    try:
        return Kernel(family, name)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # a missing NVRTC, a header, a driver too old: the references work without any
        problem = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        warnings.warn(
            f"mlpx: CUDA kernels do not compile here, so plain CuPy runs in their place ({problem}). `mlpx doctor` "
            "shows which.",
            RuntimeWarning,
            stacklevel=3,
        )
        return f"{name} does not compile here: {problem}"


def kernel(family: str, name: str) -> Kernel:
    """Return a kernel of ``<family>.cu``, compiled on the first call.

    Raises
    ------
    ImportError
        Without CuPy.
    Unsupported
        If it does not compile or load here; a warning has said so.
    """
    found = _compiled(family, name)
    if isinstance(found, str):
        raise Unsupported(found)
    return found


def _dimensions(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return size if isinstance(size, tuple) else (size,)
