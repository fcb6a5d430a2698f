"""Weights of rows of any scale, rows that weigh nothing, and numbers too large: what is learnt, or which error."""

import warnings

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier as TheirClassifier

from mlpx import MLPClassifier, MLPRegressor

WEIGHT = np.linspace(0.0, 3.0, 150)
SOLVERS = ["adam", "sgd", "lbfgs", "conjugate_gradient"]


def same(model, twin, rtol=0.0) -> None:
    for a, b in zip([*model.coefs_, *model.intercepts_], [*twin.coefs_, *twin.intercepts_], strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-3 * rtol)
    np.testing.assert_allclose(model.loss_curve_, twin.loss_curve_, rtol=max(rtol, 1e-12))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("power", [-1000, -200, -1, 1, 200, 1000])
def test_the_scale_of_weights_does_not_matter(power, dtype) -> None:
    """To the last bit, for a power of 2."""
    for solver in SOLVERS:
        params = {"solver": solver, "alpha": 0.0, "dtype": dtype}
        same(fitted(sample_weight=np.ldexp(WEIGHT, power), **params), fitted(sample_weight=WEIGHT, **params))
    params = {"early_stopping": True, "alpha": 0.0, "dtype": dtype}
    same(fitted(sample_weight=np.ldexp(WEIGHT, power), **params), fitted(sample_weight=WEIGHT, **params))


@pytest.mark.parametrize("scale", [1e-50, 1e-20, 1e20, 1e50, 1e290])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_that_another_dtype_cannot_hold(scale, dtype) -> None:
    model = fitted(sample_weight=np.full(150, scale), alpha=0.0, dtype=dtype, max_iter=30)
    same(model, fitted(sample_weight=np.ones(150), alpha=0.0, dtype=dtype, max_iter=30), rtol=1e-5)
    assert model.score(X, Y) > 0.5
    by_class = fitted(class_weight=dict.fromkeys(range(3), scale), sample_weight=WEIGHT / scale, alpha=0.0, dtype=dtype)
    same(by_class, fitted(sample_weight=WEIGHT, alpha=0.0, dtype=dtype), rtol=1e-4)


def test_the_least_weights_there_are() -> None:
    same(fitted(sample_weight=np.full(150, 5e-324), alpha=0.0), fitted(sample_weight=np.ones(150), alpha=0.0))


@pytest.mark.parametrize("scale", [1e-3, 0.7, 300.0])
@pytest.mark.parametrize("params", [{}, {"solver": "sgd"}, {"solver": "lbfgs"}], ids=str)
def test_the_penalty_is_scikit_learns(scale, params) -> None:
    """There it is divided by the sum of the weights."""
    params = {"hidden_layer_sizes": (8,), "max_iter": 4, "alpha": 0.1, "random_state": 0, "activation": "tanh"} | params
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model, theirs = (
            kind(**params).fit(X, Y, sample_weight=scale * (WEIGHT + 0.1)) for kind in (MLPClassifier, TheirClassifier)
        )
    np.testing.assert_allclose(model.loss_, theirs.loss_, rtol=1e-6)
    np.testing.assert_allclose(model.coefs_[0], theirs.coefs_[0], rtol=1e-4, atol=1e-7)


def test_calls_of_other_scales_share_their_steps() -> None:
    model, twin = MLPClassifier(random_state=0, alpha=0.1), MLPClassifier(random_state=0, alpha=0.1)
    for call in range(4):
        scale = 2.0 ** (7 * call)
        model.partial_fit(X, Y, sample_weight=scale * WEIGHT, classes=[0, 1, 2])
        twin._training = None if call == 0 else twin._training
        if call:
            twin._training.kept = None
        else:
            del twin._training
        twin.partial_fit(X, Y, sample_weight=scale * WEIGHT, classes=[0, 1, 2])
    same(model, twin)


NOTHING = {
    "sample_weight": {"sample_weight": np.zeros(150)},
    "class_weight": {"class_weight": {0: 0, 1: 0, 2: 0}},
    "both": {"sample_weight": (Y == 1).astype(float), "class_weight": {1: 0}},
    "held out": {"sample_weight": (np.arange(150) < 3).astype(float), "early_stopping": True},
}


@pytest.mark.parametrize("name", NOTHING)
@pytest.mark.parametrize("solver", SOLVERS)
def test_rows_that_weigh_nothing(name, solver) -> None:
    if (name, solver) == ("held out", "lbfgs"):
        pytest.skip("lbfgs holds nothing out")
    words = "non-zero|weigh" if name == "sample_weight" else r"^sample_weight: the rows.* weigh nothing"
    with pytest.raises(ValueError, match=words):
        fitted(**NOTHING[name], solver=solver)
    model = MLPClassifier(class_weight={0: 0.0}, random_state=0).partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="weigh nothing"):
        model.partial_fit(X[Y == 0], Y[Y == 0])


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_held_out_rows_that_weigh_nothing(kind) -> None:
    y = Y if kind is MLPClassifier else NUMBERS[:, 0]
    weight = (np.arange(150) == 7).astype(float)
    with pytest.raises(ValueError, match=r"^sample_weight: the rows .*early_stopping holds out.* weigh nothing"):
        fitted(kind, y, early_stopping=True, sample_weight=weight, random_state=1)
    with pytest.raises(ValueError, match=r"validation_data: .*(weigh nothing|non-zero)"):
        fitted(kind, y, validation_data=(X, y, np.zeros(150)))


def test_weights_without_numbers() -> None:
    with pytest.raises(ValueError, match=r"sample_weight.*(infinity|NaN)"):
        fitted(sample_weight=np.where(WEIGHT > 2, np.inf, WEIGHT))
    with pytest.raises(ValueError, match=r"^sample_weight: the largest is about 2 to the power -1074.*alpha=0.0001"):
        fitted(sample_weight=np.full(150, 5e-324))


# --- numbers too large ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs", "conjugate_gradient", "rprop"])
def test_targets_too_large_are_named(solver) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with pytest.raises(
            ValueError, match=r"non-finite parameter weights\..*\(here up to 4\.71 in X and 8.*e\+160 in y"
        ):
            fitted(MLPRegressor, 1e160 * NUMBERS[:, 0], solver=solver)
        with pytest.raises(ValueError, match=r"non-finite parameter weights\..*8.*e\+25 in y"):
            fitted(MLPRegressor, 1e25 * NUMBERS[:, 0], solver=solver, dtype="float32")


@pytest.mark.parametrize("kind", [np.array, sparse.csr_array])
def test_numbers_that_the_dtype_cannot_hold(kind) -> None:
    with pytest.raises(ValueError, match=r"^X: holds numbers too large for float32, the dtype of the weights"):
        fitted(x=kind(1e39 * X), dtype="float32")
    with pytest.raises(ValueError, match=r"^y: holds numbers too large for float32"):
        fitted(MLPRegressor, x=kind(X), y=1e40 * NUMBERS, dtype="float32")
    model = fitted(dtype="float32")
    with pytest.raises(ValueError, match=r"^X: holds numbers too large for float32"):
        model.partial_fit(kind(1e39 * X), Y)
