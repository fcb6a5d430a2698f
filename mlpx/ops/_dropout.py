"""Dropout from a counter-based generator: the same seed gives the same mask on every backend."""

import math
from typing import Any

from mlpx.backend import backend_of
from mlpx.ops.dispatch import op
from mlpx.ops.signature import arguments, count, number, several
from mlpx.typing import Array, Namespace

PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_WEYL = (0x9E3779B9, 0xBB67AE85)
LOW = 0xFFFFFFFF


def philox(xp: Namespace, counter: tuple[Array, Array, Array, Array], seed: int) -> tuple[Array, ...]:
    """Philox 4x32-10: turn a counter and a 64-bit key into four arrays of uniform 32-bit words (held in uint64).

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; constants from there.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = seed & LOW, (seed >> 32) & LOW
    for _ in range(10):
        p0, p1 = c0 * PHILOX_MULTIPLIERS[0], c2 * PHILOX_MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & LOW, (p0 >> 32) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + PHILOX_WEYL[0]) & LOW, (k1 + PHILOX_WEYL[1]) & LOW
    return c0, c1, c2, c3


def threshold(p: float) -> int:
    """Return the 32-bit word below which an element is dropped: round(p * 2^32)."""
    return round(p * 2.0**32)


def _keep(xp: Namespace, shape: tuple[int, ...], p: float, seed: int, step: int, layer: int, like: Array) -> Array:
    size = math.prod(shape)
    blocks = -(-size // 4)
    block = backend_of(like).arange(blocks, "uint64")
    zero = block * 0
    words = philox(xp, (block, zero + layer, zero + (step & LOW), zero + (step >> 32)), seed)
    return xp.reshape(xp.reshape(xp.stack(words, axis=1), (4 * blocks,))[:size] >= threshold(p), shape)


def _check_axes(x: Array, *, shared_axes: tuple[int, ...] = (), **others: Any) -> None:
    for axis in shared_axes:
        if not -x.ndim <= axis < x.ndim:
            raise ValueError(f"dropout: shared_axes holds {axis}; x has {x.ndim} axes, shape {tuple(x.shape)}.")


def _vjp(dy: Array, y: Array, x: Array, **params: Any) -> tuple[Array, ...]:
    return (dropout(dy, **params),)


@op(
    numpy="mlpx_kernels.cpu.dropout:dropout",
    cupy="mlpx_kernels.cuda.dropout:dropout",
    takes=arguments(
        "x (...)",
        p=number(0.0, 1.0, open_high=True),
        seed=count(),
        step=count(0, 2**64 - 1),
        layer=count(0, 2**32 - 1),
        shared_axes=several(count()),
    ),
    check=_check_axes,
    vjp=_vjp,
)
def dropout(
    xp: Namespace,
    x: Array,
    *,
    p: float,
    seed: int,
    step: int = 0,
    layer: int = 0,
    shared_axes: tuple[int, ...] = (),
) -> Array:
    """Set each element to 0 with probability p and divide the others by 1 - p; linear, so it is its own gradient.

    The element with flat index j is dropped where the Philox word ``j % 4`` of the counter ``(j // 4, layer, step)``
    under the key ``seed`` is below ``p * 2^32``: the mask depends on these numbers alone, never on the backend, the
    dtype or the number of threads.

    Parameters
    ----------
    x : array (...), float
    p : float
        Probability of dropping, in [0, 1).
    seed : int
        64 bits; of more, the lowest. With it ``step`` (64 bits) and ``layer`` (32 bits) choose the mask.
    shared_axes : tuple of int
        Axes along which one mask is shared: ``(1,)`` keeps it constant over the steps of (n, steps, features).

    Returns
    -------
    y : array (...), dtype of x
        Dropped elements are exactly 0, even where x is NaN. ``dropout(dy, ...)`` with the same numbers is dx.
    """
    shared = {axis % x.ndim for axis in shared_axes}
    shape = tuple(1 if axis in shared else size for axis, size in enumerate(x.shape))
    return xp.where(_keep(xp, shape, p, seed, step, layer, x), x * (1.0 / (1.0 - p)), 0.0)
