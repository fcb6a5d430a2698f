"""The learning rates of the estimators' steps: schedules, and options of the solver, from call to call."""

import copy
import pickle

import numpy as np
import pytest
from estimators_kit import X, Y, fitted
from sklearn.model_selection import GridSearchCV

from mlpx import MLPClassifier, optimizers, schedules


def rates(model_or_params, calls=1):
    """Return the learning rate of each step."""
    from mlpx.estimators import epochs, kept

    seen = []

    class Spying(epochs.Steps):
        def epochs(self, orders, lr, after):
            seen.extend(np.broadcast_to(lr, len(orders) * -(-orders[0].size // self.batch_size)))
            return super().epochs(orders, lr, after)

    with pytest.MonkeyPatch.context() as patch:
        for module in (epochs, kept):
            patch.setattr(module, "Steps", Spying)
        for _ in range(calls):
            model_or_params()
    return np.array(seen)


BATCHED = {"batch_size": 50, "max_iter": 4}


def test_schedules_by_name_and_as_objects() -> None:
    expected = 0.01 * 0.5 * (1 + np.cos(np.pi * np.arange(12) / 12))
    for params in (
        {"learning_rate": "cosine"},
        {"learning_rate": schedules.Cosine()},
        {"solver": optimizers.Adam(lr=0.01, schedule="cosine")},
        {"learning_rate": "cosine", "solver": optimizers.Adam(lr=0.01)},
        {"learning_rate": "cosine", "solver": "sgd"},
    ):
        np.testing.assert_allclose(rates(lambda p=params: fitted(**p, **BATCHED)), expected, rtol=1e-12)
    stepped = rates(lambda: fitted(learning_rate=schedules.Step(every=2, gamma=0.1), **BATCHED))
    np.testing.assert_allclose(stepped, np.repeat([0.01, 0.001], 6))


def test_a_schedule_goes_on_from_call_to_call() -> None:
    model = MLPClassifier(learning_rate="cosine", learning_rate_init=0.01, random_state=0, **BATCHED)
    first = rates(lambda: model.partial_fit(X, Y, classes=[0, 1, 2]), calls=4)
    np.testing.assert_allclose(first, 0.01 * 0.5 * (1 + np.cos(np.pi * np.arange(12) / 12)), rtol=1e-12)


def test_a_schedule_that_looks_at_the_loss() -> None:
    plateau = schedules.ReduceOnPlateau(gamma=0.5, patience=1, min_delta=100.0)
    expected = 0.01 * np.repeat([1.0, 1.0, 0.5, 0.25], 3)
    for _ in range(2):  # a fit changes nothing in the object
        np.testing.assert_allclose(rates(lambda: fitted(learning_rate=plateau, **BATCHED)), expected)
    model = fitted(learning_rate=plateau, max_iter=2, batch_size=50)
    factor = model._training.optimizer.schedule.factor(0, 1, 0)

    def fail(estimator):
        raise RuntimeError("after the schedule has seen the loss")

    with pytest.raises(RuntimeError, match="has seen"):
        model.set_params(callbacks=[fail]).partial_fit(X, Y)
    assert model._training.optimizer.schedule.factor(0, 1, 0) == factor


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("cosine", r"spans max_iter=4 epochs or calls, and this is number 5: the learning rate is 0\."),
        ("one_cycle", "spans max_iter=4"),
        (schedules.WarmUp(3, "cosine"), "spans max_iter=4"),
        (schedules.Step(every=1, gamma=1e-2), r"has come to its end in 4 epochs or calls.* is 1e-10"),
    ],
)
@pytest.mark.parametrize("way", ["calls", "fit", "loaded"])
def test_calls_after_the_end_of_a_schedule_tell(schedule, words, way) -> None:
    params = {"learning_rate": schedule, "learning_rate_init": 0.01, "random_state": 0, **BATCHED}
    model = MLPClassifier(**params)
    if way == "fit":
        model = fitted(**params)
    else:
        for _ in range(4):
            model.partial_fit(X, Y, classes=[0, 1, 2])
    if way == "loaded":
        model = pickle.loads(pickle.dumps(model))
    with pytest.warns(UserWarning, match=f"^learning_rate: its schedule {words}") as told:
        model.partial_fit(X, Y)
    assert [each.filename for each in told] == [__file__]
    before = model.coefs_[0].copy()
    model.set_params(learning_rate="constant").partial_fit(X, Y)
    assert np.abs(model.coefs_[0] - before).max() > 1e-3


@pytest.mark.parametrize(
    ("params", "change"),
    [
        ({}, {"learning_rate_init": 0.5}),
        ({"solver": "sgd"}, {"momentum": 0.1}),
        ({}, {"beta_1": 0.1, "epsilon": 0.1}),
        ({}, {"clip_norm": 1e-3}),
        ({"solver": optimizers.RMSprop(lr=0.01)}, {"solver__lr": 0.5}),
        ({}, {"learning_rate": "cosine"}),
    ],
)
def test_options_of_the_solver_act_at_the_next_call_and_its_state_stays(params, change) -> None:
    params = {"random_state": 0, "batch_size": 50, "shuffle": False, "learning_rate_init": 0.01} | params
    model = MLPClassifier(**params).partial_fit(X, Y, classes=[0, 1, 2]).partial_fit(X, Y)
    steps = model._training.optimizer.steps
    same = copy.deepcopy(model).partial_fit(X, Y)
    model.set_params(**change)
    by_hand = copy.deepcopy(model)
    by_hand._training.optimizer = None
    model.partial_fit(X, Y)
    assert model._training.optimizer.steps == steps + 3
    assert not np.array_equal(model.coefs_[0], same.coefs_[0])
    fresh = by_hand.partial_fit(X, Y)
    assert not np.array_equal(model.coefs_[0], fresh.coefs_[0])  # which began without means
    model.set_params(solver="adagrad").partial_fit(X, Y)
    assert model._training.optimizer.steps == 3


def test_a_grid_reaches_the_options_of_objects() -> None:
    model = MLPClassifier((8,), solver=optimizers.Adam(schedule="cosine"), max_iter=20, tol=9.0, random_state=0)
    grid = {"solver__lr": [1e-9, 0.05], "solver__schedule__final": [0.0, 1.0]}
    search = GridSearchCV(model, grid, cv=2).fit(X, Y)
    assert search.best_params_["solver__lr"] == 0.05
    assert search.best_estimator_.solver.schedule.final == search.best_params_["solver__schedule__final"]
    assert model.solver == optimizers.Adam(schedule="cosine")


def test_the_rate_that_adaptive_has_reached_stays() -> None:
    model = MLPClassifier(
        solver="sgd", learning_rate="adaptive", tol=10.0, n_iter_no_change=1, random_state=0, learning_rate_init=0.1
    )
    for _ in range(6):
        model.partial_fit(X, Y, classes=[0, 1, 2])
    assert model._training.optimizer.lr < 0.1
    assert model.set_params(learning_rate_init=0.3).partial_fit(X, Y)._training.optimizer.lr == 0.3 / 5
