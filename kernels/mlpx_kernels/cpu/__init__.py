"""Fused kernels for the CPU, compiled by Numba on first use and cached on disk."""
