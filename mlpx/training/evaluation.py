"""How well a network does on given rows: its loss, the share of classes predicted right, and R² of numbers."""

from typing import NamedTuple

import numpy as np

from mlpx.backend import to_numpy
from mlpx.losses import ClassLoss, LabelLoss
from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.typing import Array


class Evaluation(NamedTuple):
    """What `evaluate` returns.

    Attributes
    ----------
    loss : float
        The network's loss, a weighted mean over rows, without penalties.
    accuracy : float or None
        The share of rows predicted right, in [0, 1]; None where outputs are no classes or no row counts.
    """

    loss: float
    accuracy: float | None


def accuracy(net: Network, z: Array, batch: Batch) -> float | None:
    """Return the share predicted right from logits or probabilities ``z``; None where outputs are no classes.

    Rows of weight 0 (padding) and rows whose mask allows nothing do not count; None where no row counts.
    """
    scores, target = to_numpy(z), to_numpy(batch.target)
    counts = np.ones(scores.shape[:-1], bool)
    if batch.sample_weight is not None:
        counts = to_numpy(batch.sample_weight) > 0
    if isinstance(net.loss, ClassLoss):
        if batch.mask is not None and any(layer.uses_mask for layer in net.layers[-1].walk()):
            scores = np.where(to_numpy(batch.mask), scores, -np.inf)
            counts = counts & to_numpy(batch.mask).any(axis=-1)
        truth = target if target.dtype.kind == "i" else target.argmax(axis=-1)
        right = scores.argmax(axis=-1) == truth
    elif isinstance(net.loss, LabelLoss):
        threshold = 0.0 if net.loss.fuses(net.layers[-1]) else net.loss.threshold
        right = ((scores > threshold) == (target > 0.5)).mean(axis=-1)
    else:
        return None
    return float(right[counts].mean()) if counts.any() else None


def r2(net: Network, z: Array, batch: Batch) -> float:
    """Return ``1 - sum w (t - y)^2 / sum w (t - mean t)^2``, the mean over the outputs; NaN below two rows.

    An output whose targets are all alike counts 1 where it is met exactly, else 0.
    """
    head = net.layers[len(net.body()) :]
    y = to_numpy(head[0].forward(z)[0] if head else z).astype(np.float64)
    y = y.reshape(-1, y.shape[-1])
    target = to_numpy(batch.target).astype(np.float64).reshape(y.shape[0], -1)
    weight = np.ones(y.shape[0]) if batch.sample_weight is None else to_numpy(batch.sample_weight).reshape(-1)
    if np.count_nonzero(weight) < 2:
        return float("nan")
    residual = weight @ (target - y) ** 2
    total = weight @ (target - np.average(target, axis=0, weights=weight)) ** 2
    scores = np.where(residual == 0.0, 1.0, 1.0 - residual / np.where(total > 0.0, total, np.inf))
    return float(np.where((total == 0.0) & (residual > 0.0), 0.0, scores).mean())
