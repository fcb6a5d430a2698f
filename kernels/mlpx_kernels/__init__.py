"""Fused kernels: they know arrays, and nothing of mlpx. Imported as ``mlpx_kernels``."""


class Unsupported(Exception):
    """A kernel declines a call, with its reason, before it has written anything. The reference runs instead."""
