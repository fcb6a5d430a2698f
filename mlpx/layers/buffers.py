"""Parameters, the flat buffers that they are views into, and how layers get theirs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from mlpx.backend import Backend, backend_of, current_backend, to_numpy
from mlpx.initializers import Uniform, find
from mlpx.typing import Array, Shape

if TYPE_CHECKING:
    from mlpx.layers.base import Layer

MOST_WEIGHTS = 1 << 58
"""Numbers whose bytes an array module can still count."""
ALIGNMENT = 16
"""Parameters start at multiples of this many elements: 64 bytes in float32, 128 in float64."""


owners: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""Which network holds a layer, by the layer's id: its weights lie in that network's buffers alone."""


class Parameter:
    """One array of weights: its declaration, and views of its value and gradient once it is bound.

    Attributes
    ----------
    shape : tuple of int
    init : str or Uniform
    decay : bool
        Whether weight decay and L1/L2 penalties apply: weights yes, biases and norm gains no.
    lr_factor : float
        Multiplies the learning rate.
    value, grad : array
        Views into the buffers of the network, or of the layer alone.
    offset : int
        Where it starts in the flat buffer, in elements.
    """

    def __init__(self, shape: Shape, init: str | Uniform, *, decay: bool, lr_factor: float = 1.0) -> None:
        self.shape = shape
        self.init = init
        self.decay = decay
        self.lr_factor = lr_factor
        self.value: Array = None
        self.grad: Array = None
        self.offset = 0

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles hold: the value on the host, and no gradient, which each pass writes anew."""
        return vars(self) | {"value": None if self.value is None else to_numpy(self.value), "grad": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the value to the backend in force."""
        vars(self).update(state)
        if self.value is not None:
            self.value = current_backend().asarray(self.value)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def over(self, values: Array, gradients: Array = None) -> "Parameter":
        """Return a copy at the same place of other flat buffers."""
        made: Parameter = object.__new__(Parameter)
        made.__dict__.update(self.__dict__)
        made.value, made.grad = self.view(values), None if gradients is None else self.view(gradients)
        return made

    def view(self, buffer: Array) -> Array:
        """Return the part of a flat buffer that belongs to this parameter, in its shape."""
        part = buffer[self.offset : self.offset + self.size]
        # The method takes a third of the time, and not every array has it.
        return part.reshape(self.shape) if type(part) is np.ndarray else backend_of(part).xp.reshape(part, self.shape)

    def store(self, grad: Array) -> None:
        """Write the gradient of this pass."""
        if self.grad is None:  # of a layer that was copied alone
            self.grad = backend_of(grad).xp.zeros_like(self.value)
        self.grad[...] = grad


@dataclass
class Buffers:
    """The flat buffers that a set of layers shares.

    Attributes
    ----------
    parameters, gradient : array (k,)
        All weights and their gradients, each parameter from a 64-byte boundary on; the gaps stay 0.
    statistics : array (s,)
        Running statistics: not trained, but saved.
    groups : list of (start, stop, decay, lr_factor)
        Runs of the flat buffer whose parameters are updated alike.
    """

    parameters: Array
    gradient: Array
    statistics: Array
    groups: list[tuple[int, int, bool, float]]


def _place(parameters: list[Parameter]) -> tuple[list[tuple[int, int, bool, float]], int]:
    """Give each parameter its offset, those that are updated alike side by side; return the groups and the size."""
    ordered = sorted(parameters, key=lambda p: (not p.decay, p.lr_factor))
    groups: list[tuple[int, int, bool, float]] = []
    offset = 0
    for p in ordered:
        p.offset = offset
        stop = offset + -(-p.size // ALIGNMENT) * ALIGNMENT
        if groups and groups[-1][2:] == (p.decay, p.lr_factor):
            groups[-1] = (groups[-1][0], stop, p.decay, p.lr_factor)
        else:
            groups.append((offset, stop, p.decay, p.lr_factor))
        offset = stop
    return groups, offset


def bind(layers: "Sequence[Layer]", *, seed: int | None, dtype: str, backend: Backend) -> Buffers:
    """Make the flat buffers of some layers, draw the initial weights, and give every parameter its views.

    Weights are drawn layer by layer on the host, so that a seed gives the same network on every backend. Without a
    seed nothing is drawn: everything is 0.

    Raises
    ------
    MemoryError
        If there is not enough for them.
    """
    everything = [inner for layer in layers for inner in layer.walk()]
    parameters = [p for layer in everything for p in layer.parameters.values()]
    statistics = [p for layer in everything for p in layer.statistics.values()]
    groups, size = _place(parameters)
    _, n_statistics = _place(statistics)
    try:
        buffers = _buffers(size, n_statistics, groups, dtype, backend)
        _draw(parameters, statistics, buffers, seed, dtype, backend)
    except MemoryError:
        raise MemoryError(
            f"layers: {size:,} weights of {dtype}, and as many gradients, are more than this machine has memory for. "
            "Take smaller layers."
        ) from None
    for number, layer in enumerate(everything):
        layer.number = number
    return buffers


def _buffers(
    size: int, n_statistics: int, groups: list[tuple[int, int, bool, float]], dtype: str, backend: Backend
) -> Buffers:
    if size + n_statistics > MOST_WEIGHTS:  # which array modules call another kind of error
        raise MemoryError
    weights, gradient, running = (backend.zeros(n, dtype) for n in (size, size, n_statistics))
    return Buffers(weights, gradient, running, groups)


def _draw(
    parameters: list[Parameter],
    statistics: list[Parameter],
    buffers: Buffers,
    seed: int | None,
    dtype: str,
    backend: Backend,
) -> None:
    """Give every parameter its views, and, with a seed, its initial numbers."""
    for p in parameters:
        p.value, p.grad = p.view(buffers.parameters), p.view(buffers.gradient)
    for p in statistics:
        p.value = p.view(buffers.statistics)
    drawn = [p for p in (*parameters, *statistics) if p.init != "zeros"]  # which the buffers hold already
    if drawn and seed is not None:
        rng = np.random.default_rng(seed)
        for p in drawn:
            if isinstance(p.init, Uniform):
                p.init.check(dtype)
            p.value[...] = backend.asarray(find(p.init)(rng, p.shape), dtype)
