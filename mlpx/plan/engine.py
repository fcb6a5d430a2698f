"""Whether the compiled engine may be used, and its import when it is first asked for."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlpx.ops.dispatch import fused_mode, importing_kernels
from mlpx_kernels import Unsupported


@contextmanager
def compiled_engine() -> Iterator[None]:
    """Let the imports of compiled code in a ``with`` block decline where it is switched off or cannot be imported.

    Only the imports belong into the block, so that no other ImportError is taken for theirs.

    Raises
    ------
    Unsupported
        With ``MLPX_FUSED=off``; else as `mlpx.ops.dispatch.importing_kernels` does.
    """
    if fused_mode() == "off":
        raise Unsupported("fused kernels are switched off (MLPX_FUSED=off)")
    with importing_kernels("the compiled engine"):
        yield
