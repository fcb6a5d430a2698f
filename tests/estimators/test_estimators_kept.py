"""Steps kept between calls of ``partial_fit``: nobody can tell but by the clock, and nobody's data are written to."""

import copy
import pickle

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y

from mlpx import MLPClassifier, MLPRegressor
from mlpx.estimators import kept
from mlpx.estimators.steps import Steps
from mlpx.ops.dispatch import using_fused

PARTS = [slice(0, 50), slice(50, 100), slice(100, 150), slice(20, 70)]
WEIGHT = np.linspace(0.0, 2.0, 150)


@pytest.fixture
def made(monkeypatch):
    """Return a list that gets an entry for each layout of steps."""
    seen, begin = [], Steps.__init__

    def counted(self, *args, **options):
        seen.append(args)
        begin(self, *args, **options)

    monkeypatch.setattr(Steps, "__init__", counted)
    return seen


def calls(kind, parts=PARTS, x=X, y=Y, weight=None, mask=None, **params):
    """Return an estimator after a call for each part of the rows."""
    model = kind(hidden_layer_sizes=(8,), random_state=0, batch_size=20, **params)
    for part in parts:
        more = {} if mask is None else {"mask": mask[part]}
        if kind is MLPClassifier:
            more["classes"] = [0, 1, 2]
        model.partial_fit(x[part], y[part], None if weight is None else weight[part], **more)
    return model


def same(model, twin) -> None:
    for a, b in zip([*model.coefs_, *model.intercepts_], [*twin.coefs_, *twin.intercepts_], strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.loss_curve_ == twin.loss_curve_


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (MLPClassifier, {}),
        (MLPClassifier, {"x": np.asfortranarray(X)}),
        (MLPClassifier, {"x": X.astype("f"), "weight": WEIGHT, "solver": "sgd"}),
        (MLPClassifier, {"mask": np.ones((150, 3), bool), "clip_norm": 0.1}),
        (MLPClassifier, {"batch_norm": True, "class_weight": {0: 2.0}}),
        (MLPRegressor, {"y": np.abs(NUMBERS), "loss": "poisson", "weight": WEIGHT}),
        (MLPRegressor, {"y": NUMBERS[:, 0], "alpha": 0.0}),
    ],
)
def test_calls_of_one_size_share_their_steps(kind, options, made, monkeypatch) -> None:
    model = calls(kind, **options)
    assert len(made) == 1
    monkeypatch.setattr(kept, "ELEMENTS", 0)
    same(model, calls(kind, **options))
    assert len(made) == 5


def test_nobody_s_rows_are_written_to() -> None:
    x, y, weight = X.copy(), NUMBERS.copy(), WEIGHT.copy()
    calls(MLPRegressor, x=x, y=y, weight=weight)
    for now, before in ((x, X), (y, NUMBERS), (weight, WEIGHT)):
        np.testing.assert_array_equal(now, before)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.set_params(alpha=1.0),
        lambda model: model.set_params(batch_size=10),
        lambda model: setattr(model, "coefs_", [0.5 * w for w in model.coefs_]),
        lambda model: model.fit(X[::2], Y[::2]),
        lambda model: None,
    ],
    ids=["alpha", "batch_size", "other weights", "a fit in between", "other sizes"],
)
def test_what_changes_in_between_is_seen(change, monkeypatch) -> None:
    found = []
    for elements in (kept.ELEMENTS, 0):
        monkeypatch.setattr(kept, "ELEMENTS", elements)
        model = calls(MLPClassifier, max_iter=2)
        change(model)
        model.partial_fit(X[:40], Y[:40]).partial_fit(X[40:80], Y[40:80])
        found.append(model)
    same(*found)


def test_a_fit_lets_go_of_the_rows_of_earlier_calls() -> None:
    model = calls(MLPClassifier, tol=1.0)
    assert model._training.kept is not None
    assert model.fit(X, Y)._training.kept is None


def test_a_call_that_fails_leaves_nothing_behind(monkeypatch) -> None:
    found = []
    for elements in (kept.ELEMENTS, 0):
        monkeypatch.setattr(kept, "ELEMENTS", elements)
        model = calls(MLPRegressor, y=NUMBERS, solver="sgd")
        with pytest.raises(ValueError, match="non-finite"):
            model.partial_fit(1e200 * X[:50], NUMBERS[:50])
        found.append(model.partial_fit(X[50:100], NUMBERS[50:100]))
    same(*found)


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_copies_go_on_by_themselves(way) -> None:
    model = calls(MLPClassifier)
    twin = way(model)
    for each in (model, twin):
        each.partial_fit(X[:50], Y[:50])
    same(model, twin)
    model.partial_fit(X[:50], Y[:50])
    assert model.loss_curve_ != twin.loss_curve_


def test_dropout_and_steps_layer_by_layer_are_not_kept(made) -> None:
    assert len(calls(MLPClassifier, dropout=0.5).loss_curve_) == len(made) == 4
    with using_fused("off"):
        calls(MLPClassifier)
    assert len(made) == 8
