"""What constructor parameters may be, as data that scikit-learn's own validation reads."""

import inspect
from functools import cache, lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, Options, StrOptions, make_constraint

from mlpx.estimators.scoring import SCORING
from mlpx.estimators.solvers import KINDS, NAMES, RATES
from mlpx.ops._activation import TABLE
from mlpx.schedules import Schedule

ACTIVATIONS = {name: name for name in TABLE} | {"logistic": "sigmoid"}
"""Name of a hidden activation to the library's; scikit-learn calls the sigmoid logistic."""


class Range(Interval):  # type: ignore[misc]
    """An interval of plain numbers: no fractions, no spans of time, no integers that are no float."""

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether it holds a value; scikit-learn's own raises for numbers that are not plain."""
        if not isinstance(val, self.type):
            return False
        try:
            float(val)
            return val in self
        except (TypeError, ValueError, OverflowError):
            return False


AT_LEAST_ONE = Range(Integral, 1, None, closed="left")
AT_LEAST_ZERO = Range(Real, 0, None, closed="left")
ABOVE_ZERO = Range(Real, 0, None, closed="neither")
ZERO_TO_ONE = Range(Real, 0, 1, closed="left")

CONSTRAINTS: dict[str, Any] = {
    "hidden_layer_sizes": ["array-like", AT_LEAST_ONE],
    "activation": [StrOptions(set(ACTIVATIONS)), list, tuple],
    "solver": [StrOptions(NAMES), *KINDS],
    "alpha": [AT_LEAST_ZERO],
    "batch_size": [StrOptions({"auto"}), AT_LEAST_ONE],
    "learning_rate": [StrOptions(RATES), Schedule],
    "learning_rate_init": [ABOVE_ZERO],
    "power_t": [AT_LEAST_ZERO],
    "max_iter": [AT_LEAST_ONE],
    "shuffle": ["boolean"],
    "random_state": [Range(Integral, 0, 2**32 - 1, closed="both"), np.random.RandomState, None],
    "tol": [AT_LEAST_ZERO],
    "verbose": [Range(Integral, 0, None, closed="left"), "boolean"],
    "warm_start": ["boolean"],
    "momentum": [Range(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [ZERO_TO_ONE],
    "beta_1": [ZERO_TO_ONE],
    "beta_2": [ZERO_TO_ONE],
    "epsilon": [ABOVE_ZERO],
    "n_iter_no_change": [AT_LEAST_ONE, Options(Real, {np.inf})],
    "max_fun": [AT_LEAST_ONE],
    "scoring": SCORING,
    "warm_start_optimizer": ["boolean"],
    "callbacks": [list, tuple, None],
    "progress_bar": ["boolean", StrOptions({"auto"})],
    "device": [StrOptions({"auto", "cpu", "cuda"})],
    "dtype": [StrOptions({"auto", "float32", "float64"})],
    "dropout": [ZERO_TO_ONE],
    "batch_norm": ["boolean"],
    "layer_norm": ["boolean"],
    "clip_norm": [ABOVE_ZERO, None],
    "n_threads": [AT_LEAST_ONE, None],
}


@cache
def _defaults(kind: Any) -> list[tuple[str, Any]]:
    """Return name and default of each parameter of a class that has constraints."""
    parameters = inspect.signature(kind.__init__).parameters
    return [(name, p.default) for name, p in parameters.items() if name in kind._parameter_constraints]


@cache
def _constraints(kind: Any, name: str) -> list[Any]:
    """Return the constraints of a class's parameter, which scikit-learn makes anew for every fit."""
    return [make_constraint(each) for each in kind._parameter_constraints[name]]


def _satisfies(kind: Any, name: str, value: Any) -> bool:
    return any(constraint.is_satisfied_by(value) for constraint in _constraints(kind, name))


_remembered = lru_cache(maxsize=1024, typed=True)(_satisfies)
SIMPLE = (int, float, str, bool, tuple)
"""Types of values that are worth remembering: the next fit will most likely have them again."""


def satisfied(estimator: Any) -> bool:
    """Return whether every parameter of an estimator is its default or satisfies one of its constraints."""
    kind = estimator.__class__
    for name, default in _defaults(kind):
        value = getattr(estimator, name)
        if value is default:
            continue
        if type(value) is tuple:
            value = ()  # none of the constraints above looks into a tuple
        if not (_remembered if type(value) in SIMPLE else _satisfies)(kind, name, value):
            return False
    return True
