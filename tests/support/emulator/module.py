"""Launch kernels on the emulator: what a launch is given is checked against the kernel's parameters first."""

import ctypes
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from emulator import build

SCHEDULES = ("forward", "reverse", "shuffled")
LETTERS = {"?": "bool", "b": "int8", "B": "uint8", "h": "int16", "H": "uint16", "i": "int32", "I": "uint32"}
LETTERS |= {"q": "int64", "Q": "uint64", "f": "float32", "d": "float64", "e": "bfloat16"}
MOST_GRID = (2**31 - 1, 65535, 65535)
MOST_BLOCK = (1024, 1024, 64)


class EmulationError(AssertionError):
    """A kernel did what no kernel may: a race, a divergent barrier, an access outside its arrays, a crash."""


class _Span(ctypes.Structure):
    _fields_ = (
        ("begin", ctypes.c_void_p),
        ("bytes", ctypes.c_uint64),
        ("read", ctypes.c_uint64),
        ("written", ctypes.c_uint64),
    )


class _Launch(ctypes.Structure):
    _fields_ = (
        ("run", ctypes.c_void_p),
        ("arguments", ctypes.c_void_p),
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared", ctypes.c_uint32),
        ("schedule", ctypes.c_int),
        ("checked", ctypes.c_int),
        ("spans", ctypes.c_void_p),
        ("count", ctypes.c_int),
        ("bss", ctypes.c_void_p),
        ("bss_end", ctypes.c_void_p),
        ("image", ctypes.c_void_p),
        ("message", ctypes.c_char_p),
    )


class _Entry(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("run", ctypes.c_void_p),
        ("count", ctypes.c_int),
        ("parameters", ctypes.c_char_p),
    )


@dataclass(frozen=True)
class Report:
    """What a launch of a checked build did: bytes read and written, by argument (None for scalars)."""

    read: tuple[int | None, ...]
    written: tuple[int | None, ...]


@dataclass
class Settings:
    """How kernels run: the build ("fast", "checked", "address") and the schedule."""

    build: str = "fast"
    schedule: str = "forward"


settings = Settings(os.environ.get("MLPX_EMULATION_BUILD", "fast"))
_one_at_a_time = threading.Lock()  # the runtime has one set of fibers


@contextmanager
def using(*, build: str | None = None, schedule: str | None = None) -> Iterator[None]:
    """Choose how kernels run for a ``with`` block."""
    before = Settings(settings.build, settings.schedule)
    settings.build, settings.schedule = build or before.build, schedule or before.schedule
    try:
        yield
    finally:
        settings.build, settings.schedule = before.build, before.schedule


@cache
def _runtime() -> ctypes.CDLL:
    # Global: the kernels' modules find the runtime's symbols there.
    return ctypes.CDLL(str(build.runtime()), mode=ctypes.RTLD_GLOBAL)


class Module:
    """Instances of the kernels of one source; each build is compiled when it is first launched.

    Parameters
    ----------
    source : str
        CUDA C++.
    names : sequence of str
        Instances as C++ writes them: ``softmax_warp<float, 32>``.
    stem : str
        What messages and files call it.
    """

    def __init__(self, source: str, names: Sequence[str], stem: str = "kernels", flags: Sequence[str] = ()) -> None:
        self.source, self.names, self.stem, self.flags = source, tuple(names), stem, tuple(flags)
        self._builds: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {}

    def function(self, name: str) -> "Function":
        """Return one of the instances."""
        if name not in self.names:
            raise KeyError(f"{self.stem} was not asked for {name}; it has {', '.join(self.names)}")
        return Function(self, name)

    def loaded(self, kind: str) -> tuple[dict[str, Any], tuple[int, int, int]]:
        """Return the entries of a build by name, and where its image and its shared memory lie."""
        if kind not in self._builds:
            _runtime()
            library = ctypes.CDLL(str(build.kernels(self.stem, self.source, self.names, kind, self.flags)))
            table = (_Entry * len(self.names)).in_dll(library, "emulation_entries")
            bounds = [ctypes.c_void_p() for _ in range(3)]
            library.emulation_image(*map(ctypes.byref, bounds))
            where = (bounds[0].value or 0, bounds[1].value or 0, bounds[2].value or 0)
            self._builds[kind] = ({n: (table[i], library) for i, n in enumerate(self.names)}, where)
        return self._builds[kind]


class Function:
    """One instance, launched as CuPy launches it, on NumPy arrays."""

    def __init__(self, module: Module, name: str) -> None:
        self.module, self.name = module, name

    def __call__(
        self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], shared: int = 0
    ) -> Report | None:
        """Run all blocks; arguments are NumPy arrays, NumPy scalars, or None for a null pointer.

        Raises
        ------
        EmulationError
            If the kernel or its arguments are at fault; the message says where.
        """
        entries, (image, bss, bss_end) = self.module.loaded(settings.build)
        entry = entries[self.name][0]
        count, parameters = entry.count, entry.parameters.decode()
        if len(args) != count:
            raise EmulationError(f"{self.name}: takes {count} arguments, got {len(args)}")
        for number, a in enumerate(args):
            self._check(number, a, parameters[number], parameters[count + number])
        keep = [_bytes_of(a) for a in args]
        pointers = (ctypes.c_void_p * max(1, count))(*(ctypes.addressof(k) for k in keep))
        arrays = [(n, a) for n, a in enumerate(args) if isinstance(a, np.ndarray)]
        spans = (_Span * max(1, len(arrays)))()
        for span, (_, a) in zip(spans, arrays, strict=False):
            low, high = np.lib.array_utils.byte_bounds(a) if a.size else (a.ctypes.data, a.ctypes.data)
            span.begin, span.bytes = low, high - low
        message = ctypes.create_string_buffer(512)
        watched = settings.build == "checked"
        shared_bounds = (None, None) if settings.build == "address" else (bss, bss_end)
        launch = _Launch(
            entry.run,
            ctypes.addressof(pointers),
            (ctypes.c_uint32 * 3)(*_sizes(self.name, "grid", grid, MOST_GRID)),
            (ctypes.c_uint32 * 3)(*_sizes(self.name, "block", block, MOST_BLOCK)),
            shared,
            SCHEDULES.index(settings.schedule),
            watched,
            ctypes.addressof(spans),
            len(arrays),
            *shared_bounds,
            image,
            ctypes.cast(message, ctypes.c_char_p),
        )
        with _one_at_a_time:
            failed = _runtime().emulate(ctypes.byref(launch))
        if failed:
            text = message.value.decode(errors="replace")
            for place, (number, _) in reversed(list(enumerate(arrays))):
                text = text.replace(f"array {place},", f"argument {number},").replace(
                    f"array {place} of", f"argument {number} of"
                )
            raise EmulationError(f"{self.name}: {text}")
        if not watched:
            return None
        read: list[int | None] = [None] * count
        written: list[int | None] = [None] * count
        for span, (number, _) in zip(spans, arrays, strict=False):
            read[number], written[number] = span.read, span.written
        return Report(tuple(read), tuple(written))

    def written(self) -> tuple[bool, ...]:
        """Return for each argument whether the kernel may write to it."""
        entry = self.module.loaded(settings.build)[0][self.name][0]
        return tuple(kind == "p" for kind in entry.parameters.decode()[: entry.count])

    def _check(self, number: int, a: Any, kind: str, letter: str) -> None:
        wanted = LETTERS.get(letter)
        what = f"{self.name}: argument {number}"
        if a is None or isinstance(a, np.ndarray):
            if kind == "v":
                raise EmulationError(f"{what} is an array; the kernel takes a number ({wanted})")
            if a is not None and wanted is not None and str(a.dtype) not in (wanted, _stand_in(wanted)):
                raise EmulationError(f"{what} is an array of {a.dtype}; the kernel takes a pointer to {wanted}")
            return
        if not isinstance(a, np.generic):
            raise EmulationError(f"{what} is of type {type(a).__name__}; expected an array or a NumPy scalar")
        if kind != "v":
            if a.dtype == np.uint64 and a == 0:
                return  # a null pointer, as CuPy is given one: it would pass None as an argument that is not there
            raise EmulationError(f"{what} is a number; the kernel takes a pointer")
        if wanted is not None and str(a.dtype) != wanted:
            raise EmulationError(f"{what} is {a.dtype}; the kernel takes {wanted}")


def _stand_in(dtype: str) -> str:
    """Return the dtype that may stand in for another: a byte for a bool; 16 bits for a bfloat16, which NumPy lacks."""
    return {"uint8": "bool", "bool": "uint8", "bfloat16": "uint16"}.get(dtype, dtype)


def _bytes_of(a: Any) -> Any:
    if isinstance(a, np.ndarray):
        return ctypes.c_void_p(a.ctypes.data)
    return ctypes.c_void_p(None) if a is None else ctypes.create_string_buffer(a.tobytes(), a.itemsize)


def _sizes(name: str, what: str, sizes: Sequence[int], most: tuple[int, ...]) -> tuple[int, ...]:
    """Return three sizes; CUDA refuses none, zero and too many."""
    full = (*sizes, 1, 1, 1)[:3]
    total = int(np.prod(full))
    if len(sizes) > 3 or any(not 1 <= s <= m for s, m in zip(full, most, strict=True)):
        raise EmulationError(f"{name}: {what} {tuple(sizes)} is not within 1 and {most}")
    if what == "block" and total > 1024:
        raise EmulationError(f"{name}: {what} {tuple(sizes)} has {total} threads; 1024 are the most")
    return full
