"""CUDA kernels on the CPU: the very source that a GPU gets, compiled by g++, one fiber per CUDA thread."""

from emulator.build import no_compiler
from emulator.module import EmulationError, Function, Module, Report, using

__all__ = ["EmulationError", "Function", "Module", "Report", "no_compiler", "using"]
