"""What training remembers from one call to the next: the optimiser, its progress, the watch, a network of its own."""

import copy
from dataclasses import dataclass, field, replace
from typing import Any

from mlpx.backend import NUMPY, backend_name, to_numpy
from mlpx.estimators.devices import copied
from mlpx.estimators.fitted import FittedNetwork
from mlpx.estimators.kept import Kept
from mlpx.estimators.stopping import Watch
from mlpx.optimizers import Optimizer
from mlpx.schedules import Constant


@dataclass(eq=False)
class TrainingState:
    """The state of a training; each call makes one, and what the calls before left stays until it has succeeded.

    Attributes
    ----------
    watch : Watch
    optimizer : Optimizer, optional
        None before the first fit by a solver of mini-batches.
    options : tuple, optional
        The estimator's parameters that the optimiser was made with.
    progress : (int, int)
        Steps and epochs that the optimiser's schedule has seen.
    own : FittedNetwork, optional
        The network that calls of ``partial_fit`` train, whose buffers and kernels are laid out once; nobody else sees
        it: predictions are made from copies.
    kept : Kept, optional
        Its steps.
    checkpoints : FitCheckpoints, optional
        Those of the fit under way.
    """

    watch: Watch = field(default_factory=Watch)
    optimizer: Optimizer | None = None
    progress: tuple[int, int] = (0, 0)
    options: tuple[Any, ...] | None = None
    own: FittedNetwork | None = None
    kept: Kept | None = None
    checkpoints: Any = None

    def resumed(self) -> "TrainingState":
        """Return a state that goes on from this one, with the same optimiser, network and curves."""
        return replace(self, watch=replace(self.watch))

    def guarded(self) -> "Guard":
        """Return what can undo the changes that further training makes to what this state refers to."""
        return Guard(self)

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles hold: on the host, without a network."""
        optimizer = None if self.optimizer is None else _on_host(self.optimizer)
        if optimizer is not None:
            optimizer._owner = None  # the weights, which the estimator's attributes hold
        return vars(self) | {
            "watch": _on_host(self.watch),
            "optimizer": optimizer,
            "own": None,
            "kept": None,
            "checkpoints": None,
        }


class Guard:
    """Copies of what training changes in place: the optimiser, and the lengths of the curves."""

    def __init__(self, state: TrainingState) -> None:
        self.state, self.lengths = state, [len(curve) for curve in state.watch.curves()]
        self.optimizer = copy.copy(state.optimizer)
        if self.optimizer is not None:
            self.optimizer.state = [copied(each) for each in self.optimizer.state]
            if not isinstance(self.optimizer.schedule, Constant):
                self.optimizer.schedule = copy.deepcopy(self.optimizer.schedule)

    def undo(self) -> None:
        """Leave the state as it was."""
        self.state.optimizer, self.state.kept = self.optimizer, None
        for curve, length in zip(self.state.watch.curves(), self.lengths, strict=True):
            del curve[length:]


def _on_host(value: Any) -> Any:
    """Return a copy of an optimiser or a watch with its arrays on the host."""
    made = copy.copy(value)
    vars(made).update({name: _arrays_on_host(each) for name, each in vars(value).items()})
    return made


def _arrays_on_host(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_arrays_on_host(each) for each in value)
    return to_numpy(value) if backend_name(value) not in (None, NUMPY.name) else value
