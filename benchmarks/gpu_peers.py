"""The same calls on a GPU by plain CuPy and by PyTorch, many of them between two synchronisations."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.nets import LR, Net
from benchmarks.peers import Absent, torch

CALLS = 50
"""Calls of one sample: enough that waiting for the device at the end does not count."""

COMPILED = ("softmax", "layer_norm", "dense")
"""Ops that torch.compile is asked for too; it takes some ten seconds for each, and the whole run has eight minutes."""


def many(call: Callable[[], Any], synchronize: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls ``CALLS`` times and waits for the device."""

    def run() -> None:
        for _ in range(CALLS):
            call()
        synchronize()

    return run


def cuda() -> Any:
    """Return PyTorch if it has a GPU.

    Raises
    ------
    Absent
        If not.
    """
    t = torch()
    if not t.cuda.is_available():
        raise Absent("this PyTorch has no CUDA: install it from the index for your driver, see pytorch.org")
    return t


def _op(t: Any, op: str, args: tuple[Any, ...], params: dict[str, Any]) -> Callable[[], Any]:
    """Return PyTorch's call of an op on device tensors."""
    f = t.nn.functional
    if op == "adam_inplace":
        weight = t.nn.Parameter(args[0].clone())
        weight.grad = args[1]
        optimizer = t.optim.Adam([weight], lr=LR, fused=True)
        return optimizer.step
    if op == "softmax_cross_entropy":
        z, target = args[0].requires_grad_(), args[1]
        return lambda: t.autograd.grad(f.cross_entropy(z, target), z)
    calls: dict[str, Callable[..., Any]] = {
        "softmax": lambda x: t.softmax(x, -1),
        "log_softmax": lambda x: t.log_softmax(x, -1),
        "masked_softmax": lambda x, mask: t.softmax(x.masked_fill(~mask, -t.inf), -1),
        "softmax_grad": lambda dy, y: t.ops.aten._softmax_backward_data(dy, y, -1, y.dtype),
        "dropout": lambda x: f.dropout(x, params["p"]),
        "layer_norm": lambda x, gamma, beta: f.layer_norm(x, x.shape[-1:], gamma, beta, params["eps"]),
        "batch_norm": lambda x, gamma, beta: f.batch_norm(x, None, None, gamma, beta, training=True),
        "dense": lambda x, w, b: t.relu(f.linear(x, w, b)),
    }
    if op not in calls:
        raise Absent(f"PyTorch has no call of its own for {op}")
    return lambda: calls[op](*args)


def pytorch_op(op: str, args: tuple[Any, ...], params: dict[str, Any], *, compiled: bool) -> Callable[[], None]:
    """Return PyTorch's op on the GPU, eager or compiled."""
    t = cuda()
    call = _op(t, op, tuple(t.as_tensor(a).cuda() for a in args), params)
    return many(t.compile(call) if compiled else call, t.cuda.synchronize)


def _model(t: Any, net: Net) -> Any:
    layers = []
    for number, (w, b) in enumerate(net.weights()):
        linear = t.nn.Linear(w.shape[1], w.shape[0])
        with t.no_grad():
            linear.weight.copy_(t.as_tensor(w))
            linear.bias.copy_(t.as_tensor(b))
        layers += [*([t.nn.ReLU()] if number else []), linear]
    return t.nn.Sequential(*layers).cuda()


def pytorch_forward(net: Net, x: Any, *, compiled: bool) -> Callable[[], None]:
    """Return PyTorch's prediction of probabilities."""
    t = cuda()
    model, data = _model(t, net).eval(), t.as_tensor(x).cuda()
    model = t.compile(model) if compiled else model

    def call() -> Any:
        with t.inference_mode():
            return t.softmax(model(data), -1)

    return many(call, t.cuda.synchronize)


def pytorch_step(net: Net, *, compiled: bool) -> Callable[[], None]:
    """Return ``CALLS`` of PyTorch's training steps over batches on the device."""
    t = cuda()
    model = _model(t, net)
    optimizer = t.optim.Adam(model.parameters(), lr=LR, fused=True)
    x, y = (t.as_tensor(np.ascontiguousarray(part)).cuda() for part in net.data)
    place = 0

    def step(xb: Any, yb: Any) -> None:
        optimizer.zero_grad()
        t.nn.functional.cross_entropy(model(xb), yb).backward()

    step = t.compile(step) if compiled else step

    def call() -> None:
        nonlocal place
        step(x[place : place + net.batch], y[place : place + net.batch])
        optimizer.step()
        place = (place + net.batch) % (len(x) - net.batch + 1)

    return many(call, t.cuda.synchronize)
