"""Compilation, launch arguments, casts and the headers that all kernels share."""
