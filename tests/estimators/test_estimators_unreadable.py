"""Masked values, and tensors that record gradients: the estimators refuse them by name, and stay as they were."""

import copy

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from refusing import Tensor

from mlpx import MLPClassifier, MLPRegressor

WEIGHT, MASK = np.ones(len(X)), np.ones((len(X), 3), bool)


def masked(array):
    return np.ma.array(array, mask=np.arange(array.size).reshape(array.shape) % 7 == 0)


def recorded(array):
    return Tensor(array, "torch.float64", requires_grad=True)


@pytest.fixture(
    params=[
        (masked, ValueError, r"is a masked array with \d+ of \d+ values masked"),
        (recorded, TypeError, r"is a Tensor that records gradients.*\.detach\(\)"),
    ],
    ids=["masked", "recorded"],
)
def refused(request):
    """Return what makes an array unreadable, and a check that a call refuses it by its name."""
    convert, error, words = request.param

    def check(name, call, *args, **options) -> None:
        with pytest.raises(error, match=f"^{name}: {words}"):
            call(*args, **options)

    return convert, check


@pytest.mark.parametrize(("kind", "y"), [(MLPClassifier, Y), (MLPRegressor, NUMBERS)])
def test_what_a_fit_is_given(kind, y, refused) -> None:
    bad, check = refused
    model = fitted(kind, y)
    before = copy.deepcopy(vars(model))
    options = {"classes": [0, 1, 2]} if kind is MLPClassifier else {}
    for fit in (model.fit, lambda *args, **more: kind().partial_fit(*args, **options, **more)):
        check("X", fit, bad(X), y)
        check("y", fit, X, bad(y))
        check("sample_weight", fit, X, y, sample_weight=bad(WEIGHT))
        check("validation X", fit, X, y, validation_data=(bad(X), y))
        check("validation y", fit, X, y, validation_data=(X, bad(y)))
        check("validation sample_weight", fit, X, y, validation_data=(X, y, bad(WEIGHT)))
    np.testing.assert_array_equal(model.coefs_[0], before["coefs_"][0])
    assert model.loss_curve_ == before["loss_curve_"]


@pytest.mark.parametrize(("kind", "y"), [(MLPClassifier, Y), (MLPRegressor, NUMBERS)])
def test_what_a_fitted_estimator_is_given(kind, y, refused) -> None:
    bad, check = refused
    model = fitted(kind, y)
    for call in (model.predict, model.gradients, model.integrated_gradients, model.plot_importance):
        check("X", call, bad(X))
    check("baseline", model.integrated_gradients, X, bad(X[0]))
    check("X", model.score, bad(X), y)
    check("y", model.score, X, bad(y))
    check("sample_weight", model.score, X, y, sample_weight=bad(WEIGHT))


def test_masks_and_probabilities(refused) -> None:
    bad, check = refused
    model = fitted(mask=MASK)
    check("X", model.predict_proba, bad(X))
    check("mask", model.fit, X, Y, mask=bad(MASK))
    check("validation mask", model.fit, X, Y, mask=MASK, validation_data=(X, Y, None, bad(MASK)))
    for call in (model.predict, model.predict_proba):
        check("mask", call, X, mask=bad(MASK))


def test_a_mask_that_masks_nothing_is_no_mask() -> None:
    model, twin = fitted(), fitted(x=np.ma.array(X), y=np.ma.array(Y))
    np.testing.assert_array_equal(twin.predict_proba(np.ma.array(X)), model.predict_proba(X))
