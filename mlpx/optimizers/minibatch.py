"""Mini-batch optimisers, one class each. Their arithmetic is in `mlpx.ops`; here are their options."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

from mlpx import ops
from mlpx.errors import check_name, check_number
from mlpx.network import Network
from mlpx.optimizers.base import Optimizer
from mlpx.typing import Array


@dataclass(kw_only=True, repr=False)
class SGD(Optimizer):
    """Gradient descent: ``w <- w - lr g``; see `mlpx.ops.sgd_inplace`."""

    op = ops.sgd_inplace


@dataclass(kw_only=True, repr=False)
class Momentum(Optimizer):
    """Gradient descent with momentum: ``v <- momentum v - lr g``, ``w <- w + v``; see `mlpx.ops.momentum_inplace`.

    Parameters
    ----------
    momentum : float
        The share of the last step that the next one keeps, in [0, 1).
    """

    momentum: float = 0.9
    n_states = 1
    op = ops.momentum_inplace
    own = ("momentum",)


@dataclass(kw_only=True, repr=False)
class Nesterov(Momentum):
    """Nesterov's momentum: ``v <- momentum v - lr g``, ``w <- w + momentum v - lr g``. Source: Sutskever et al. 2013.

    Parameters
    ----------
    momentum : float
        As in `Momentum`.
    """

    def options(self, step: int) -> dict[str, Any]:
        """Return the momentum and its kind."""
        return super().options(step) | {"nesterov": True}


@dataclass(kw_only=True, repr=False)
class Adagrad(Optimizer):
    """Adagrad: ``s <- s + g^2``, ``w <- w - lr g / (sqrt s + eps)``; see `mlpx.ops.adagrad_inplace`.

    Parameters
    ----------
    eps : float
        In units of the gradient, above 0.
    """

    eps: float = 1e-8
    n_states = 1
    op = ops.adagrad_inplace
    own = ("eps",)


@dataclass(repr=False)
class RMSprop(Optimizer):
    """RMSprop: ``s <- rho s + (1 - rho) g^2``, ``w <- w - lr g / (sqrt s + eps)``; see `mlpx.ops.rmsprop_inplace`.

    Parameters
    ----------
    rho : float
        Share of the past in the mean square, in [0, 1).
    eps : float
        In units of the gradient, above 0.
    """

    lr: float = 0.001
    _: KW_ONLY
    rho: float = 0.9
    eps: float = 1e-8
    n_states = 1
    op = ops.rmsprop_inplace
    own = ("rho", "eps")


@dataclass(repr=False)
class Adadelta(Optimizer):
    """Adadelta; see `mlpx.ops.adadelta_inplace`. It finds its own step size, so lr is 1.

    Parameters
    ----------
    rho : float
        Share of the past in both mean squares, in [0, 1).
    eps : float
        Added to both before their roots are taken, above 0; it sets the size of the first steps.
    """

    lr: float = 1.0
    _: KW_ONLY
    rho: float = 0.95
    eps: float = 1e-6
    n_states = 2
    op = ops.adadelta_inplace
    own = ("rho", "eps")


@dataclass(repr=False)
class Adam(Optimizer):
    """Adam: ``w <- w - lr m / (sqrt v + eps)``, with running means m of g and v of g^2, freed of their start at 0.

    See `mlpx.ops.adam_inplace`.

    Parameters
    ----------
    beta1, beta2 : float
        Share of the past in m and in v, in [0, 1).
    eps : float
        In units of the gradient, above 0.
    """

    lr: float = 0.001
    _: KW_ONLY
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    n_states = 2
    op = ops.adam_inplace
    own = ("beta1", "beta2", "eps")

    def options(self, step: int) -> dict[str, Any]:
        """Return beta1, beta2, eps and the step."""
        return super().options(step) | {"step": step}


@dataclass(kw_only=True, repr=False)
class AdamW(Adam):
    """`Adam` with decoupled weight decay, 0.01 unless said otherwise. Source: Loshchilov and Hutter 2019."""

    weight_decay: float = 0.01


@dataclass(kw_only=True, repr=False)
class Rprop(Optimizer):
    """Rprop for full batches; see `mlpx.ops.rprop_inplace`. ``lr`` is the first step size of every weight.

    Parameters
    ----------
    shrink, grow : float
        Factors of a weight's step size where its gradient changed its sign, in (0, 1), and where not, at least 1.
    smallest, largest : float
        Limits of step sizes, in units of the weights: at least 0, and above the smallest.
    """

    shrink: float = 0.5
    grow: float = 1.2
    smallest: float = 1e-6
    largest: float = 50.0
    n_states = 2
    op = ops.rprop_inplace
    own = ("shrink", "grow", "smallest", "largest")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.shrink = check_number("shrink", self.shrink, 0.0, 1.0, open_low=True, open_high=True)
        self.grow = check_number("grow", self.grow, 1.0)
        self.smallest = check_number("smallest", self.smallest, 0.0)
        self.largest = check_number("largest", self.largest, self.smallest, open_low=True)

    def limits(self) -> dict[str, float]:
        """Return nothing: its options have limits of their own."""
        return {}

    def first_state(self, net: Network) -> list[Array]:
        """Return the state; every step size begins at lr."""
        last, size = super().first_state(net)
        size += self.lr
        return [last, size]


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": Adagrad,
    "rmsprop": RMSprop,
    "adadelta": Adadelta,
    "adam": Adam,
    "adamw": AdamW,
    "rprop": Rprop,
}


def find(optimizer: str | Optimizer) -> Optimizer:
    """Return the optimiser of a name with its defaults, or the `Optimizer` itself."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    return OPTIMIZERS[check_name("optimizer", optimizer, OPTIMIZERS)]()
