"""What held-out rows score: by the estimator's own measure, their loss, or a scorer of scikit-learn's manner."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import logit
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.utils._param_validation import StrOptions

from mlpx.errors import check_number
from mlpx.estimators.devices import on_host
from mlpx.estimators.rows import Rows
from mlpx.typing import Array

Scorer = Callable[..., float]
"""``scorer(estimator, X, y[, sample_weight]) -> score``, of which more is better."""
SCORING = [StrOptions({"loss", *get_scorer_names()}), callable, None]
"""What the parameter ``scoring`` may be."""


def score_of(estimator: Any, rows: Rows, loss: float, output: Array) -> float:
    """Return the score of held-out rows, of which more is better; NaN where outputs are not finite.

    Parameters
    ----------
    estimator : BaseMLP
        In the middle of a fit.
    rows : Rows
    loss : float
        Of these rows, without the penalty.
    output : array (n, n_outputs)
        The network's for these rows, on the host.

    Raises
    ------
    TypeError, ValueError
        For a scorer that fails, or whose score is no number.
    """
    scoring = estimator.scoring
    if not np.isfinite(output).all():
        return math.nan
    if scoring is None:
        return float(estimator._score_of(rows, output))
    if scoring == "loss":
        return -loss
    named = isinstance(scoring, str)
    scorer: Scorer = get_scorer(scoring) if named else scoring
    weighs = rows.weight is not None and "sample_weight" in inspect.signature(scorer).parameters
    weights = {"sample_weight": on_host(rows.weight)} if weighs else {}
    try:
        score = scorer(_as_predicted(estimator, rows, output), rows.x, rows.y, **weights)
    except (AttributeError, TypeError, ValueError) as error:
        if not named:
            raise
        raise ValueError(f"scoring: {scoring!r} cannot score the held-out rows: {error}") from error
    check_number("scoring: the score of the held-out rows", score)
    return float(score)


def _as_predicted(estimator: Any, rows: Rows, output: Array) -> Any:
    """Return the estimator for a scorer: what it predicts of the held-out rows is known already."""
    seen = estimator._apart()
    vars(seen).pop("feature_names_in_", None)  # which the rows, an array, no longer have

    def known(X: Any, mask: Any = None, *, logits: bool = False) -> Array:
        if X is not rows.x or mask is not None:
            found: Array = type(estimator)._output(seen, X, mask, logits=logits)
            return found
        if not logits or estimator.out_activation_ == "identity":
            return output
        with np.errstate(divide="ignore"):
            return np.log(output) if estimator.out_activation_ == "softmax" else logit(output)

    seen._output = known
    return seen
