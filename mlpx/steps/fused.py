"""The steps of a fit in fused kernels: by the plan on a CPU, as graphs on a GPU."""

import math
import operator
from typing import TYPE_CHECKING, Any

from mlpx.backend import dtype_name, kind_of
from mlpx.losses import ClassLoss
from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.optimizers import Optimizer
from mlpx.plan import compiled_engine
from mlpx.steps import GradientHook, kernel_codes
from mlpx_kernels import Unsupported

if TYPE_CHECKING:
    from mlpx.steps.cpu import PlanSteps
    from mlpx.steps.gpu import GraphSteps


TAKEN_OVER = Network.step, Network.body, Network.loss_mask, Network._loss_of
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
    ValueError
        If the optimiser's state is not one of this network's.
    """
    _check_state(net, optimizer)
    _check_targets(net, train)
    for method in TAKEN_OVER:  # not by `overridden`: to ask for its __dict__ makes an object slower to use
        if getattr(getattr(net, method.__name__), "__func__", None) is not method:
            raise Unsupported(f"{type(net).__name__} has its own {method.__name__}, so it runs layer by layer")
    if net.backend.name == "cupy":
        with compiled_engine():
            from mlpx.steps.gpu import GraphSteps
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
    with compiled_engine():
        from mlpx.steps.cpu import PlanSteps
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


READ_OFTEN = {"lr", "l2", "schedule", "state", "_count"}
"""Attributes of optimisers that are looked at again in every call, and the list of what counts by itself."""


def read_once(net: Network, optimizer: Optimizer) -> list[Any]:
    """Return all that fused steps look at when they are made, and never again: settings and arrays."""
    settings = [value for layer in net.all_layers() for value in vars(layer).values()]
    settings += [value for name, value in vars(optimizer).items() if name not in READ_OFTEN]
    return [net.loss, *settings, *optimizer.state]


def changed(now: list[Any], before: list[Any]) -> bool:
    """Return whether what was `read_once` is not the same objects any more, so that steps must be made anew."""
    return len(now) != len(before) or not all(map(operator.is_, now, before))


def _check_state(net: Network, optimizer: Optimizer) -> None:
    """Raise ValueError unless there are as many arrays of state as the optimiser works on, as large as the weights."""
    shape, state = tuple(net.parameters.shape), optimizer.state
    fits = [tuple(getattr(each, "shape", ())) == shape and dtype_name(each) == net.dtype for each in state]
    if len(state) != optimizer.n_states or not all(fits):
        raise ValueError(
            f"optimizer.state: expected {optimizer.n_states} arrays of shape {shape} and dtype {net.dtype}, got "
            f"{[(getattr(each, 'shape', ()), str(getattr(each, 'dtype', type(each)))) for each in state]}. Write into "
            "the arrays that are there, or call optimizer.forget() to start afresh."
        )


def _check_targets(net: Network, train: Batch) -> None:
    """Raise Unsupported for targets that were prepared for another loss: kernels index them unchecked."""
    if not isinstance(net.loss, kernel_codes.KINDS):
        return
    lead, width = tuple(train.x.shape[:-1]), train.x.shape[-1] if net.n_out is None else net.n_out
    whole = kind_of(train.target) == "i"
    classes = isinstance(net.loss, ClassLoss) and whole
    wanted = lead if classes else (*lead, width)
    if tuple(train.target.shape) != wanted or whole != classes:
        raise Unsupported(f"the targets are not those of the loss {net.loss.name}")
    for name in ("class_weight", "pos_weight", "q"):
        if len(getattr(net.loss, name, None) or ()) not in (0, width):
            raise Unsupported(f"{name} has other values than one for each output")
