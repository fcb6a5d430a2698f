"""Where a diverged step went wrong, and what to try."""

import math

import numpy as np

from mlpx.errors import DivergenceError
from mlpx.layers import Context
from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.typing import Array


def _largest(net: Network, x: Array) -> float:
    """Return the largest magnitude; NaN where there is one."""
    return float(net.backend.xp.max(net.backend.xp.abs(x))) if x.size else 0.0


def diagnose(net: Network, batch: Batch, context: Context, step: int, epoch: int) -> DivergenceError:
    """Return the error for a step whose loss or gradient is not finite: run it once more and look at every layer."""
    x = batch.real_x()
    largest = {
        "input": _largest(net, x),
        "weight": _largest(net, net.parameters),
        "activation": 0.0,
        "gradient": 0.0,
    }
    culprit = ""
    for number, layer in enumerate(net.layers):
        x, _ = layer.forward(x, context)
        size = _largest(net, x)
        largest["activation"] = size if math.isnan(size) else max(largest["activation"], size)
        if not math.isfinite(size):
            culprit = f"layers[{number}] {type(layer).__name__}"
            break
    largest["gradient"] = _largest(net, net.gradient)
    if not culprit:
        culprit = next(
            (
                f"layers[{number}] {type(layer).__name__}"
                for number, layer in reversed(list(enumerate(net.all_layers())))
                for p in layer.parameters.values()
                if not math.isfinite(_largest(net, p.grad))
            ),
            f"the loss ({net.loss.name})",
        )
    sizes = ", ".join(f"{name} {value:.3g}" for name, value in largest.items())
    return DivergenceError(
        f"fit: the loss or its gradient is not finite at step {step} (epoch {epoch}), first in {culprit}. Largest "
        f"magnitudes: {sizes}. The weights are those before the last update that led here. Try a smaller lr, "
        "clip_norm=1.0 in the optimiser, inputs scaled to about 1, smaller initial weights, or dtype='float64'.",
        step=step,
        epoch=epoch,
        layer=culprit,
        largest=largest,
    )


def trace(
    net: Network,
    good: tuple[Array, Array],
    bad: tuple[Array, Array],
    before: tuple[Batch, Context] | None,
    now: tuple[Batch, Context],
    epoch: int,
) -> DivergenceError:
    """Return the error for steps that were only seen to fail afterwards, and leave the good weights in place.

    A gradient that is not finite spoils the weights, and shows in the next step's loss; so the step before is tried
    again first, at the good weights.

    Parameters
    ----------
    good, bad : (parameters, statistics)
        Of before and after the last update. Copies, not the network's own buffers.
    before : (batch, context), optional
        The step that led from good to bad; None where there is none in this epoch.
    now : (batch, context)
        The step whose loss was not finite at the bad weights.
    """
    buffers = net.buffers

    def use(state: tuple[Array, Array]) -> None:
        buffers.parameters[...], buffers.statistics[...] = state

    try:
        with np.errstate(all="ignore"):
            if before is not None:
                use(good)
                net.step(*before)
                if not bool(net.backend.xp.isfinite(net.backend.xp.sum(buffers.gradient))):
                    return diagnose(net, *before, before[1].step, epoch)
            use(bad)
            net.step(*now)
            return diagnose(net, *now, now[1].step, epoch)
    finally:
        use(good)


def of_rate(lr: float, factor: float, schedule: str, step: int, epoch: int) -> DivergenceError:
    """Return the error for a step whose learning rate is not finite: the schedule's factor is too large."""
    return DivergenceError(
        f"fit: the learning rate of step {step} (epoch {epoch}) is {lr * factor}: lr {lr:g} times {factor:g}, the "
        f"factor of {schedule}. The weights are those before it. Let the factor fall, or end the fit sooner.",
        step=step,
        epoch=epoch,
        layer="the schedule",
        largest={},
    )
