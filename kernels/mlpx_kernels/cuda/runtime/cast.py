"""Numbers in another type: bfloat16 copies of what is kept in float32."""

from functools import partial
from typing import Any

import numpy as np

from mlpx_kernels.cuda.runtime.arrays import THREADS, Launch, ctype, row_grid
from mlpx_kernels.cuda.runtime.compile import kernel


def cast(source: Any, target: Any) -> Launch:
    """Return the launch of ``target = source``, rounded to nearest; C-contiguous arrays of one size."""
    run = kernel("cast", f"cast<{ctype(source)}, {ctype(target)}>")
    return partial(run, row_grid(source.size, 4 * THREADS), THREADS, (source, target, np.int64(source.size)))
