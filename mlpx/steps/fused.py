"""The steps of a fit in fused kernels: by the plan on a CPU, as graphs on a GPU."""

import math
from typing import TYPE_CHECKING

from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.optimizers import Optimizer
from mlpx.overrides import overridden
from mlpx.steps import GradientHook
from mlpx.steps.cpu import PlanSteps
from mlpx_kernels import Unsupported

if TYPE_CHECKING:
    from mlpx.steps.gpu import GraphSteps


TAKEN_OVER = {"step", "body", "loss_mask", "_loss_of"}
"""Methods of networks that fused steps stand in for."""


def fused_steps(
    net: Network,
    train: Batch,
    batch_size: int,
    optimizer: Optimizer,
    *,
    seed: int,
    n_steps: int = 1,
    n_threads: int | None = None,
    deterministic: bool = False,
    gradient_hook: GradientHook | None = None,
    precision: str | None = None,
    ceiling: float = math.inf,
    penalty: bool = False,
) -> "PlanSteps | GraphSteps":
    """Return fused steps on the network's device.

    Parameters
    ----------
    net, train, batch_size, optimizer, seed, n_steps, n_threads, deterministic, ceiling
        See `mlpx.steps.cpu.PlanSteps`.
    gradient_hook, penalty
        See `mlpx.steps.gpu.GraphSteps`; a CPU's plan takes no hook, and always tells the penalty.
    precision : str, optional
        Of products on a GPU; default: the network's.

    Raises
    ------
    Unsupported
        If the network, the data or the device does not allow it; the message says why.
    """
    if own := overridden(net, Network) & TAKEN_OVER:
        raise Unsupported(f"{type(net).__name__} has its own {min(own)}, so it runs layer by layer")
    if net.backend.name == "cupy":
        from mlpx.steps.gpu import GraphSteps  # only a GPU needs it

        return GraphSteps(
            net,
            train,
            batch_size,
            optimizer,
            seed=seed,
            n_steps=n_steps,
            gradient_hook=gradient_hook,
            precision=net.precision if precision is None else precision,
            ceiling=ceiling,
            penalty=penalty,
        )
    if gradient_hook is not None:
        raise Unsupported("a gradient hook wants every step by itself")
    return PlanSteps(
        net,
        train,
        batch_size,
        optimizer,
        seed=seed,
        n_steps=n_steps,
        n_threads=n_threads,
        deterministic=deterministic,
        ceiling=ceiling,
    )
