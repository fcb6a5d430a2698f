"""Where compiled kernels and what was measured here are kept on disk: the user's cache, never the installation."""

import os
import sys
import tempfile
from pathlib import Path


def _places() -> list[Path]:
    """Return the folders that may hold them, best first."""
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


def folder(name: str) -> Path | None:
    """Return the folder ``name`` in the first place that can be written to, made if need be; None where none can."""
    for place in _places():
        inner = place / name
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if hasattr(os, "getuid") and place.stat().st_uid != os.getuid():
                continue  # never load anything from a folder that somebody else owns
            inner.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=inner):
                return inner
        except OSError:
            continue
    return None
