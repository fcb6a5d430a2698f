"""What every launch needs: arrays as kernels take them, null pointers, grids.

A function here and beside the ``.cu`` files that returns a `Launch` has chosen the kernel, its grid and its arguments
for fixed arrays; calling it launches, as often as wanted, also while a step is captured.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mlpx_kernels import Unsupported

Launch = Callable[[], None]
CTYPES = {"float32": "float", "float64": "double"}
STORED = CTYPES | {"uint16": "__nv_bfloat16"}
"""What steps store: CuPy has no bfloat16, so such numbers lie in arrays of uint16."""
NULL = np.uint64(0)
"""A null pointer as a kernel's argument."""
THREADS = 256
"""Threads of a block of most kernels; COLUMN_THREADS in columns.cuh."""
MOST_BLOCKS = 2112
"""Blocks of a grid beyond which threads take several turns: a whole number of waves on the 132 multiprocessors of an
H100, the same everywhere, so that sums are taken in one order on every device."""

FEW_STEPS = 4
"""Rows that a thread adds up one after the other sooner than blocks would have met over their partial sums."""


Sized = tuple[Any, int]
"""An array, and how many numbers it must hold: kernels go by the sizes of one array."""


def real_arrays(first: Any, *others: Sized, optional: Sequence[Sized] = (), name: str) -> list[Any]:
    """Return C-contiguous arrays of one float dtype that the kernels are made for, or decline.

    The others' sizes, and after them those of arrays that may be None and then stay None.

    Raises
    ------
    TypeError
        If one is no array of CuPy's.
    ValueError
        If one has more numbers than it should, or fewer.
    """
    import cupy

    given = [(first, None), *others, *((a, size) for a, size in optional if a is not None)]
    for array, size in given:
        _check(array, size, name)
    dtypes = {str(array.dtype) for array, _ in given}
    if len(dtypes) != 1 or not dtypes <= CTYPES.keys():
        raise Unsupported(f"{name}: dtypes {', '.join(sorted(dtypes))}; the CUDA kernels take float32 or float64 alone")
    arrays = [first, *(array for array, _ in (*others, *optional))]
    return [None if array is None else cupy.asarray(array, order="C") for array in arrays]


def _check(array: Any, size: int | None, name: str) -> None:
    import cupy

    if not isinstance(array, cupy.ndarray):
        raise TypeError(f"{name}: expected arrays of CuPy, got {type(array).__name__}.")
    if size is not None and array.size != size:
        raise ValueError(f"{name}: has an array of shape {array.shape} where {size} numbers are wanted.")


def flag_array(mask: Any, size: int, *, name: str) -> Any:
    """Return a mask of so many bools, C-contiguous. Raises as `real_arrays` does."""
    import cupy

    _check(mask, size, name)
    if mask.dtype != np.bool_:
        raise TypeError(f"{name}: expected a mask of bools, got one of {mask.dtype}.")
    return cupy.ascontiguousarray(mask)


def class_numbers(labels: Any, size: int, *, name: str) -> Any:
    """Return so many class numbers of any integer dtype as int64, C-contiguous. Raises as `real_arrays` does."""
    import cupy

    _check(labels, size, name)
    return cupy.asarray(labels, dtype=np.int64, order="C")


def ctype(x: Any) -> str:
    """Return the C type of the elements of an array that holds reals."""
    return STORED[x.dtype.name]


def summed(x: Any) -> str:
    """Return the dtype in which sums over such an array are taken, and biases are kept: `Acc` in common.cuh."""
    return "float64" if x.dtype.name == "float64" else "float32"


def pointer(x: Any) -> Any:
    """Return an array as a kernel's argument; None becomes a null pointer."""
    return NULL if x is None else x


def power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least ``n``; 1 for 0."""
    return 1 << max(n - 1, 0).bit_length()


def column_grid(
    x: Any, rows: int, cols: int, *, summed: bool = False, vectors: bool = True
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (grid, block) of a kernel of columns.cuh over ``x`` (rows, cols).

    ``summed``: it merges over rows. Then there are about as many blocks down as a thread of the last block has partial
    results to merge afterwards, for both wait on memory one after the other: the root of the rows. ``vectors`` tells
    whether the kernel takes 16 bytes at a time where the columns allow it.
    """
    vector = 16 // x.dtype.itemsize
    groups = max(cols // vector if vectors and cols % vector == 0 else cols, 1)
    across = min(power_of_two(groups), THREADS // 8 if summed else THREADS)
    down = THREADS // across
    tiles = -(-groups // across)
    steps = -(-rows // down)
    blocks = min(steps, math.isqrt(rows)) if summed and steps > FEW_STEPS else 1 if summed else steps
    return (tiles, max(1, min(blocks, MOST_BLOCKS // tiles, 65535))), (across, down)


def column_sums(grid: tuple[int, int], block: tuple[int, int], cols: int, numbers: int, x: Any) -> tuple[Any, Any]:
    """Return room for the partial sums of `merge_columns` over ``x``, some numbers a column, and its counters at 0."""
    import cupy

    # A kernel that finds its arrays not aligned takes single columns, and so has more tiles than the grid.
    return cupy.empty(grid[1] * cols * numbers, summed(x)), cupy.zeros(-(-cols // block[0]) or 1, np.uint32)


def row_count(x: Any) -> int:
    """Return the number of rows of ``x`` (..., n): all leading axes in one."""
    return math.prod(x.shape[:-1])


def row_grid(rows: int, rows_per_block: int) -> int:
    """Return the number of blocks that take ``rows_per_block`` rows at a time; at least 1."""
    return max(1, min(-(-rows // rows_per_block), MOST_BLOCKS))


def held_rows(cols: int, most: int = 8192) -> tuple[int, int] | None:
    """Return (GROUP, ITEMS) of rows.cuh for rows of ``cols`` elements, or None beyond the ``most`` that are held."""
    for group, items in ((8, 4), (32, 8), (256, 8), (1024, most // 1024)):
        if cols <= group * items:
            return group, items
    return None


def group_rows(group: int) -> tuple[int, int]:
    """Return the threads of a block, and how many rows it takes at a time, for groups of so many threads."""
    threads = THREADS if group <= 32 else group
    return threads, threads // group
