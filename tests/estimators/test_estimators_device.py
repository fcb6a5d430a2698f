"""The estimators on a second backend: array-api-strict on a fake device, which refuses whatever a GPU would refuse, and
the stand-in for CuPy. Whether a GPU gives the same numbers is not to be seen without one.
"""

import pickle
import runpy

import matplotlib
import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from scipy import sparse
from sklearn.base import clone
from strict import STRICT, from_strict, to_strict

import mlpx
from mlpx import MLPClassifier, MLPRegressor, optimizers
from mlpx.backend import gpu_problem
from mlpx.estimators import devices

NAMES = np.array(["ant", "bee", "cat"])
THERE = to_strict(X)


@pytest.fixture(autouse=True)
def _fake_gpu(monkeypatch) -> None:
    monkeypatch.setattr(devices, "ON_A_DEVICE", ["cupy", "array_api_strict"])


def both(kind=MLPClassifier, y=Y, **params):
    """Return an estimator that learnt on the host, and its twin on the device."""
    given = {name: params.pop(name) for name in ("sample_weight", "mask") if name in params}
    host = fitted(kind, y=y, **params, **given)
    with np.errstate(all="ignore"):  # a GPU does not warn
        return host, fitted(kind, x=THERE, y=y, **params, **{name: to_strict(value) for name, value in given.items()})


@pytest.mark.parametrize(
    ("kind", "y", "params"),
    [
        (MLPClassifier, Y, {}),
        (MLPClassifier, Y, {"solver": "sgd", "batch_norm": True, "sample_weight": np.linspace(0.1, 2.0, 150)}),
        (MLPClassifier, Y > 0, {"solver": optimizers.RMSprop(lr=0.01), "layer_norm": True}),
        (MLPClassifier, (X[:, :3] > 0).astype(int), {"loss": "focal"}),
        (MLPClassifier, Y, {"early_stopping": True, "class_weight": "balanced"}),
        (MLPClassifier, Y > 0, {"early_stopping": True, "scoring": "roc_auc"}),
        (MLPClassifier, Y, {"mask": (np.arange(3) != 2) | (Y[:, None] == 2)}),
        (MLPClassifier, Y > 0, {"solver": "lbfgs"}),
        (MLPClassifier, Y, {"solver": "conjugate_gradient", "loss": "hinge"}),
        (MLPRegressor, NUMBERS, {"learning_rate": "cosine", "clip_norm": 0.5}),
        (MLPRegressor, np.exp(NUMBERS[:, 0]), {"loss": "gamma", "dropout": 0.2}),
    ],
)
def test_the_same_numbers_as_on_the_host(kind, y, params) -> None:
    host, there = both(kind, y, **params)
    np.testing.assert_allclose(there.loss_curve_, host.loss_curve_, rtol=1e-6)
    for w, expected in zip(there.coefs_ + there.intercepts_, host.coefs_ + host.intercepts_, strict=True):
        np.testing.assert_allclose(from_strict(w), expected, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(from_strict(there.predict(THERE)), host.predict(X), rtol=1e-5)
    assert there.score(THERE, to_strict(np.asarray(y))) == pytest.approx(host.score(X, y))
    if hasattr(host, "predict_proba"):
        mask = params.get("mask")
        p = there.predict_proba(THERE, mask=mask) if mask is not None else there.predict_proba(THERE)
        np.testing.assert_allclose(from_strict(p), host.predict_proba(X, mask=mask), rtol=1e-5, atol=1e-9)
        assert from_strict(there.predict_log_proba(THERE)).shape == p.shape


def test_predictions_lie_where_their_rows_do() -> None:
    host, there = both(y=NAMES[Y])
    assert isinstance(there.predict(THERE), np.ndarray)  # names are the host's everywhere
    for model in (host, there):
        p = model.predict_proba(X)
        assert isinstance(p, np.ndarray)
        np.testing.assert_allclose(p, host.predict_proba(X), rtol=1e-6)
        np.testing.assert_allclose(from_strict(model.predict_proba(THERE)), p, rtol=1e-6)
        np.testing.assert_allclose(from_strict(model.gradients(THERE)), host.gradients(X), rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(
            from_strict(model.integrated_gradients(THERE, 0.5)), host.integrated_gradients(X, 0.5), rtol=1e-5, atol=1e-9
        )
        np.testing.assert_allclose(model.predict_proba(sparse.csr_array(X)), p, rtol=1e-6)
        single = STRICT.asarray(X, "float32")
        np.testing.assert_allclose(from_strict(model.predict_proba(single)), p, rtol=1e-4, atol=1e-6)


def test_call_by_call_on_either_side() -> None:
    calls = {"classes": [0, 1, 2]}
    host, there = (MLPClassifier(hidden_layer_sizes=(6,), random_state=0, early_stopping=True) for _ in range(2))
    for _ in range(4):
        host.partial_fit(X, Y, **calls)
        there.partial_fit(THERE, Y, **calls)
    there.partial_fit(X, Y)  # rows of the host go to the network
    host.partial_fit(X, Y)
    np.testing.assert_allclose(from_strict(there.coefs_[0]), host.coefs_[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(there.validation_loss_curve_, host.validation_loss_curve_, rtol=1e-6)


def test_a_pickle_holds_arrays_of_the_host() -> None:
    host, there = both(early_stopping=True, layer_norm=True)
    data = pickle.dumps(there)
    assert b"array_api_strict" not in data
    copied = pickle.loads(data)
    assert isinstance(copied.coefs_[0], np.ndarray)
    np.testing.assert_allclose(copied.predict_proba(X), host.predict_proba(X), rtol=1e-6)
    np.testing.assert_allclose(
        copied.partial_fit(X, Y).coefs_[0], host.partial_fit(X, Y).coefs_[0], rtol=1e-5, atol=1e-9
    )
    assert not hasattr(clone(there), "coefs_")


def test_failed_fits_and_files(tmp_path) -> None:
    host, there = both(MLPRegressor, NUMBERS, solver="sgd", batch_norm=True)
    before = from_strict(there.predict(THERE))
    there.set_params(learning_rate_init=1e300, warm_start=True)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="non-finite"):
        there.fit(THERE, NUMBERS)
    np.testing.assert_array_equal(from_strict(there.predict(THERE)), before)
    there.export_numpy(tmp_path / "model.py")
    module = runpy.run_path(tmp_path / "model.py")
    np.testing.assert_allclose(module["A"]["w0"], host.coefs_[0], rtol=1e-6, atol=1e-9)
    matplotlib.use("Agg")
    display = there.plot_importance(THERE)
    np.testing.assert_allclose(display.importances, host.plot_importance(X).importances, rtol=1e-5)
    matplotlib.pyplot.close("all")


def test_files_of_estimators_hold_arrays_of_the_host(tmp_path) -> None:
    _, there = both(batch_norm=True, early_stopping=True)
    there.save(tmp_path / "model")
    loaded = mlpx.load(tmp_path / "model")
    assert isinstance(loaded.coefs_[0], np.ndarray)
    np.testing.assert_array_equal(loaded.coefs_[0], from_strict(there.coefs_[0]))
    np.testing.assert_allclose(loaded.predict_proba(X), from_strict(there.predict_proba(THERE)), rtol=1e-6)
    loaded.partial_fit(X, Y)


def test_the_parameter() -> None:
    assert isinstance(fitted(x=THERE, device="cpu").coefs_[0], np.ndarray)
    np.testing.assert_array_equal(fitted(device="cpu").coefs_[0], fitted().coefs_[0])
    np.testing.assert_allclose(fitted(x=THERE, device="cpu").coefs_[0], fitted().coefs_[0], rtol=1e-12)
    there = fitted(x=THERE)
    there.set_params(device="cpu").predict(X)
    assert isinstance(there.coefs_[0], np.ndarray)
    with pytest.raises(ValueError, match="'device' parameter"):
        fitted(device="gpu")


@pytest.mark.parametrize("mode", ["off", "auto"])
def test_cuda_on_the_stand_in_for_cupy(mode, cupy_standin, monkeypatch) -> None:
    import cupy

    monkeypatch.setattr("mlpx.ops.dispatch._mode", mode)
    host, there = fitted(early_stopping=True), fitted(early_stopping=True, device="cuda")
    assert isinstance(there.coefs_[0], cupy.ndarray)
    np.testing.assert_allclose(there.validation_loss_curve_, host.validation_loss_curve_, rtol=1e-6)
    np.testing.assert_allclose(there.predict_proba(X), host.predict_proba(X), rtol=1e-6)
    followed = fitted(x=cupy.asarray(X), early_stopping=True)
    np.testing.assert_allclose(followed.predict_proba(cupy.asarray(X)).get(), host.predict_proba(X), rtol=1e-6)
    assert isinstance(followed.predict(cupy.asarray(X)), cupy.ndarray)
    assert followed.score(cupy.asarray(X), cupy.asarray(Y)) == host.score(X, Y)
    copied = pickle.loads(pickle.dumps(followed))
    assert isinstance(copied.coefs_[0], np.ndarray)
    np.testing.assert_allclose(copied.predict_proba(X), host.predict_proba(X), rtol=1e-6)


@pytest.mark.skipif(gpu_problem() is None, reason="a GPU works here")
def test_without_a_gpu_the_error_says_what_is_missing() -> None:
    model = MLPClassifier(device="cuda")
    with pytest.raises(mlpx.BackendError, match="CuPy is"):
        model.fit(X, Y)
    assert not hasattr(model, "coefs_")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fitted(x=STRICT.asarray(X[:, :0])), "X: has shape"),
        (lambda: fitted(x=STRICT.asarray(X * np.nan)), "NaN or infinity"),
        (lambda: fitted(x=THERE, y=Y[:9]), "inconsistent numbers of samples"),
        (lambda: fitted(x=THERE).predict(STRICT.asarray(X[:, :2])), "features"),
        (lambda: fitted(x=THERE, sample_weight=np.ones(3)), "sample_weight"),
    ],
)
def test_data_that_cannot_work(call, words) -> None:
    with pytest.raises(ValueError, match=words):
        call()
