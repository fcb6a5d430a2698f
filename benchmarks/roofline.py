"""The least time that a GPU can take: bytes over its bandwidth, or operations over its rate, whichever is longer."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.nets import Net

FLOAT = 4
"""Bytes of a float32."""


@dataclass(frozen=True)
class Device:
    """What a GPU's data sheet promises.

    Parameters
    ----------
    name : str
    bandwidth : float
        Bytes a second.
    flops : dict
        Operations a second by precision: "float32", "tf32", "bf16".
    """

    name: str
    bandwidth: float
    flops: dict[str, float]


H100 = Device("H100 SXM", 3.35e12, {"float32": 67e12, "tf32": 495e12, "bf16": 990e12})
H200 = Device("H200 SXM", 4.8e12, {"float32": 67e12, "tf32": 495e12, "bf16": 990e12})
"""Source: NVIDIA's data sheets of 2023 and 2024, dense rates."""


@dataclass(frozen=True)
class Stage:
    """One kernel: the bytes it must read and write, and the operations it must do."""

    bytes: float
    flops: float = 0.0

    def seconds(self, device: Device, precision: str) -> float:
        """Return the least time on a device."""
        return max(self.bytes / device.bandwidth, self.flops / device.flops[precision])


def microseconds(stages: Sequence[Stage], device: Device, precision: str = "float32") -> float:
    """Return the least time of kernels that run one after the other."""
    return 1e6 * sum(stage.seconds(device, precision) for stage in stages)


def product(n: int, i: int, o: int) -> Stage:
    """Return the product (n, i) x (i, o): each matrix crosses memory once."""
    return Stage(FLOAT * (n * i + i * o + n * o), 2.0 * n * i * o)


def elements(reads: int, writes: int) -> Stage:
    """Return a kernel that reads and writes so many float32 numbers."""
    return Stage(FLOAT * (reads + writes))


def dense(n: int, i: int, o: int) -> list[Stage]:
    """Return a dense layer: the product, then bias and activation over its output."""
    return [product(n, i, o), elements(n * o + o, n * o)]


def adam(size: int) -> Stage:
    """Return Adam: reads w, g, m, v and writes w, m, v; 28 bytes a parameter."""
    return elements(4 * size, 3 * size)


def forward(net: Net, rows: int) -> list[Stage]:
    """Return the layers of a network over some rows, hidden layers crossing memory."""
    return [stage for i, o in zip(net.sizes, net.sizes[1:], strict=False) for stage in dense(rows, i, o)]


def fused_forward(net: Net, rows: int) -> Stage:
    """Return a network in one kernel: inputs, weights and outputs cross memory, hidden layers do not."""
    pairs = list(zip(net.sizes, net.sizes[1:], strict=False))
    weights = sum(i * o + o for i, o in pairs)
    return Stage(FLOAT * (rows * (net.sizes[0] + net.sizes[-1]) + weights), 2.0 * rows * sum(i * o for i, o in pairs))


def step(net: Net) -> list[Stage]:
    """Return a training step: gather, forward, loss with gradient, backward, Adam."""
    n, pairs = net.batch, list(zip(net.sizes, net.sizes[1:], strict=False))
    stages = [
        elements(n * net.sizes[0], n * net.sizes[0]),
        *forward(net, n),
        elements(n * net.sizes[-1], n * net.sizes[-1]),
    ]
    for number, (i, o) in reversed(list(enumerate(pairs))):
        stages.append(elements(2 * n * o, n * o))  # gradient through the activation, and of the bias
        stages.append(product(o, n, i))
        if number:
            stages.append(product(n, o, i))
    return [*stages, adam(sum(i * o + o for i, o in pairs))]
