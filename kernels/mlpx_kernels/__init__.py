"""Fused kernels: they know arrays, and nothing of mlpx. Imported as ``mlpx_kernels``."""

import os

try:
    STARTED_IN = os.getcwd()
except OSError:  # it has been removed
    STARTED_IN = os.sep
"""The working folder when this was imported: what relative paths of settings are relative to, wherever it is later."""


class Unsupported(Exception):
    """A kernel declines a call, with its reason, before it has written anything. The reference runs instead."""


class CannotCompile(Unsupported):
    """A kernel that should be there cannot be imported or compiled: something is wrong with the installation."""


class BadSetting(ValueError):
    """An environment variable asks for what cannot be had: an error for whoever has set it, no reason to decline."""
