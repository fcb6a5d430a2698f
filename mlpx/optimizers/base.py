"""What all mini-batch optimisers share: options, state, learning rates of steps, clipping."""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mlpx import schedules
from mlpx.backend import dtype_name, to_numpy
from mlpx.errors import check_number, is_real, shown, warn
from mlpx.network import Network, divergence
from mlpx.network.identity import Identity
from mlpx.representation import short_repr
from mlpx.tunable import Tunable
from mlpx.typing import Array


def _none_taken() -> Array:
    return np.zeros(1, np.int64)


def _writable(state: Array, net: Network) -> Array:
    """Return an array of a state where the network is; a copy if it may not be written to, as one of a mapped file."""
    here = net.backend.asarray(state)
    if isinstance(here, np.ndarray) and not (here.flags.writeable and here.flags.c_contiguous):
        return here.copy()
    return here


@dataclass(repr=False)
class Optimizer(Tunable):
    """What all optimisers share: the learning rate and its schedule, clipping, penalties, and the state.

    An optimiser object keeps its state from one fit of a network to the next fit of the same network, and so do copies
    and pickles made of both at once, ``copy.deepcopy((net, optimizer))``; for what was copied or saved apart see
    `adopt`. A name ("adam") starts afresh each time, and so does every optimiser after a divergence.

    Parameters
    ----------
    lr : float
        Learning rate, above 0.
    schedule : str or Schedule
        Multiplies ``lr``; see `mlpx.schedules`.
    clip_norm : float, optional
        Scale the gradient so that its Euclidean norm over all parameters, those of frozen layers included, is at most
        this.
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
    _count: tuple[int, Array] = field(default=(0, _none_taken()), init=False, repr=False, compare=False)
    _owner: Identity | None = field(default=None, init=False, repr=False, compare=False)

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
        self._count = steps, _none_taken()

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
        eps = getattr(self, "eps", None) if "eps" in self.own else None
        if eps is not None and np.dtype(net.dtype).type(eps) == 0.0:
            raise ValueError(f"eps: {eps:g} is 0 in {net.dtype}, and 0 / 0 is NaN; expected 1e-38 or more there.")
        if self._owner is net.identity:
            self.state = [_writable(each, net) for each in self.state]
            self._belong_to(net)
            return
        if self.steps and self._owner is not None and self._owner.copied:
            warn(
                f"optimizer: this {type(self).__name__} was copied without its network, so the state of its "
                f"{self.steps} steps is dropped. Copy or pickle both at once, as in copy.deepcopy((net, optimizer)), "
                "or call optimizer.adopt(net) before the fit; for a fresh start call optimizer.forget()."
            )
        self.state, self.steps = self.first_state(net), 0
        self._belong_to(net)

    def first_state(self, net: Network) -> list[Array]:
        """Return the state of before the first step: arrays that lie as the network's parameters do."""
        return [net.backend.zeros(net.parameters.shape[0], net.dtype) for _ in range(self.n_states)]

    def adopt(self, net: Network) -> None:
        """Let the state belong to a network's weights, as where both were copied or saved apart.

        Raises
        ------
        ValueError
            If it is that of a network of another size or dtype.
        """
        wanted = net.parameters.shape
        for each in self.state:
            if tuple(each.shape) != tuple(wanted) or dtype_name(each) != net.dtype:
                raise ValueError(
                    f"net: has {wanted[0]} parameters of {net.dtype}; the optimizer's state is of {each.shape[0]} of "
                    f"{dtype_name(each)}. Call optimizer.forget() for a fresh start."
                )
        self.state = [_writable(each, net) for each in self.state]
        self._belong_to(net)

    def _belong_to(self, net: Network) -> None:
        self._owner = net.identity
        self._owner.copied = False  # from here on another network is meant, where one is given

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickles and deep copies hold: arrays on the host, and a count of its own."""
        return vars(self) | {"state": [to_numpy(each) for each in self.state], "_count": (self.steps, _none_taken())}

    def __copy__(self) -> Self:
        """Return an optimiser with the same arrays, where they are, and a count of its own."""
        made = type(self).__new__(type(self))
        vars(made).update(vars(self) | {"_count": (self.steps, _none_taken())})
        return made

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
