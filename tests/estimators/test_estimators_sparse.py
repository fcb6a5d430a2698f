"""Sparse rows in training: the numbers of dense ones, whatever takes the steps, in the memory of the sparse matrix."""

import tracemalloc

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from scipy import sparse

from mlpx import DivergenceError, MLPClassifier, MLPRegressor
from mlpx.estimators import sparse as sparse_rows
from mlpx.estimators.steps import Steps
from mlpx.optimizers import full_batch
from mlpx.optimizers.full_batch import FULL_BATCH

THIN = np.where(np.abs(X) > 1.0, X, 0.0)
WEIGHT = np.linspace(0.2, 2.0, 150)
MASK = (np.arange(3) != 2) | (Y[:, None] == 2)
LABELS = (X[:, :3] > 0).astype(int)


@pytest.fixture
def always_sparse(monkeypatch):
    """Let no rows be made dense; return the matrices that steps are asked about."""
    asked = []
    monkeypatch.setattr("mlpx.estimators.sparse.DENSE_ELEMENTS", 0)
    for module in ("rows", "steps"):
        monkeypatch.setattr(
            f"mlpx.estimators.{module}.stays_sparse", lambda x, rows: asked.append(x) or sparse.issparse(x)
        )
    return asked


@pytest.mark.parametrize("solver", ["adam", "sgd", "rprop", *sorted(FULL_BATCH)])
@pytest.mark.parametrize(
    ("kind", "y", "params"),
    [
        (MLPRegressor, NUMBERS, {}),
        (MLPRegressor, NUMBERS, {"hidden_layer_sizes": (), "sample_weight": WEIGHT}),
        (MLPRegressor, NUMBERS, {"batch_norm": True, "activation": "gelu"}),
        (MLPClassifier, Y, {"early_stopping": True, "hidden_layer_sizes": (8, 5)}),
        (MLPClassifier, Y > 0, {"layer_norm": True, "sample_weight": WEIGHT}),
        (MLPClassifier, Y, {"mask": MASK}),
        (MLPClassifier, LABELS, {"dtype": "float32", "activation": ("tanh", "mish")}),
    ],
    ids=lambda each: str(sorted(each)) if isinstance(each, dict) else "",
)
def test_the_numbers_of_dense_rows(solver, kind, y, params, always_sparse) -> None:
    if solver == "levenberg_marquardt" and (kind is MLPClassifier or "batch_norm" in params):
        pytest.skip("it takes squared errors and dense layers alone")
    if solver == "rprop" and "batch_norm" in params:
        pytest.skip("it goes by signs of gradients that are 0 but for rounding: those of biases before a norm")
    if solver == "scaled_conjugate_gradient" and "dtype" in params:
        pytest.skip("its differences of gradients are lost in float32")
    params = {"batch_size": "auto" if solver == "rprop" else 40, "solver": solver, "max_iter": 4, **params}
    dense, thin = fitted(kind, x=THIN, y=y, **params), fitted(kind, x=sparse.csr_array(THIN), y=y, **params)
    assert sum(map(sparse.issparse, always_sparse)) > 0
    single = params.get("dtype") == "float32"
    np.testing.assert_allclose(thin.loss_curve_, dense.loss_curve_, rtol=1e-4 if single else 1e-8)
    for w, expected in zip(thin.coefs_ + thin.intercepts_, dense.coefs_ + dense.intercepts_, strict=True):
        np.testing.assert_allclose(w, expected, rtol=1e-3 if single else 1e-6, atol=1e-4 if single else 1e-8)
    output = "predict_proba" if kind is MLPClassifier else "predict"
    rows = sparse.csc_matrix(THIN)
    np.testing.assert_allclose(getattr(thin, output)(rows), getattr(dense, output)(THIN), rtol=1e-4, atol=1e-4)


def test_steps_of_partial_fit_and_of_a_warm_start(always_sparse) -> None:
    models = []
    for rows in (THIN, sparse.csr_matrix(THIN)):
        model = MLPClassifier((8,), random_state=0, batch_size=60, warm_start=True, max_iter=3)
        for _ in range(3):
            model.partial_fit(rows, Y, classes=[0, 1, 2])
        model.set_params(early_stopping=True)
        models.append(fitted(x=rows, **model.get_params()))
    np.testing.assert_allclose(models[1].coefs_[0], models[0].coefs_[0], rtol=1e-8)


def test_divergence_is_told_of_sparse_rows(always_sparse) -> None:
    for solver in ("sgd", "rprop", "conjugate_gradient"):
        with pytest.raises(ValueError, match="non-finite"), np.errstate(all="ignore"):
            fitted(MLPRegressor, x=sparse.csr_array(THIN * 1e200), y=NUMBERS, solver=solver, learning_rate_init=1.0)
    layers = fitted(x=sparse.csr_array(THIN))._network()
    steps = Steps(layers, sparse.csr_array(np.sign(THIN) * 1e308), Y, None, 50, fitted()._training.optimizer, 0.0)
    with pytest.raises(DivergenceError, match=r"layers\[0\] FirstDense"), np.errstate(all="ignore"):
        steps.epochs(np.arange(150)[None], 0.1, lambda taken: None)


@pytest.mark.parametrize("solver", ["lbfgs", "rprop", "conjugate_gradient", "scaled_conjugate_gradient", "adam"])
@pytest.mark.parametrize("params", [{}, {"batch_norm": True}, {"early_stopping": True}], ids=str)
def test_a_fit_takes_the_memory_of_the_sparse_matrix(solver, params) -> None:
    """Dense, the rows would take 320 MB, and a batch of 200 of them 32 MB."""
    rng = np.random.default_rng(0)
    x = sparse.random_array((2000, 20000), density=0.001, format="csr", rng=rng)
    y = np.asarray(x[:, :2000].sum(axis=1)).ravel() > 1.0
    tracemalloc.start()
    try:
        fitted(x=x, y=y, hidden_layer_sizes=(2,), solver=solver, max_iter=2, **params)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    weights = 20000 * 2 * 8
    assert peak < 30 * weights + 10 * (x.data.nbytes + x.indices.nbytes)


def test_which_rows_stay_sparse() -> None:
    def rows(n, width, density):
        return sparse.random_array((n, width), density=density, format="csr", rng=np.random.default_rng(0))

    assert not sparse_rows.stays_sparse(np.zeros((9, 9)), 9)
    assert sparse_rows.stays_sparse(rows(2000, 5000, 0.1), 2000)  # 80 MB
    assert not sparse_rows.stays_sparse(rows(2000, 5000, 0.1), 200)
    assert not sparse_rows.stays_sparse(rows(2000, 5000, 0.3), 2000)
    assert sparse_rows.stays_sparse(rows(2000, 5000, 0.01), 200)
    assert not sparse_rows.stays_sparse(rows(2000, 50, 0.01), 200)


def test_solver_objects_take_them_too(always_sparse) -> None:
    solver = full_batch.LBFGS(memory=5)
    dense, thin = (
        fitted(MLPRegressor, x=kind(THIN), y=NUMBERS, solver=solver) for kind in (np.array, sparse.csr_array)
    )
    np.testing.assert_allclose(thin.loss_curve_, dense.loss_curve_, rtol=1e-8)
