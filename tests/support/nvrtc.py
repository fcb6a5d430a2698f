"""NVRTC by its public C interface: CUDA sources are compiled for any GPU on a machine that has none."""

import ctypes
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from emulator.build import cache_folder

WHEELS = {13: "nvidia-cuda-nvrtc", 12: "nvidia-cuda-nvrtc-cu12"}
HEADERS = {13: ("nvidia-cuda-runtime", "nvidia-cuda-crt", "nvidia-cuda-cccl"), 12: ("nvidia-cuda-runtime-cu12",)}
"""Wheels by the major version of CUDA."""


@dataclass(frozen=True)
class Compiled:
    """What ptxas says of one kernel."""

    name: str
    registers: int
    spilled: int
    shared: int


@cache
def library(major: int) -> ctypes.CDLL | None:
    """Return NVRTC of a major version of CUDA, or None where its wheel is not installed."""
    for path in _files(WHEELS[major], r"libnvrtc\.so\.\d+"):
        return ctypes.CDLL(str(path))
    return None


def missing(major: int) -> str | None:
    """Return why a version cannot be used, for a skip; None when it can."""
    return None if library(major) else f"the wheel {WHEELS[major]} is not installed"


def _files(wheel: str, pattern: str) -> list[Path]:
    try:
        files = metadata.files(wheel) or []
    except metadata.PackageNotFoundError:
        return []
    return [Path(str(f.locate())) for f in files if re.fullmatch(pattern, f.name)]


@cache
def _include_options(major: int) -> tuple[str, ...]:
    folders = {header.parent for wheel in HEADERS[major] for header in _files(wheel, r"cuda_bf16\.h|mma\.h")}
    return tuple(f"--include-path={folder}" for folder in sorted(folders))


def compile_for(major: int, architecture: str, source: str, names: Sequence[str]) -> list[Compiled]:
    """Compile instances of a source's kernels for an architecture such as ``sm_90``; what came out is kept on disk.

    Raises
    ------
    AssertionError
        With NVRTC's log, if it refuses.
    """
    options = ["-std=c++17", f"--gpu-architecture={architecture}", "--ptxas-options=-v"]
    options += ["-DMLPX_BF16"] if any("bfloat16" in name for name in names) else []
    key = "\0".join((source, *names, *options, WHEELS[major], metadata.version(WHEELS[major])))
    kept = cache_folder() / f"nvrtc-{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    if not kept.exists():
        result = [asdict(c) for c in _compile(major, source, names, [*options, *_include_options(major)])]
        kept.write_text(json.dumps(result), encoding="utf-8")
    return [Compiled(**c) for c in json.loads(kept.read_text(encoding="utf-8"))]


def _compile(major: int, source: str, names: Sequence[str], options: Sequence[str]) -> list[Compiled]:
    nvrtc = library(major)
    assert nvrtc is not None
    program = ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None) == 0
    try:
        for name in names:
            assert nvrtc.nvrtcAddNameExpression(program, name.encode()) == 0
        given = [option.encode() for option in options]
        failed = nvrtc.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*given))
        size = ctypes.c_size_t()
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        text = log.value.decode(errors="replace")
        assert not failed, f"{options[1]}: {text[:3000]}"
        return [_compiled(nvrtc, program, name, text) for name in names]
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _compiled(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, name: str, log: str) -> Compiled:
    lowered = ctypes.c_char_p()
    assert nvrtc.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(lowered)) == 0
    symbol = (lowered.value or b"").decode()
    part = log.split(f"Compiling entry function '{symbol}'")[1].split("Compiling entry function")[0]
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", part)
    registers, shared = re.search(r"Used (\d+) registers", part), re.search(r"(\d+) bytes smem", part)
    assert spills, f"ptxas says nothing of the spills of {name}: {part}"
    assert registers, f"ptxas says nothing of the registers of {name}: {part}"
    return Compiled(name, int(registers[1]), int(spills[1]) + int(spills[2]), int(shared[1]) if shared else 0)


# --- occupancy ---------------------------------------------------------------------------------------------------

REGISTERS, THREADS, BLOCKS, SHARED = 65536, 2048, 32, 233472
"""Of a multiprocessor of an H100, sm_90."""
REGISTER_UNIT, SHARED_UNIT, SHARED_RESERVED = 256, 128, 1024
"""Registers are handed out to a warp by so many, shared memory to a block by so many bytes and some for the system."""


def occupancy(registers: int, threads: int, shared: int = 0) -> float:
    """Return the share of a multiprocessor's threads that blocks of a kernel can fill on sm_90.

    Source: CUDA C++ programming guide, technical specifications per compute capability.
    """
    warps = -(-threads // 32)
    per_warp = -(-registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
    by_registers = REGISTERS // per_warp // warps
    by_shared = SHARED // (-(-shared // SHARED_UNIT) * SHARED_UNIT + SHARED_RESERVED)
    return min(by_registers, by_shared, BLOCKS, THREADS // (32 * warps)) * warps * 32 / THREADS
