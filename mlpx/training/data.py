"""The data of a fit: moved to where the network is, checked once, and split into what is trained on and what is not."""

import math

import numpy as np

from mlpx.backend import dtype_name, to_numpy
from mlpx.errors import check_number
from mlpx.losses import ClassLoss, Loss
from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.network.host_rows import moved
from mlpx.typing import Array, ArrayLike, Namespace

CHECKED_AT_ONCE = 1 << 22
"""Elements whose finiteness is checked at once."""
FAR_FROM_ONE = 1e-3
"""How far a row of probabilities may sum from 1: more than rounding to a few digits takes, less than any mistake."""


def batch_of(
    net: Network,
    x: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    valid: ArrayLike | None = None,
) -> Batch:
    """Return data as a checked batch, moved from the host to the network's GPU if it is on one."""
    x = moved(x, net.backend, net.dtype, streamed=True)
    others = [None if a is None else moved(a, net.backend) for a in (y, sample_weight, mask, valid)]
    return net.batch(x, others[0], sample_weight=others[1], mask=others[2], valid=others[3])


def check_data(net: Network, batch: Batch, prefix: str) -> None:
    """Raise ValueError for data that no training survives: none, NaN or infinities, forbidden or impossible targets."""
    xp = net.backend.xp
    if batch.x.shape[0] == 0 or batch.x.size == 0:
        raise ValueError(f"{prefix}x: is empty, shape {tuple(batch.x.shape)}; training needs at least one row.")
    for name, array in (("x", batch.x), ("y", batch.target)):
        if "int" not in str(array.dtype):
            _check_finite(f"{prefix}{name}", array, batch.valid, xp)
    if batch.sample_weight is not None and not bool(xp.any(batch.sample_weight > 0)):
        raise ValueError(f"{prefix}sample_weight: is 0 everywhere; at least one row must count.")
    if batch.mask is not None and not bool(xp.any(batch.mask)):
        raise ValueError(f"{prefix}mask: forbids every class in every row; at least one must be allowed.")
    _check_class_weight(net.loss, batch, prefix)
    if isinstance(net.loss, ClassLoss) and batch.target.ndim == batch.x.ndim:
        _check_sums(f"{prefix}y", batch, xp)
    masked_output = any(layer.uses_mask for layer in net.layers[-1].walk())
    if batch.mask is not None and masked_output and isinstance(net.loss, ClassLoss):
        mask = to_numpy(batch.mask).reshape(-1, batch.mask.shape[-1])
        target = to_numpy(batch.target)
        if target.dtype.kind == "i":
            hit = np.take_along_axis(mask, target.reshape(-1, 1), axis=1)[:, 0]
        else:
            hit = (mask | (target.reshape(mask.shape) == 0)).all(axis=1)
        counts = mask.any(axis=1)
        if batch.sample_weight is not None:  # which is 0 at padded steps
            counts &= to_numpy(batch.sample_weight).reshape(-1) > 0
        bad = np.flatnonzero(~hit & counts)
        if bad.size:
            raise ValueError(
                f"{prefix}y: the target of row {int(bad[0])} is a class that its mask forbids; the loss would be "
                "infinite."
            )


def _check_class_weight(loss: Loss, batch: Batch, prefix: str) -> None:
    """Raise ValueError where the weights of the classes at hand leave no row that counts."""
    weight = getattr(loss, "class_weight", None)
    if weight is None or all(each > 0 for each in weight):
        return
    target, counting = to_numpy(batch.target), np.array(weight) > 0
    rows = counting[target] if target.dtype.kind == "i" else (target[..., counting] > 0).any(axis=-1)
    if batch.sample_weight is not None:
        rows = rows & (to_numpy(batch.sample_weight) > 0)
    if not rows.any():
        raise ValueError(f"{prefix}y: every row has a class whose class_weight is 0; at least one row must count.")


def _check_sums(name: str, batch: Batch, xp: Namespace) -> None:
    """Raise ValueError unless the probabilities of every row that counts sum to 1."""
    sums = xp.sum(batch.target, axis=-1)
    off = xp.abs(sums - 1.0) > FAR_FROM_ONE
    if batch.sample_weight is not None:
        off = off & (batch.sample_weight > 0)
    if batch.mask is not None:
        off = off & xp.any(batch.mask, axis=-1)
    if not bool(xp.any(off)):
        return
    first = tuple(int(i) for i in np.argwhere(to_numpy(off))[0])
    row = first[0] if len(first) == 1 else first
    raise ValueError(
        f"{name}: row {row} sums to {float(sums[first]):g}; the probabilities of classes that exclude each other sum "
        "to 1. Where several may hold at once end the network in sigmoids: MLP(..., output='sigmoid'); else divide "
        "each row by its sum, and weigh rows by sample_weight."
    )


def _check_finite(name: str, array: Array, valid: Array | None, xp: Namespace) -> None:
    """Raise ValueError for NaN or infinities in real steps; in blocks of rows, since data may be larger than memory."""
    per_block = max(1, CHECKED_AT_ONCE // max(math.prod(array.shape[1:]), 1))
    for start in range(0, array.shape[0], per_block):
        part = slice(start, min(start + per_block, array.shape[0]))
        finite = xp.isfinite(array[part, ...])
        if valid is not None:
            real = valid[part, ...]
            finite = finite | ~xp.reshape(real, (*real.shape, *(1,) * (array.ndim - real.ndim)))
        if not bool(xp.all(finite)):
            first, *rest = (int(i) for i in np.argwhere(~to_numpy(finite))[0])
            raise ValueError(
                f"{name}: holds NaN or infinity, first at index {(first + start, *rest)}; expected finite numbers, for "
                f"{dtype_name(array)} of at most {xp.finfo(array.dtype).max:.2g}. Fill in, scale or drop such rows."
            )


def split(
    net: Network, batch: Batch, validation: float | tuple[ArrayLike | None, ...] | None, seed: int
) -> tuple[Batch, Batch | None]:
    """Return training and validation data: none, a random share of the rows, or what the user gave."""
    if validation is None:
        return batch, None
    if isinstance(validation, tuple | list):
        if not 2 <= len(validation) <= 5:
            raise ValueError(
                f"validation: has {len(validation)} parts; expected (x, y) or (x, y, sample_weight, mask, valid)."
            )
        try:
            held_out = batch_of(net, *validation)
        except (TypeError, ValueError) as error:
            error.args = (f"validation {error}",)
            raise
        check_data(net, held_out, "validation ")
        return batch, held_out
    shape = getattr(validation, "shape", ())
    if shape:
        raise TypeError(f"validation: expected a share in (0, 1) or a tuple (x, y), got an array of shape {shape}.")
    validation = check_number("validation", validation, 0.0, 1.0, open_low=True, open_high=True)
    n = batch.x.shape[0]
    n_held_out = max(1, round(n * validation))
    if n_held_out >= n:
        raise ValueError(f"validation: a share of {validation} of {n} rows leaves none to train on.")
    order = np.random.default_rng(seed).permutation(n)
    rows = [net.backend.asarray(np.sort(part)) for part in (order[n_held_out:], order[:n_held_out])]
    return batch.subset(rows[0]), batch.subset(rows[1])
