"""A small network's forward pass in one launch: activations never leave the multiprocessor."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from mlpx_kernels import Unsupported
from mlpx_kernels.cuda.runtime.arrays import CTYPES, THREADS, Launch, row_grid
from mlpx_kernels.cuda.runtime.compile import Kernel, kernel

MOST_WIDTH = 128
TILE_ROWS, SLICE, WARPS = 64, 32, 8
"""As in network.cuh."""
STORAGE = {"float32": 4, "float64": 8, "tf32": 4, "bf16": 2}
"""Precision to the bytes of a number in shared memory."""


def shared_bytes(precision: str) -> int:
    """Return the shared memory of a block: a tile of activations, a slice of weights, tensor cores' finished sums."""
    size = STORAGE[precision]
    padding = 16 // size
    tiles = 4 * 16 * 16 * WARPS if precision in ("tf32", "bf16") else 0
    return size * (TILE_ROWS * (MOST_WIDTH + padding) + MOST_WIDTH * (SLICE + padding)) + tiles


def instance(precision: str) -> Kernel:
    """Return the kernel for a precision: "float32", "float64", "tf32" or "bf16"."""
    if precision in CTYPES:
        return kernel("network", f"network<{CTYPES[precision]}>")
    return kernel("network_tensor", f"network_tensor<{precision.title()}>")


def check(widths: Sequence[int], precision: str) -> None:
    """Raise unless a network of these widths, the input's included, can run on the device at hand; compile its kernel.

    Raises
    ------
    Unsupported
        With the reason.
    """
    import cupy

    if max(widths) > MOST_WIDTH:
        raise Unsupported(f"a layer is {max(widths)} wide; the fused network takes up to {MOST_WIDTH}")
    device = cupy.cuda.Device()
    there = device.attributes["MaxSharedMemoryPerBlockOptin"]
    if shared_bytes(precision) > there:
        raise Unsupported(
            f"the fused network needs {shared_bytes(precision)} bytes of shared memory, there are {there}"
        )
    if precision in ("tf32", "bf16") and int(device.compute_capability) < 80:
        raise Unsupported(f"{precision} needs compute capability 8.0, the device has {device.compute_capability}")
    instance(precision)


def table(layers: Sequence[tuple[int, int, int, int, int]]) -> Any:
    """Return the layers (n_in, n_out, offset of w, offset of b or -1, code of the activation) on the device."""
    import cupy

    return cupy.asarray(np.array(layers, np.int64))


def forward(x: Any, parameters: Any, layers: Any, y: Any, *, softmax: bool, precision: str) -> Launch:
    """Return the launch of ``y = network(x)``.

    Parameters
    ----------
    x, y : array (rows, n_in), (rows, n_out), C-contiguous
    parameters : array (k,)
        The flat buffer that the offsets of ``layers`` refer to.
    layers : array (n, 5), int64
        See `table`.
    softmax : bool
        Whether a softmax follows the last layer.
    precision : str
        "float32" or "float64", the dtype of all arrays; for float32 ones also "tf32" and "bf16": products of numbers
        rounded so, on tensor cores, with sums in float32.
    """
    args = (x, parameters, layers, np.int64(layers.shape[0]), np.int64(softmax), y, np.int64(x.shape[0]))
    grid = row_grid(x.shape[0], TILE_ROWS)
    return partial(instance(precision), grid, THREADS, args, shared_bytes(precision))
