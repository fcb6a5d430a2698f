"""The gather, first kernel of a step: the rows of its batch and all that belongs to them, in one launch."""

from functools import partial
from typing import Any

import numpy as np

from mlpx_kernels.cuda.runtime.arrays import NULL, Launch, ctype, pointer, row_grid
from mlpx_kernels.cuda.runtime.compile import kernel

ROWS_AT_ONCE = 8
"""As in gather.cu: warps of a block."""


def gather(
    data: dict[str, Any], batch: dict[str, Any], order: Any, clock: Any, *, batch_size: int, rows: int
) -> Launch:
    """Return the launch that copies rows ``order[step * batch_size :][: rows]`` of the data into the batch's arrays.

    Parameters
    ----------
    data, batch : dict of arrays
        "x" (n, n_in), and None or arrays for "target" ((n,) int64, or (n, n_out) of x's dtype), "sample_weight" (n,)
        and "mask" (n, n_out) bool; in ``batch`` of the batch's length. Rows and masks of 16-byte multiples go
        sixteen bytes at a time.
    order : array, int64
    clock : array (5,), int64
        Its step becomes the one that is to be taken now.
    """
    x, target, mask = data["x"], data["target"], data["mask"]
    labelled = target.dtype.kind == "i"
    pairs = [data["x"], batch["x"]]
    for name, given in (("target", labelled), ("target", not labelled), ("sample_weight", True), ("mask", True)):
        there = given and data[name] is not None
        pairs += [pointer(data[name]), pointer(batch[name])] if there else [NULL, NULL]
    wide = next((a for a in (mask, None if labelled else target) if a is not None), None)
    cols = 1 if wide is None else wide.shape[1]
    sizes = (np.int64(batch_size), np.int64(rows), np.int64(x.shape[1]), np.int64(cols))
    args = (*pairs, order, clock, *sizes)
    grid = row_grid(rows, ROWS_AT_ONCE)
    return partial(kernel("gather", f"gather<{ctype(x)}>"), grid, 32 * ROWS_AT_ONCE, args)
