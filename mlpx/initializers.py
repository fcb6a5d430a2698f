"""Initial weights: drawn on the host in float64, so that a seed gives the same network on every backend."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlpx.errors import check_name, check_number
from mlpx.typing import Array, Shape

Draw = Callable[[np.random.Generator, Shape], Array]


def _fans(shape: Shape) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight (n_out, n_in); a vector counts as one row."""
    n_out, n_in = shape if len(shape) == 2 else (1, math.prod(shape))
    return max(n_in, 1), max(n_out, 1)


def _scaled(variance: Callable[[int, int], float], normal: bool) -> Draw:
    """Return a draw of zero mean whose variance is a function of the fans."""

    def draw(rng: np.random.Generator, shape: Shape) -> Array:
        std = math.sqrt(variance(*_fans(shape)))
        if normal:
            return rng.standard_normal(shape) * std
        return rng.uniform(-math.sqrt(3.0) * std, math.sqrt(3.0) * std, shape)

    return draw


def _orthogonal(rng: np.random.Generator, shape: Shape) -> Array:
    rows, columns = shape if len(shape) == 2 else (1, math.prod(shape))
    tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)  # without it the distribution is not uniform (Mezzadri 2007)
    return (q if rows >= columns else q.T).reshape(shape)


INITIALIZERS: dict[str, Draw] = {
    "glorot_uniform": _scaled(lambda i, o: 2.0 / (i + o), normal=False),
    "glorot_normal": _scaled(lambda i, o: 2.0 / (i + o), normal=True),
    "he_uniform": _scaled(lambda i, o: 2.0 / i, normal=False),
    "he_normal": _scaled(lambda i, o: 2.0 / i, normal=True),
    "lecun_uniform": _scaled(lambda i, o: 1.0 / i, normal=False),
    "lecun_normal": _scaled(lambda i, o: 1.0 / i, normal=True),
    "orthogonal": _orthogonal,
    "zeros": lambda rng, shape: np.zeros(shape),
    "ones": lambda rng, shape: np.ones(shape),
}
"""Name to draw. Variances: Glorot 2 / (n_in + n_out), He 2 / n_in, LeCun 1 / n_in; normal or uniform. ``orthogonal``:
rows or columns orthonormal (Saxe et al. 2014). Sources: Glorot and Bengio 2010; He et al. 2015; LeCun et al. 1998."""


@dataclass(frozen=True)
class Uniform:
    """Initialiser: uniform in [low, high).

    Raises
    ------
    ValueError
        If low exceeds high or one is not finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", check_number("low", self.low))
        object.__setattr__(self, "high", check_number("high", self.high, self.low))
        if math.isinf(self.high - self.low):
            raise ValueError(f"high: high - low is beyond float64, got low={self.low:g}, high={self.high:g}.")

    def check(self, dtype: str) -> None:
        """Raise ValueError where weights of a dtype would be infinite."""
        most = float(np.finfo(dtype).max)
        if max(-self.low, self.high) > most:
            raise ValueError(f"init: {self!r} gives numbers that {dtype} does not hold; it goes to {most:.2g}.")


def automatic(activation: str) -> str:
    """Return the initialiser that suits an activation: He for the relu family, LeCun for selu, otherwise Glorot."""
    if activation in ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "mish"):
        return "he_uniform"
    return "lecun_normal" if activation == "selu" else "glorot_uniform"


def find(init: "str | Uniform", argument: str = "init") -> Draw:
    """Return the draw of an initialiser, or raise ValueError that names ``argument`` and the known names."""
    if isinstance(init, Uniform):
        low, high = init.low, init.high
        return lambda rng, shape: rng.uniform(low, high, shape)
    return INITIALIZERS[check_name(argument, init, INITIALIZERS)]
