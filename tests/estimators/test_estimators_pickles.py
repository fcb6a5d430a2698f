"""Pickles of estimators from one version to another, and the curves of many calls."""

import copy
import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted

import mlpx
from mlpx import MLPClassifier, MLPRegressor
from mlpx.estimators import weights


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_of_the_same_version_say_nothing(way) -> None:
    model = fitted()
    again = way(model)
    assert vars(again).keys() == vars(model).keys()
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert way(MLPRegressor()).get_params() == MLPRegressor().get_params()


def test_another_version_is_told(monkeypatch) -> None:
    model = fitted()
    monkeypatch.setattr(weights, "__version__", "0.0.7")
    data = pickle.dumps(model)
    monkeypatch.undo()
    with pytest.warns(
        UserWarning, match=rf"^MLPClassifier: was pickled by mlpx 0\.0\.7, and this is {mlpx.__version__}"
    ):
        again = pickle.loads(data)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(pickle.dumps(again))  # it is of this version now


@pytest.mark.parametrize(("kind", "y"), [(MLPClassifier, Y), (MLPRegressor, NUMBERS)])
def test_a_state_without_what_is_new_since(kind, y) -> None:
    """Neither the parameters nor the objects that hold what was fitted: those that are there say it all."""
    model = fitted(kind, y)
    state = model.__getstate__()
    for name in ("device", "clip_norm", "scoring", "_fitted", "_training", "_mlpx_version"):
        del state[name]
    again = kind.__new__(kind)
    again.__setstate__(state)
    assert again.get_params() == model.get_params()
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    again.partial_fit(X, y)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        again.fit(X, y)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_a_call_takes_no_longer_the_more_came_before() -> None:
    """It copied all losses so far."""
    model = MLPClassifier((4,), random_state=0).partial_fit(X[:20], Y[:20], classes=[0, 1, 2])
    model._watch.losses.extend([1.0] * 200_000)
    with pytest.raises(ValueError, match="finite"), np.errstate(all="ignore"):
        model.partial_fit(1e300 * X[:20], Y[:20])
    model.partial_fit(X[:20], Y[:20])
    tracemalloc.start()
    try:
        model.partial_fit(X[:20], Y[:20])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200_000
    assert len(model.loss_curve_) == 200_003
