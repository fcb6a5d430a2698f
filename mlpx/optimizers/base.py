"""What all mini-batch optimisers share: options, state, learning rates of steps, clipping."""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlpx import schedules
from mlpx.errors import check_number, is_real, shown
from mlpx.network import Network, divergence
from mlpx.representation import short_repr
from mlpx.typing import Array


@dataclass(repr=False)
class Optimizer:
    """What all optimisers share: the learning rate and its schedule, clipping, penalties, and the state.

    An optimiser object keeps its state from one fit of a network to the next fit of the same network; a name
    ("adam") starts afresh each time, and so does every optimiser after a divergence.

    Parameters
    ----------
    lr : float
        Learning rate, above 0.
    schedule : str or Schedule
        Multiplies ``lr``; see `mlpx.schedules`.
    clip_norm : float, optional
        Scale the gradient so that its Euclidean norm over all parameters is at most this.
    clip_value : float, optional
        Clip each element of the (scaled) gradient to plus or minus this.
    l1, l2 : float
        Add ``l1 sign(w) + l2 w`` to the gradient of weights; biases and norm gains are left alone.
    weight_decay : float
        Shrink weights by ``lr * weight_decay`` a step, apart from the gradient ("decoupled").
    """

    lr: float = 0.01
    _: KW_ONLY
    schedule: str | schedules.Schedule = "constant"
    clip_norm: float | None = None
    clip_value: float | None = None
    l1: float = 0.0
    l2: float = 0.0
    weight_decay: float = 0.0
    state: list[Array] = field(default_factory=list, init=False, repr=False, compare=False)
    _count: tuple[int, Array] = field(default=(0, np.zeros(1, np.int64)), init=False, repr=False, compare=False)
    _owner: Array = field(default=None, init=False, repr=False, compare=False)

    n_states: ClassVar[int] = 0
    op: ClassVar[Callable[..., None]]
    own: ClassVar[tuple[str, ...]] = ()
    """The fields that the op takes beyond the shared ones."""

    def __post_init__(self) -> None:
        if not hasattr(self, "op"):
            raise TypeError("Optimizer: is what all optimisers share; expected one of them, such as Adam().")
        self.lr = check_number("lr", self.lr, 0.0, open_low=True)
        for name in ("clip_norm", "clip_value"):
            if getattr(self, name) is not None:
                setattr(self, name, check_number(name, getattr(self, name), 0.0, open_low=True))
        for name in ("l1", "l2", "weight_decay"):
            setattr(self, name, check_number(name, getattr(self, name), 0.0))
        self.schedule = schedules.find(self.schedule)
        for name, high in self.limits().items():
            value = check_number(name, getattr(self, name), 0.0, high, open_low=name == "eps", open_high=high == 1.0)
            setattr(self, name, value)

    def __repr__(self) -> str:
        return short_repr(self)

    @property
    def steps(self) -> int:
        """How many steps the state has seen; what corrects for its start at 0 depends on it."""
        before, since = self._count
        return before + int(since[0])

    @steps.setter
    def steps(self, steps: int) -> None:
        """Set the number."""
        self._count = steps, np.zeros(1, np.int64)

    def counted_by(self, taken: Array) -> None:
        """Let an array (1,), now 0, tell how many steps are taken from here on.

        Compiled code writes to it, so that weights, state and count change together, whatever a signal's handler
        raises before Python goes on.
        """
        self._count = self.steps, taken

    def limits(self) -> dict[str, float]:
        """Return the upper limits of the options that are particular to the optimiser."""
        return {name: math.inf if name == "eps" else 1.0 for name in self.own}

    def options(self, step: int) -> dict[str, Any]:
        """Return the parameters that the op takes beyond the shared ones, at ``step`` (from 1)."""
        return {name: getattr(self, name) for name in self.own}

    def start(self, net: Network) -> None:
        """Make the state for a network, unless it already belongs to this network's weights."""
        self.schedule = schedules.find(self.schedule)  # it may have been set since
        if self._owner is not net.parameters:
            self.state = [net.backend.zeros(net.parameters.shape[0], net.dtype) for _ in range(self.n_states)]
            self.steps = 0
            self._owner = net.parameters

    def forget(self) -> None:
        """Start afresh at the next fit."""
        self.state, self.steps, self._owner = [], 0, None

    def rates(self, first: int, count: int, n_steps: int, epoch: int) -> NDArray[np.float64]:
        """Return the learning rates of ``count`` steps from step ``first`` of ``n_steps`` on."""
        schedule = schedules.find(self.schedule)
        if isinstance(schedule, schedules.Constant):
            return np.full(count, self.lr)
        factors = [schedule.factor(step, n_steps, epoch) for step in range(first, first + count)]
        if not all(map(is_real, factors)):
            other = next(factor for factor in factors if not is_real(factor))
            raise TypeError(f"schedule: {shown(schedule)} gives the factor {shown(other)}; expected a number.")
        with np.errstate(over="ignore", invalid="ignore"):
            rates = self.lr * np.array(factors, np.float64)
        if not np.isfinite(rates).all():
            place = int(np.argmin(np.isfinite(rates)))
            raise divergence.of_rate(self.lr, float(factors[place]), shown(schedule), first + place, epoch)
        return rates

    def scale(self, net: Network) -> float:
        """Return the factor that brings the gradient's norm down to ``clip_norm``."""
        if self.clip_norm is None or not net.gradient.shape[0]:
            return 1.0
        xp = net.backend.xp
        largest = float(xp.max(xp.abs(net.gradient)))
        if largest == 0.0:
            return 1.0
        # Divided by the largest element first, so that no square overflows.
        norm = largest * math.sqrt(float(xp.sum((net.gradient / largest) ** 2)))
        return min(1.0, self.clip_norm / norm)

    def update(self, net: Network, lr: float) -> None:
        """Take one step along the gradient in ``net.gradient``."""
        self.steps += 1
        options = self.options(self.steps)
        scale = self.scale(net)
        for start, stop, decay, factor in net.buffers.groups:
            if factor == 0.0:
                continue
            part = slice(start, stop)
            type(self).op(
                net.parameters[part],
                net.gradient[part],
                *(s[part] for s in self.state),
                lr=lr * factor,
                scale=scale,
                clip=math.inf if self.clip_value is None else self.clip_value,
                l1=self.l1 if decay else 0.0,
                l2=self.l2 if decay else 0.0,
                decay=self.weight_decay if decay else 0.0,
                **options,
            )
