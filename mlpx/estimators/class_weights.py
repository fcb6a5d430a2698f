"""Weights of classes: what the parameter may be, and the weight that it gives each row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.class_weight import compute_sample_weight

from mlpx.errors import check_number, warn
from mlpx.typing import Array

LABEL = (0, 1)
"""The classes of each label of an indicator matrix."""


def check_class_weight(given: Any, classes: Array, *, several: bool) -> None:
    """Raise for a parameter that cannot weigh these classes, or with ``several`` labels; warn of keys that are none.

    Raises
    ------
    TypeError, ValueError
    """
    if given is None or isinstance(given, str):
        return
    if several and (not isinstance(given, list) or len(given) != classes.size):
        came = f"a list of {len(given)}" if isinstance(given, list) else "a dict"
        raise ValueError(
            f"class_weight: expected for several labels a list of {classes.size} dicts, one for each with the weights "
            f"of 0 and 1, or 'balanced'; got {came}."
        )
    if not several and isinstance(given, list):
        raise ValueError("class_weight: a list is for several labels; expected a dict or 'balanced'.")
    for number, each in enumerate(given if several else [given]):
        name, known = (f"class_weight[{number}]", LABEL) if several else ("class_weight", classes.tolist())
        if not isinstance(each, dict):
            raise TypeError(f"{name}: expected a dict of the weights of 0 and 1, got {type(each).__name__}.")
        for key, value in each.items():
            check_number(f"{name}[{key!r}]", value, 0.0)
        strangers = [key for key in each if key not in known]
        if strangers:
            warn(
                f"{name}: has keys that are no class: {', '.join(map(repr, strangers))}. The classes are "
                f"{', '.join(map(repr, known))}; those without a key weigh 1."
            )


def weights_of_rows(given: Any, y: Any, numbers: Array | None, classes: Array) -> Array:
    """Return the weight of each row (n,) that a checked parameter gives; of several labels their product.

    Parameters
    ----------
    given : dict, list of dict or "balanced"
    y : array (n,), or indicator matrix (n, n_labels)
    numbers : array (n,), int, optional
        The place of each row's class among ``classes``; None for an indicator matrix.
    classes : array
    """
    if isinstance(given, str):
        return np.asarray(compute_sample_weight(given, y))
    if numbers is not None:
        return _table(given, classes.tolist())[numbers]
    indicators = y.toarray() if issparse(y) else np.asarray(y)
    tables = np.array([_table(each, LABEL) for each in given])
    return np.where(indicators != 0, tables[:, 1], tables[:, 0]).prod(axis=1)


def _table(weights: dict[Any, float], classes: Sequence[Any]) -> Array:
    return np.array([float(weights.get(each, 1.0)) for each in classes])
