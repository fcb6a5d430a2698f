"""Whether the compiled engine may be used, and its import when it is first asked for."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlpx.ops.dispatch import fused_mode
from mlpx_kernels import Unsupported


@contextmanager
def compiled_engine() -> Iterator[None]:
    """Let the imports of compiled code in a ``with`` block decline where it is switched off or cannot be imported.

    Only the imports belong into the block, so that no other ImportError is taken for theirs.

    Raises
    ------
    Unsupported
        With ``MLPX_FUSED=off``, and without Numba (on a CPU) or CuPy (on a GPU).
    """
    if fused_mode() == "off":
        raise Unsupported("fused kernels are switched off (MLPX_FUSED=off)")
    try:
        yield
    except ImportError as error:
        raise Unsupported(f"the compiled engine cannot be imported: {error}") from error
