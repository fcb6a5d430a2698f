"""What a step's loss and update are to the kernels of a plan: codes and numbers."""

import math
from typing import Any

import numpy as np

from mlpx.losses import BinaryCrossEntropy, CrossEntropy, Quantile
from mlpx.network import Network
from mlpx.optimizers import Optimizer
from mlpx.typing import Array
from mlpx_kernels import Unsupported
from mlpx_kernels.updates import encode

LOSSES = (
    "cross_entropy",
    "binary_cross_entropy",
    "squared_error",
    "absolute_error",
    "huber",
    "quantile",
    "poisson",
    "gamma",
    "hinge",
    "binary_focal",
    "focal",
)
"""In the order of their codes in the kernels."""


def of_loss(net: Network) -> tuple[int, Array, float]:
    """Return the loss's code, its weights or levels per output (of size 0 where it has none), and its option.

    Raises
    ------
    Unsupported
        If no plan has this loss.
    """
    loss = net.loss
    if loss.name not in LOSSES:
        raise Unsupported(f"the loss {loss.name} runs layer by layer")
    values: Any = ()
    if isinstance(loss, CrossEntropy):
        values = loss.class_weight or ()
    elif isinstance(loss, BinaryCrossEntropy):
        values = loss.pos_weight or ()
    elif isinstance(loss, Quantile):
        values = loss.q
    options = [getattr(loss, name) for name in ("delta", "label_smoothing", "focus") if hasattr(loss, name)]
    option = options[0] if options else 0.0
    return LOSSES.index(loss.name), np.array(values, net.dtype), option


def of_update(optimizer: Optimizer) -> tuple[int, Array]:
    """Return the update's code and its array of numbers; see `mlpx_kernels.updates`."""
    kind, numbers = encode(
        type(optimizer).op.name,  # type: ignore[attr-defined]
        lr=optimizer.lr,
        clip=math.inf if optimizer.clip_value is None else optimizer.clip_value,
        l1=optimizer.l1,
        l2=optimizer.l2,
        decay=optimizer.weight_decay,
        **optimizer.options(1),
    )
    return int(kind), numbers
