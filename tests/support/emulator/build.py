"""Compile for the emulator by g++, each text once: results are kept on disk by the hash of all that went in."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
COMMON = ("-std=c++17", "-fPIC", "-shared", "-fno-gnu-unique", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror")
BUILDS = {
    # For numbers; more optimisation would cost more time than it saves.
    "fast": ("-O1",),
    # Calls memory.cpp at every load and store, undefined.cpp where C++ would be undefined. Copies stay loops: a call of
    # memcpy would not be seen.
    "checked": (
        *(
            "-O2",
            "-fsanitize=thread",
            "-fsanitize=alignment,bounds,shift,integer-divide-by-zero,signed-integer-overflow",
        ),
        *("-fno-tree-loop-distribute-patterns", "-fno-builtin"),
    ),
    # For a process that has AddressSanitizer loaded.
    "address": ("-O1", "-fsanitize=address", "-fno-omit-frame-pointer"),
}
KERNEL_WARNINGS = ("-Wno-unknown-pragmas", "-Wno-unused-parameter", "-Wno-unused-variable", "-Wno-unused-function")


@cache
def no_compiler() -> str | None:
    """Return why kernels cannot run on the CPU here, or None when they can; for skips."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return f"the emulator knows Linux on x86-64 and AArch64, not {sys.platform} on {platform.machine()}"
    return None if shutil.which("g++") else "g++ is not installed"


KEPT = 30 * 24 * 3600
"""Seconds that a compiled module is kept after its last use."""


@cache
def cache_folder() -> Path:
    """Return the folder of compiled modules: the user's cache, or a temporary one where that cannot be written.

    What has not been used for a month goes: every change of a source leaves its old modules behind.
    """
    wanted = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlpx-tests"
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        if os.access(wanted, os.W_OK):
            for path in wanted.iterdir():
                if path.is_file() and time.time() - path.stat().st_mtime > KEPT:
                    path.unlink(missing_ok=True)
            return wanted
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="mlpx-tests-"))


@cache
def _ground() -> str:
    """Return the hash of the compiler and of the emulator's own files, on which every result stands."""
    digest = hashlib.sha256(subprocess.run(["g++", "--version"], capture_output=True, check=True).stdout)
    for path in sorted((*HERE.glob("*.h"), *HERE.glob("*.cpp"), Path(__file__))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def compiled(stem: str, text: str, options: Sequence[str]) -> Path:
    """Return the shared object of a C++ text, compiled if it is not there yet.

    Raises
    ------
    RuntimeError
        If g++ refuses the text; with what it says.
    """
    key = hashlib.sha256("\0".join((_ground(), text, *options)).encode()).hexdigest()[:24]
    result = cache_folder() / f"{stem}-{key}.so"
    if result.exists():
        result.touch()
        return result
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        source, made = Path(folder, "module.cpp"), Path(folder, "module.so")
        source.write_text(text, encoding="utf-8")
        command = ["g++", *COMMON, *options, f"-I{HERE}", "-nostartfiles", str(source), "-o", str(made)]
        if "-fsanitize=thread" in options:  # compiled with the calls, linked without their library
            command = ["g++", *COMMON, *options, f"-I{HERE}", "-c", str(source), "-o", str(source.with_suffix(".o"))]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode == 0 and "-fsanitize=thread" in options:
            link = ["g++", "-shared", "-nostartfiles", str(source.with_suffix(".o")), "-o", str(made)]
            run = subprocess.run(link, capture_output=True, text=True)
        if run.returncode != 0:
            raise RuntimeError(f"g++ refuses {stem}:\n{run.stderr[:4000]}")
        os.replace(made, result)  # whole or not at all, whoever else compiles it now
    return result


def runtime() -> Path:
    """Return the scheduler and the watch over memory as one shared object."""
    text = "".join(f'#include "{HERE / name}"\n' for name in ("runtime.cpp", "memory.cpp", "undefined.cpp"))
    return compiled("runtime", text, ("-O2",))


def kernels(stem: str, source: str, names: Sequence[str], build: str, flags: Sequence[str] = ()) -> Path:
    """Return the shared object of a CUDA source with the named instances of its kernels."""
    entries = "".join(
        f'    {{"{n}", emulation::Instance<&{n}>::run, emulation::Instance<&{n}>::COUNT, '
        f"emulation::Instance<&{n}>::PARAMETERS}},\n"
        for n in names
    )
    text = (
        f'#define MLPX_EMULATION\n#include "cuda_on_cpu.h"\n#line 1 "{stem}.cu"\n{source}\n#line 1 "glue"\n'
        + ("#define EMULATION_BF16\n" if "cuda_bf16.h" in source or "mma.h" in source else "")
        + f'#include "glue.h"\nextern "C" const emulation::Entry emulation_entries[] = {{\n{entries}}};\n'
    )
    return compiled(stem, text, (*BUILDS[build], *KERNEL_WARNINGS, *flags))
