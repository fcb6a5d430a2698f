"""The estimators against the installed scikit-learn: the same seed gives the same numbers, over a grid."""

import warnings

import numpy as np
import pytest
import sklearn.neural_network as peers
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.fixes import parse_version

import mlpx

pytestmark = pytest.mark.skipif(
    parse_version(__import__("sklearn").__version__) < parse_version("1.7"), reason="needs scikit-learn 1.7"
)
rng = np.random.default_rng(0)
X = rng.standard_normal((83, 5))
WEIGHT = rng.integers(0, 4, 83) + 0.5
TARGETS = {
    "classes": np.array(["ant", "bee", "cat"])[np.digitize(X[:, 0] * X[:, 1] + 0.3 * X[:, 2], [-0.5, 0.5])],
    "binary": np.where(X[:, 0] - X[:, 1] ** 2 > -0.7, 7, 3),
    "labels": (X[:, :3] + 0.5 * X[:, 1:4] > 0).astype(int),
    "number": X[:, 0] * 2 - np.sin(X[:, 1]),
    "numbers": X[:, :2] * [1.0, 3.0] + X[:, 2:4] ** 2,
    "counts": rng.poisson(np.exp(0.5 * X[:, 0])),
}
CLASSIFIED = ("classes", "binary", "labels")
COMMON = {"hidden_layer_sizes": (7, 4), "max_iter": 6, "batch_size": 20, "random_state": 3, "learning_rate_init": 0.02}


def grid():
    """Yield (target, parameters) of every configuration."""
    solvers = [
        {"solver": "adam"},
        {"solver": "sgd"},
        {"solver": "sgd", "nesterovs_momentum": False, "momentum": 0.8},
    ]
    for target in TARGETS:
        for solver in solvers:
            yield target, solver
    for activation in ("identity", "logistic", "tanh"):
        for target in ("classes", "number", "labels"):
            for solver in solvers[:2]:
                yield target, {**solver, "activation": activation}
    for target in ("binary", "numbers", "counts", "classes"):
        for alpha in (0.0, 0.5):
            yield target, {"alpha": alpha}
        yield target, {"early_stopping": True, "validation_fraction": 0.2, "max_iter": 25, "n_iter_no_change": 3}
        yield target, {"weighted": True, "alpha": 0.1}
        yield target, {"weighted": True, "solver": "sgd", "early_stopping": True}
        yield target, {"sparse": True}
        yield target, {"sparse": True, "weighted": True, "shuffle": False}
    for policy in ("constant", "invscaling", "adaptive"):
        for target in ("classes", "number"):
            yield target, {"solver": "sgd", "learning_rate": policy, "tol": 0.05, "n_iter_no_change": 2, "max_iter": 25}
    for target in ("classes", "binary", "number"):
        yield target, {"batch_size": "auto"}
        yield target, {"hidden_layer_sizes": (), "max_iter": 9}
        yield target, {"hidden_layer_sizes": 5, "random_state": 11, "momentum": 1.0, "solver": "sgd"}
        yield target, {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}
        yield target, {"beta_1": 0.0, "beta_2": 0.0, "epsilon": 1e-2}
        yield target, {"solver": "sgd", "momentum": 0.0, "tol": 1.0, "n_iter_no_change": 3, "max_iter": 30}
        yield target, {"hidden_layer_sizes": (150, 200), "batch_size": 40, "alpha": 0.3, "n_threads": 2, "max_iter": 2}
    yield "classes", {"scale": 1e2, "learning_rate_init": 0.001, "alpha": 0.0}
    yield "binary", {"scale": 1e2, "learning_rate_init": 0.001}
    yield "labels", {"scale": 1e2, "learning_rate_init": 0.001, "weighted": True}


GRID = list(grid())


BOTH = (peers.MLPClassifier, mlpx.MLPClassifier)


def label(case) -> str:
    target, params = case
    return "-".join([target, *(f"{name}={value}" for name, value in params.items())])


def both(target: str, params: dict):
    """Return scikit-learn's estimator and ours, and the keyword arguments and rows to fit them to."""
    params = {**COMMON, **params}
    x = X * params.pop("scale", 1.0)
    if params.pop("sparse", False):
        x = sparse.csr_matrix(np.where(np.abs(x) > 0.5, x, 0.0))
    extra = {"sample_weight": WEIGHT} if params.pop("weighted", False) else {}
    ours = {name: params.pop(name) for name in ("n_threads",) if name in params}
    name = "MLPClassifier" if target in CLASSIFIED else "MLPRegressor"
    if target == "counts":
        params["loss"] = "poisson"
    return getattr(peers, name)(**params), getattr(mlpx, name)(**params, **ours), x, TARGETS[target], extra


def compare(theirs, ours, x, rtol: float = 1e-6) -> None:
    """Raise unless two fitted estimators agree in everything a user can see."""
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("loss_", "best_loss_", "loss_curve_", "validation_scores_", "best_validation_score_"):
        if getattr(theirs, name) is None:
            assert getattr(ours, name) is None, name
        else:
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=rtol, err_msg=name)
    for name in ("coefs_", "intercepts_"):
        for ours_, theirs_ in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            assert ours_.dtype == theirs_.dtype
            np.testing.assert_allclose(ours_, theirs_, rtol=rtol, atol=1e-3 * rtol, err_msg=name)
    if hasattr(theirs, "classes_"):
        assert ours.classes_.tolist() == theirs.classes_.tolist()
        np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), rtol=rtol, atol=1e-14)
        assert ours.predict(x).tolist() == theirs.predict(x).tolist()
    else:
        np.testing.assert_allclose(ours.predict(x), theirs.predict(x), rtol=rtol, atol=1e-3 * rtol)


def quietly(function, *args, **kwargs):
    """Call without the warnings that both sides give about convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return function(*args, **kwargs)


def test_the_grid_is_wide() -> None:
    assert len(GRID) >= 60
    assert len({label(case) for case in GRID}) == len(GRID)


@pytest.mark.parametrize("case", GRID, ids=map(label, GRID))
def test_same_numbers(case) -> None:
    theirs, ours, x, y, extra = both(*case)
    quietly(theirs.fit, x, y, **extra)
    quietly(ours.fit, x, y, **extra)
    compare(theirs, ours, x)


@pytest.mark.parametrize("fused", ["off", "auto"])
@pytest.mark.parametrize("case", GRID[::9], ids=map(label, GRID[::9]))
def test_same_numbers_layer_by_layer(case, fused, monkeypatch) -> None:
    monkeypatch.setattr(mlpx.ops.dispatch, "_mode", fused)
    theirs, ours, x, y, extra = both(*case)
    quietly(theirs.fit, x, y, **extra)
    quietly(ours.fit, x, y, **extra)
    assert bool(ours._net.plan_declined) == (fused == "off")
    compare(theirs, ours, x)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_same_numbers_in_pieces(target, solver) -> None:
    theirs, ours, x, y, _ = both(target, {"solver": solver, "learning_rate": "invscaling"})
    for first, last in ((0, 40), (30, 83), (0, 83)):
        for estimator in (theirs, ours):
            first_call = not hasattr(estimator, "coefs_")
            classes = np.arange(3) if target == "labels" else np.unique(y)
            extra = {"classes": classes} if first_call and target in CLASSIFIED else {}
            estimator.partial_fit(x[first:last], y[first:last], **extra)
    compare(theirs, ours, x)


@pytest.mark.parametrize("target", TARGETS)
def test_same_numbers_when_started_warm(target) -> None:
    theirs, ours, x, y, _ = both(target, {"warm_start": True, "max_iter": 4})
    for _ in range(3):
        quietly(theirs.fit, x, y)
        quietly(ours.fit, x, y)
    assert len(ours.loss_curve_) == 12
    compare(theirs, ours, x)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_lbfgs_reaches_the_same_loss(target, weighted) -> None:
    params = {"solver": "lbfgs", "max_iter": 25, "alpha": 0.1, "activation": "tanh", "weighted": weighted}
    theirs, ours, x, y, extra = both(target, params)
    quietly(theirs.fit, x, y, **extra)
    quietly(ours.fit, x, y, **extra)
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=1e-5)
    assert ours.n_iter_ == theirs.n_iter_


ODD = {
    "one class": (X, np.zeros(83, int)),
    "bools": (X, X[:, 0] > 0),
    "floats that are classes": (X, (X[:, 0] > 0) * 2.0),
    "one-hot rows": (X, np.eye(3, dtype=int)[np.arange(83) % 3]),
    "sparse labels": (X, sparse.csr_matrix(TARGETS["labels"])),
    "lists": (X.tolist(), TARGETS["classes"].tolist()),
    "whole numbers": ((10 * X).astype(int), TARGETS["classes"]),
    "columns first": (np.asfortranarray(X), TARGETS["classes"]),
    "three rows": (X[:3], [0, 1, 2]),
    "large": (1e6 * X, TARGETS["classes"]),
}


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("name", ODD)
def test_same_numbers_for_odd_data(name, early_stopping) -> None:
    x, y = ODD[name]
    if early_stopping and name == "three rows":
        x, y = np.tile(x, (9, 1)), np.tile(y, 9)
    theirs, ours = (kind(max_iter=4, random_state=0, early_stopping=early_stopping) for kind in BOTH)
    quietly(theirs.fit, x, y)
    quietly(ours.fit, x, y)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-6, atol=1e-12)
    ours_, theirs_ = ours.predict(x), theirs.predict(x)
    assert type(ours_) is type(theirs_)
    assert ours_.dtype == theirs_.dtype
    assert not (ours_ != theirs_).sum()


def test_initial_weights_are_exactly_the_same() -> None:
    theirs, ours, x, y, _ = both("classes", {"learning_rate_init": 1e-30, "solver": "sgd", "max_iter": 1})
    quietly(theirs.fit, x, y)
    quietly(ours.fit, x, y)
    for a, b in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("scale", [1.0, 1e2])
@pytest.mark.parametrize("target", CLASSIFIED)
def test_float32_stays_float32(target, scale) -> None:
    theirs, ours, x, y, _ = both(target, {"scale": scale, "learning_rate_init": 1e-3})
    quietly(theirs.fit, x.astype(np.float32), y)
    quietly(ours.fit, x.astype(np.float32), y)
    assert ours.coefs_[0].dtype == ours.predict_proba(x.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-4)
