"""How kernels are compiled: without the GIL, without Python objects, cached on disk outside the installation."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba

FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
"""Sums may be reordered (that is what vectorises them) and a*b+c fused; NaN and infinities keep their meaning."""


def _candidates() -> list[Path]:
    """Return the places for compiled kernels, best first."""
    if "MLPX_CACHE_DIR" in os.environ:
        return [Path(os.environ["MLPX_CACHE_DIR"])]
    places = []
    if os.environ.get("XDG_CACHE_HOME"):
        places.append(Path(os.environ["XDG_CACHE_HOME"]) / "mlpx")
    try:
        home = Path.home()
    except RuntimeError:  # no HOME and no entry in the password file
        home = None
    if home == Path("/"):  # what an empty HOME comes to: nobody's home
        home = None
    if home is not None and sys.platform == "win32":
        places.append(Path(os.environ.get("LOCALAPPDATA", home)) / "mlpx" / "cache")
    elif home is not None:
        places.append(home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "mlpx")
    # Named for the user, private, and only used when it is ours: others may write to the folder for temporary files.
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    places.append(Path(tempfile.gettempdir()) / f"mlpx-{owner}")
    return places


@cache
def cache_directory() -> str | None:
    """Return the folder for compiled kernels, named after their source, or None when nothing can be written.

    Numba stamps a cached function with its own file alone; a change in a function that it calls from another file
    would go unseen. So the folder's name carries a hash over all of this package's source.
    """
    source = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        source.update(file.read_bytes())
    for place in _candidates():
        folder = place / f"kernels-{source.hexdigest()[:16]}"
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if hasattr(os, "getuid") and place.stat().st_uid != os.getuid():
                continue  # never load code from a folder that somebody else owns
            folder.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return str(folder)
        except OSError:
            continue
    return None


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called with given types: ``nogil``, cached, division by zero gives inf."""
    folder = cache_directory()
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = folder or ""
    try:
        return numba.njit(cache=folder is not None, nogil=True, error_model="numpy", fastmath=FASTMATH)(function)
    finally:
        numba.config.CACHE_DIR = before


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a small function that others call; LLVM inlines it into their loops."""
    return numba.njit(nogil=True, error_model="numpy", fastmath=FASTMATH)(function)


def cached_callback(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function at once for a C signature; `address` is where it lies."""

    def decorate(function: Callable[..., Any]) -> Any:
        folder = cache_directory()
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = folder or ""
        options = {"cache": folder is not None, "error_model": "numpy", "fastmath": FASTMATH}
        try:
            return numba.cfunc(signature, **options)(function)
        finally:
            numba.config.CACHE_DIR = before

    return decorate
