"""What an estimator was before a fit, so that one that fails leaves it so."""

import copy
from typing import Any

from mlpx.backend import backend_name
from mlpx.estimators.devices import copied
from mlpx.schedules import Schedule


class Snapshot:
    """The attributes of an estimator, with copies of what a fit changes in place.

    Parameters
    ----------
    attributes : dict
        The estimator's ``__dict__``.
    """

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.attributes = dict(attributes)
        self.inside: list[tuple[Any, dict[str, Any]]] = []
        self.buffers = None
        if "coefs_" not in attributes:  # a fit changes nothing that was there before
            return
        self.attributes.update((name, list(v)) for name, v in attributes.items() if isinstance(v, list))
        for name in ("_optimizer", "_watch"):
            if name in attributes:
                state = {k: _copies(v) for k, v in vars(attributes[name]).items()}
                self.inside.append((attributes[name], state))
        net = attributes.get("_net")
        self.buffers = None if net is None else (copied(net.parameters), copied(net.buffers.statistics))

    def restore(self, attributes: dict[str, Any]) -> None:
        """Put everything back."""
        attributes.clear()
        attributes.update(self.attributes)
        for each, state in self.inside:
            vars(each).update(state)
        if self.buffers is not None:
            buffers = attributes["_net"].buffers
            buffers.parameters[...], buffers.statistics[...] = self.buffers


def _copies(value: Any) -> Any:
    if isinstance(value, Schedule):
        return copy.deepcopy(value)
    if not isinstance(value, list):
        return value
    if value and isinstance(value[0], float):  # a curve, which may have grown long
        return list(value)
    return [item if backend_name(item) is None else copied(item) for item in value]
