"""The networks that are trained and their data; every implementation starts from the same weights."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

import mlpx
from benchmarks.measure import quick

LR = 1e-3


@dataclass(frozen=True)
class Net:
    """A classifier with relu layers, and how it is trained.

    Parameters
    ----------
    sizes : tuple of int
    batch : int
        Rows of a step.
    steps : int
        Steps of an epoch.
    epochs : int
        Epochs of one timed call of mlpx and JAX: what a fit costs before its first step, a millisecond after a pause,
        should not count in a step, so there are as many steps as take 20 milliseconds at least. Implementations that
        have no such cost, and take longer, train for one epoch.
    """

    sizes: tuple[int, ...]
    batch: int
    steps: int
    epochs: int = 1

    @property
    def name(self) -> str:
        """What tables call it."""
        if len(self.sizes) > 5:
            return f"{self.sizes[0]}-{self.sizes[1]}x{len(self.sizes) - 2}-{self.sizes[-1]}"
        return "-".join(map(str, self.sizes))

    @property
    def rows(self) -> int:
        """Rows of the data."""
        return self.batch * self.steps

    @property
    def taken(self) -> int:
        """Steps of one timed call."""
        return self.steps * self.epochs

    @property
    def flops(self) -> float:
        """Floating-point operations of the products of a step; the first layer's data needs no gradient."""
        pairs = [a * b for a, b in zip(self.sizes, self.sizes[1:], strict=False)]
        return 2.0 * self.batch * (3 * sum(pairs) - pairs[0])

    def once(self) -> "Net":
        """Return it with one epoch a call."""
        return replace(self, epochs=1)

    def small(self) -> "Net":
        """Return what stands in for it in quick mode: a few steps of a narrow net."""
        return Net(tuple(min(n, 48) for n in self.sizes), min(self.batch, 32), 3, 1)

    @cached_property
    def data(self) -> tuple[Any, Any]:
        """The inputs (rows, n_in), float32, and classes (rows,) that can be learnt from them."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.rows, self.sizes[0]), dtype=np.float32)
        return x, (x @ rng.standard_normal((self.sizes[0], self.sizes[-1]))).argmax(axis=1)

    def build(self) -> mlpx.MLP:
        """Return the network; the same weights each time."""
        return mlpx.MLP(self.sizes, activation="relu", output="softmax", seed=0)

    def weights(self) -> list[tuple[Any, Any]]:
        """Return copies of (w (n_out, n_in), b (n_out,)) of each layer, for the peers."""
        named = self.build().named_parameters()
        return [(named[f"{i}.w"].copy(), named[f"{i}.b"].copy()) for i in range(len(self.sizes)) if f"{i}.w" in named]


FIVE = (
    Net((4, 16, 3), 32, 256, 80),
    Net((64, 128, 10), 32, 256, 20),
    Net((32, 256, 256, 2), 256, 32, 8),
    Net((784, 256, 128, 10), 128, 32, 8),
    Net((784, 1024, 1024, 10), 512, 6, 2),
)
DEEP = Net((64, 128, 128, 128, 128, 128, 128, 128, 10), 128, 64, 4)


def sized(net: Net) -> Net:
    """Return the net that this run trains in its place: itself, or a small one in quick mode."""
    return net.small() if quick() else net
