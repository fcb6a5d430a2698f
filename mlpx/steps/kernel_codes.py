"""What a step's loss and update are to the kernels of a plan: codes and numbers."""

import math
from typing import Any

import numpy as np

from mlpx.losses import (
    AbsoluteError,
    BinaryCrossEntropy,
    BinaryFocal,
    CrossEntropy,
    Focal,
    Gamma,
    Hinge,
    Huber,
    Loss,
    Poisson,
    Quantile,
    SquaredError,
)
from mlpx.network import Network
from mlpx.optimizers import OPTIMIZERS, Optimizer
from mlpx.overrides import overridden
from mlpx.typing import Array
from mlpx_kernels import Unsupported
from mlpx_kernels.updates import encode

KINDS: tuple[type[Loss], ...] = (
    CrossEntropy,
    BinaryCrossEntropy,
    SquaredError,
    AbsoluteError,
    Huber,
    Quantile,
    Poisson,
    Gamma,
    Hinge,
    BinaryFocal,
    Focal,
)
"""In the order of their codes in the kernels."""
LOSSES = tuple(kind.name for kind in KINDS)
ASKED_OF_LOSSES = frozenset({"prepare", "config", "fuses"})
ASKED_OF_OPTIMIZERS = frozenset({"start", "first_state", "adopt", "forget", "rates", "limits"})
"""Methods that are called where a plan stands in for the rest."""


def of_loss(net: Network) -> tuple[int, Array, float]:
    """Return the loss's code, its weights or levels per output (of size 0 where it has none), and its option.

    Raises
    ------
    Unsupported
        If no plan has this loss.
    """
    loss = net.loss
    code = next((code for code, kind in enumerate(KINDS) if isinstance(loss, kind)), None)
    if code is None:
        raise Unsupported(f"the loss {loss.name} runs layer by layer")
    if own := overridden(loss, KINDS[code], ASKED_OF_LOSSES):
        raise Unsupported(f"the loss {type(loss).__name__} has its own {min(own)}, so it runs layer by layer")
    values: Any = ()
    if isinstance(loss, CrossEntropy):
        values = loss.class_weight or ()
    elif isinstance(loss, BinaryCrossEntropy):
        values = loss.pos_weight or ()
    elif isinstance(loss, Quantile):
        values = loss.q
    options = [getattr(loss, name) for name in ("delta", "label_smoothing", "focus") if hasattr(loss, name)]
    option = options[0] if options else 0.0
    return code, np.array(values, net.dtype), option


def of_update(optimizer: Optimizer) -> tuple[int, Array]:
    """Return the update's code and its array of numbers; see `mlpx_kernels.updates`.

    Raises
    ------
    Unsupported
        If no plan has this update.
    """
    name, library = type(optimizer).__name__, OPTIMIZERS.values()
    known = next((kind for kind in type(optimizer).__mro__ if kind in library), None)
    if known is None:
        raise Unsupported(f"the optimizer {name} runs layer by layer")
    if own := overridden(optimizer, known, ASKED_OF_OPTIMIZERS):
        raise Unsupported(f"the optimizer {name} has its own {min(own)}, so it runs layer by layer")
    kind, numbers = encode(
        known.op.name,  # type: ignore[attr-defined]
        lr=optimizer.lr,
        clip=math.inf if optimizer.clip_value is None else optimizer.clip_value,
        l1=optimizer.l1,
        l2=optimizer.l2,
        decay=optimizer.weight_decay,
        **optimizer.options(1),
    )
    return int(kind), numbers
