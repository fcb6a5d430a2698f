"""Compilation, scratch memory, SIMD intrinsics and vectorisable mathematics."""
