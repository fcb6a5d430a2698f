"""Learning-rate schedules: the factor that multiplies the optimiser's learning rate at each step."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from mlpx.errors import check_count, check_name, check_number
from mlpx.representation import short_repr
from mlpx.tunable import Tunable


class Schedule(Tunable, ABC):
    """A schedule. ``factor`` is asked before each step; ``observe`` is told the monitored loss after each epoch."""

    def __repr__(self) -> str:
        return short_repr(self)

    @abstractmethod
    def factor(self, step: int, n_steps: int, epoch: int) -> float:
        """Return the factor for ``step`` (from 0) of ``n_steps``, which lies in ``epoch`` (from 0)."""

    def observe(self, loss: float) -> None:
        """Take in the loss of an epoch: the validation loss where there is one, else the training loss."""

    def start(self) -> None:
        """Forget what was observed; called at the start of a fit."""

    def ends(self) -> bool:
        """Return whether it is laid out over ``n_steps``, after which the factor stays."""
        return False


def _power(base: float, exponent: float) -> float:
    """Return a power of a number above 0; one too large for a float is infinite."""
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return math.inf


@dataclass(repr=False)
class Constant(Schedule):
    """1 throughout."""

    def factor(self, step: int, n_steps: int, epoch: int) -> float:
        """Return 1."""
        return 1.0


@dataclass(repr=False)
class Step(Schedule):
    """``gamma ** (epoch // every)``: a fixed cut every so many epochs.

    Parameters
    ----------
    every : int
        Epochs between cuts, at least 1.
    gamma : float
        Factor of a cut, above 0.
    """

    every: int = 10
    gamma: float = 0.1

    def __post_init__(self) -> None:
        self.every = check_count("every", self.every)
        self.gamma = check_number("gamma", self.gamma, 0.0, open_low=True)

    def factor(self, step: int, n_steps: int, epoch: int) -> float:
        """Return the factor of the epoch."""
        return _power(self.gamma, epoch // self.every)


@dataclass(repr=False)
class Exponential(Schedule):
    """``gamma ** epoch``.

    Parameters
    ----------
    gamma : float
        Factor from epoch to epoch, above 0.
    """

    gamma: float = 0.95

    def __post_init__(self) -> None:
        self.gamma = check_number("gamma", self.gamma, 0.0, open_low=True)

    def factor(self, step: int, n_steps: int, epoch: int) -> float:
        """Return the factor of the epoch."""
        return _power(self.gamma, epoch)


@dataclass(repr=False)
class Cosine(Schedule):
    """Half a cosine from 1 to ``final`` over the whole fit. Source: Loshchilov and Hutter 2017 (without restarts).

    Parameters
    ----------
    final : float
        The factor at the end, at least 0.
    """

    final: float = 0.0

    def __post_init__(self) -> None:
        self.final = check_number("final", self.final, 0.0)

    def ends(self) -> bool:
        """Return True."""
        return True

    def factor(self, step: int, n_steps: int, epoch: int) -> float:
        """Return the factor of the step."""
        t = min(step / max(n_steps, 1), 1.0)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * t))


@dataclass(repr=False)
class OneCycle(Schedule):
    """Up from ``start_factor`` to 1 over the first ``rise`` of the steps, then down to ``final``; both half cosines.

    Source: Smith and Topin 2018, "Super-convergence".

    Parameters
    ----------
    rise : float
        In (0, 1).
    start_factor, final : float
        The factors at the start and at the end, at least 0.
    """

    rise: float = 0.3
    start_factor: float = 0.04
    final: float = 4e-6

    def __post_init__(self) -> None:
        self.rise = check_number("rise", self.rise, 0.0, 1.0, open_low=True, open_high=True)
        self.start_factor = check_number("start_factor", self.start_factor, 0.0)
        self.final = check_number("final", self.final, 0.0)

    def ends(self) -> bool:
        """Return True."""
        return True

    def factor(self, step: int, n_steps: int, epoch: int) -> float:
        """Return the factor of the step."""
        t = min(step / max(n_steps, 1), 1.0)
        if t < self.rise:
            low, share = self.start_factor, 1.0 - t / self.rise
        else:
            low, share = self.final, (t - self.rise) / (1.0 - self.rise)
        return low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * share))


@dataclass(repr=False)
class InverseScaling(Schedule):
    """``1 / (step + 1) ** power``.

    Parameters
    ----------
    power : float
        At least 0.
    """

    power: float = 0.5

    def __post_init__(self) -> None:
        self.power = check_number("power", self.power, 0.0)

    def factor(self, step: int, n_steps: int, epoch: int) -> float:
        """Return the factor of the step."""
        return _power(step + 1, -self.power)


@dataclass(repr=False)
class ReduceOnPlateau(Schedule):
    """Multiply by ``gamma`` whenever the monitored loss has not improved by ``min_delta`` for ``patience`` epochs.

    Parameters
    ----------
    gamma : float
        In (0, 1).
    patience : int
        At least 1.
    min_delta : float
        In units of the loss, at least 0; a lesser improvement is none.
    smallest : float
        The factor never falls below it; at least 0.
    """

    gamma: float = 0.5
    patience: int = 5
    min_delta: float = 1e-4
    smallest: float = 1e-6
    _factor: float = field(default=1.0, init=False, repr=False)
    _best: float = field(default=math.inf, init=False, repr=False)
    _waited: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self.gamma = check_number("gamma", self.gamma, 0.0, 1.0, open_low=True, open_high=True)
        self.patience = check_count("patience", self.patience)
        self.min_delta = check_number("min_delta", self.min_delta, 0.0)
        self.smallest = check_number("smallest", self.smallest, 0.0)

    def start(self) -> None:
        """Begin at factor 1."""
        self._factor, self._best, self._waited = 1.0, math.inf, 0

    def observe(self, loss: float) -> None:
        """Count epochs without improvement; cut the factor when patience ends."""
        if loss < self._best - self.min_delta:
            self._best, self._waited = loss, 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            self._factor, self._waited = max(self._factor * self.gamma, self.smallest), 0

    def factor(self, step: int, n_steps: int, epoch: int) -> float:
        """Return the factor reached so far."""
        return self._factor


@dataclass(repr=False)
class WarmUp(Schedule):
    """Rise linearly to 1 over the first ``steps`` steps, then follow another schedule (or its name) for the rest.

    Parameters
    ----------
    steps : int
        At least 1.
    then : Schedule or str
        It sees the steps that are left as the whole fit.
    """

    steps: int = 100
    then: Schedule = field(default_factory=Constant)

    def __post_init__(self) -> None:
        self.steps = check_count("steps", self.steps)
        self.then = find(self.then)

    def start(self) -> None:
        """Start the schedule that follows."""
        self.then.start()

    def observe(self, loss: float) -> None:
        """Pass the loss on."""
        self.then.observe(loss)

    def ends(self) -> bool:
        """Return whether the schedule that follows does."""
        return self.then.ends()

    def factor(self, step: int, n_steps: int, epoch: int) -> float:
        """Return the factor of the step."""
        if step < self.steps:
            return (step + 1) / self.steps
        return self.then.factor(step - self.steps, max(n_steps - self.steps, 1), epoch)


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "step": Step,
    "exponential": Exponential,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "inverse_scaling": InverseScaling,
    "reduce_on_plateau": ReduceOnPlateau,
    "warm_up": WarmUp,
}


def find(schedule: str | Schedule) -> Schedule:
    """Return the schedule of a name with its defaults, or the `Schedule` itself."""
    if isinstance(schedule, Schedule):
        return schedule
    return SCHEDULES[check_name("schedule", schedule, SCHEDULES)]()
