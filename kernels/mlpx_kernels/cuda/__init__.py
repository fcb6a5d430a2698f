"""CUDA C++ kernels: a ``.cu`` file per family, compiled by CuPy on first use, beside the ``.py`` that launches it."""
