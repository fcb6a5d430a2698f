"""Fits that blow up: on every path the weights that are left are finite, and the estimator is what it was."""

from typing import Any

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, fitted

from mlpx import MLPRegressor
from mlpx.errors import DivergenceError
from mlpx.estimators.steps import Steps, _LayerSteps
from mlpx.op import using_fused
from mlpx.optimizers import SGD


class Planted:
    """Squared error whose gradient, though not its value, is infinite at one call."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def __call__(self, y_true: Any, output: Any) -> Any:
        e = output - y_true
        self.calls += 1
        gradient = 2.0 * e / e.size
        if self.calls == self.at:
            gradient[0, 0] = np.inf
        return float((e * e).mean()), gradient


# Five epochs of three steps; with early stopping each epoch asks for the loss of the held-out rows too.
@pytest.mark.parametrize(("early", "at"), [(False, 1), (False, 3), (False, 15), (True, 2), (True, 3), (True, 19)])
def test_a_gradient_that_overflows_is_seen_before_its_update(early: bool, at: int) -> None:
    seen = []

    def watch(e: Any) -> None:
        seen.append(all(np.isfinite(w).all() for w in e.coefs_))

    params = {"batch_size": 50, "callbacks": [watch], "early_stopping": early, "solver": "sgd"}
    with pytest.raises(ValueError, match="non-finite"):
        fitted(MLPRegressor, NUMBERS, loss=Planted(at), **params)
    assert all(seen)
    model = fitted(MLPRegressor, NUMBERS, **params, warm_start=True)
    before = [w.copy() for w in model.coefs_]
    with pytest.raises(ValueError, match="non-finite"):
        model.set_params(loss=Planted(at)).fit(X, NUMBERS)
    for w, old in zip(model.coefs_, before, strict=True):
        np.testing.assert_array_equal(w, old)


def test_an_update_that_overflows_leaves_the_weights_of_before() -> None:
    net = fitted(MLPRegressor, NUMBERS, dtype="float32")._net
    before, sgd = net.parameters.copy(), SGD(lr=1.0)
    sgd.start(net)
    with using_fused("off"):
        steps = Steps(net, X.astype("f"), NUMBERS.astype("f"), None, 150, sgd, 0.0)
    assert isinstance(steps.taker, _LayerSteps)
    with pytest.raises(DivergenceError), np.errstate(all="ignore"):
        steps.epochs(np.arange(150)[None], 1e39, lambda taken: None)
    np.testing.assert_array_equal(net.parameters, before)
