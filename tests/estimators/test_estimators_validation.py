"""Rows to validate on: one by one, in pipelines, and what a fit refuses of them."""

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from sklearn import config_context
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from mlpx import MLPClassifier, MLPRegressor

HALF = slice(0, 100), slice(100, 150)
WEIGHT = np.linspace(0.0, 2.0, 50)
MASK = (np.arange(3) != 2) | (Y[:, None] == 2)
SETTINGS = {"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0, "early_stopping": True}


def one_by_one(parts):
    """Return arguments of the names that `fit` has for the parts of a tuple."""
    return dict(zip(("X_val", "y_val", "sample_weight_val", "mask_val"), parts, strict=False))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("kind", "y", "rest"),
    [
        (MLPClassifier, Y, ()),
        (MLPClassifier, Y, (WEIGHT,)),
        (MLPClassifier, Y, (WEIGHT, MASK[HALF[1]])),
        (MLPRegressor, NUMBERS, ()),
        (MLPRegressor, NUMBERS, (WEIGHT,)),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_parts_and_tuples_are_the_same(kind, y, rest, method) -> None:
    train, out = HALF
    parts, given = (X[out], y[out], *rest), {}
    if kind is MLPClassifier:
        given = {"mask": MASK[train]} | ({"classes": [0, 1, 2]} if method == "partial_fit" else {})
    tuples, single = kind(**SETTINGS), kind(**SETTINGS)
    getattr(tuples, method)(X[train], y[train], validation_data=parts, **given)
    getattr(single, method)(X[train], y[train], **one_by_one(parts), **given)
    assert single.validation_loss_curve_ == tuples.validation_loss_curve_
    assert single.validation_scores_ == tuples.validation_scores_


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"X_val": X}, "y_val: is missing; X_val came without it"),
        ({"y_val": Y}, "X_val: is missing; y_val came without it"),
        ({"sample_weight_val": Y}, "X_val: is missing; sample_weight_val came"),
        ({"X_val": X, "validation_data": (X, Y)}, "validation_data: is given together with X_val"),
        ({"X_val": X[:, :2], "y_val": Y}, "X_val, y_val: X has 2 features"),
        ({"X_val": X, "y_val": Y + 1}, "X_val, y_val: y has classes that training has not"),
        (
            {"X_val": X, "y_val": Y, "sample_weight_val": -X[:, 0]},
            "X_val, y_val, sample_weight_val: sample_weight: holds",
        ),
        ({"validation_data": [(X, Y)]}, r"validation_data: expected a tuple \(X, y.*got list of 1"),
    ],
)
def test_what_is_incomplete_or_does_not_fit(given, said) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        MLPClassifier(**SETTINGS).fit(X, Y, **given)


@pytest.mark.parametrize(("kind", "y"), [(MLPClassifier, Y), (MLPRegressor, NUMBERS)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_pipeline_takes_them_through_its_steps(kind, y) -> None:
    train, out = HALF
    far = X * 1000.0 + 5000.0
    with config_context(enable_metadata_routing=True):
        model = kind(**SETTINGS).set_fit_request(X_val=True, y_val=True)
        pipeline = Pipeline([("scale", StandardScaler()), ("model", model)], transform_input=["X_val"])
        pipeline.fit(far[train], y[train], X_val=far[out], y_val=y[out])
    assert max(pipeline["model"].validation_scores_) == pytest.approx(pipeline.score(far[out], y[out]), rel=1e-9)
    scaler = StandardScaler().fit(far[train])
    by_hand = kind(**SETTINGS).fit(
        scaler.transform(far[train]), y[train], X_val=scaler.transform(far[out]), y_val=y[out]
    )
    assert by_hand.validation_loss_curve_ == pipeline["model"].validation_loss_curve_


def test_every_part_can_be_routed() -> None:
    with config_context(enable_metadata_routing=True):
        every = dict.fromkeys(("X_val", "y_val", "sample_weight_val"), True)
        MLPRegressor().set_fit_request(**every).set_partial_fit_request(**every)
        MLPClassifier().set_fit_request(**every, mask_val=True).set_partial_fit_request(**every, mask_val=True)


def test_frames_must_have_the_names_of_training() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    with pytest.raises(ValueError, match=r"^X_val, y_val: The feature names should match"):
        fitted(x=frame, X_val=frame[list("fedcba")], y_val=Y)
