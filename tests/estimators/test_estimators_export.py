"""Estimators as plain NumPy files, plots of what features matter, and data larger than memory."""

import ast
import errno
import importlib.util
import tracemalloc

import matplotlib
import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted

from mlpx import MLPClassifier, MLPRegressor
from mlpx.estimators import ImportanceDisplay
from mlpx.estimators.export import FORMULAS
from mlpx.files import atomic_write
from mlpx.ops._activation import TABLE

NAMES = np.array(["ant", "bee", "cat"])
LABELS = (X[:, :3] > 0).astype(int)


def exported(model, folder):
    """Return the module that an estimator writes, imported from its file."""
    path = folder / "model.py"
    model.export_numpy(path)
    imports = {
        n.names[0].name if isinstance(n, ast.Import) else n.module
        for n in ast.walk(ast.parse(path.read_text()))
        if isinstance(n, ast.Import | ast.ImportFrom)
    }
    assert imports <= {"numpy", "base64", "io", "math"}
    spec = importlib.util.spec_from_file_location("model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("activation", sorted(TABLE))
def test_every_activation_is_written(activation, tmp_path) -> None:
    assert set(FORMULAS) == set(TABLE)
    model = fitted(MLPRegressor, y=NUMBERS, activation=activation, learning_rate_init=1e-3)
    module = exported(model, tmp_path)
    np.testing.assert_allclose(module.predict(X), model.predict(X), rtol=1e-10, atol=1e-13)
    z = np.array([[-800.0, -30.0, -1.0, 0.0, 0.5, 30.0, 600.0]])
    with np.errstate(over="raise", invalid="raise"):
        if activation != "identity":
            np.testing.assert_allclose(getattr(module, activation)(z), TABLE[activation].function(z, np), rtol=1e-12)


@pytest.mark.parametrize(
    ("y", "params"),
    [
        (NAMES[Y], {}),
        (NAMES[Y].astype(object), {"dropout": 0.3}),
        (Y > 0, {"batch_norm": True}),
        (LABELS, {"layer_norm": True}),
        (Y, {"loss": "hinge", "dtype": "float32"}),
        (Y > 0, {"loss": "hinge"}),
        (LABELS, {"loss": "hinge"}),
        (np.full(150, 7), {}),
    ],
)
def test_classifiers(y, params, tmp_path) -> None:
    model = fitted(y=y, **params)
    module = exported(model, tmp_path)
    said = module.predict(X)
    np.testing.assert_array_equal(said, model.predict(X))
    name = "decision_function" if params.get("loss") == "hinge" else "predict_proba"
    expected = getattr(model, name)(X)
    given = getattr(module, name)(X)
    assert given.dtype == expected.dtype
    np.testing.assert_allclose(
        given, expected, rtol=1e-4 if "dtype" in params else 1e-10, atol=1e-5 if "dtype" in params else 1e-13
    )


def test_masks(tmp_path) -> None:
    mask = np.random.default_rng(0).random((150, 3)) > 0.3
    mask[5] = False
    mask[np.arange(150) != 5, Y[np.arange(150) != 5]] = True
    model = fitted()
    p = exported(model, tmp_path).predict_proba(X, mask)
    np.testing.assert_allclose(p, model.predict_proba(X, mask=mask), rtol=1e-10, atol=1e-15)
    assert (p[~mask] == 0).all()


@pytest.mark.parametrize("params", [{}, {"loss": "poisson"}, {"loss": "quantile", "quantiles": (0.1, 0.9)}])
def test_regressors(params, tmp_path) -> None:
    model = fitted(MLPRegressor, y=np.abs(NUMBERS[:, 0]), batch_norm=True, **params)
    module = exported(model, tmp_path)
    np.testing.assert_allclose(module.predict(X), model.predict(X), rtol=1e-10, atol=1e-13)


def test_files_that_cannot_be(tmp_path) -> None:
    for name in ("model", "model.txt", "my-model.py", "2.py", "class.py"):
        with pytest.raises(ValueError, match="path: expected the name of a module"):
            fitted().export_numpy(tmp_path / name)
    mixed = fitted(y=NAMES[Y])
    mixed.classes_ = np.array([1, "bee", None], dtype=object)
    with pytest.raises(ValueError, match="classes_: expected numbers or strings"):
        mixed.export_numpy(tmp_path / "model.py")
    for bad in (None, 5, b"model.py"):
        with pytest.raises(TypeError, match="path: expected the name of a file"):
            fitted().export_numpy(bad)
    with pytest.raises(ValueError, match=r"path: .*a NUL character"):
        fitted().export_numpy("mod\0el.py")
    assert not list(tmp_path.iterdir())


def test_an_export_that_fails_leaves_the_old_one(tmp_path, monkeypatch) -> None:
    """One file holds formulas and arrays, so that they cannot be of two models."""
    path = tmp_path / "model.py"
    fitted().export_numpy(path)
    before = path.read_bytes()

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic_write.os, "fsync", fail)
    with pytest.raises(OSError, match="path: No space left on device"):
        fitted(activation="tanh").export_numpy(path)
    assert [each.name for each in tmp_path.iterdir()] == ["model.py"]
    assert path.read_bytes() == before


# --- what matters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["integrated_gradients", "gradients"])
def test_plot_of_what_matters(kind) -> None:
    matplotlib.use("Agg")
    model = fitted(MLPRegressor, y=3.0 * X[:, 4] + 0.5 * X[:, 1], max_iter=150)
    display = model.plot_importance(X, kind=kind)
    assert isinstance(display, ImportanceDisplay)
    each = model.gradients(X) if kind == "gradients" else model.integrated_gradients(X, X.mean(axis=0))
    np.testing.assert_allclose(display.importances, np.abs(each).mean(axis=0), rtol=1e-12)
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == [f"feature {i}" for i in np.argsort(display.importances)]
    assert labels[-1] == "feature 4"
    np.testing.assert_allclose([bar.get_width() for bar in display.bars_], np.sort(display.importances))
    few = model.plot_importance(X, kind=kind, ax=display.ax_, max_features=2, feature_names=list("abcdef"), color="C3")
    assert len(few.bars_) == 2
    assert few.figure_ is display.figure_
    matplotlib.pyplot.close("all")


def test_names_of_columns_and_several_outputs() -> None:
    matplotlib.use("Agg")
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    display = fitted(x=frame).plot_importance(frame)
    assert {label.get_text() for label in display.ax_.get_yticklabels()} == set("abcdef")
    assert display.importances.shape == (6,)
    matplotlib.pyplot.close("all")


def test_importances_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="Did you mean 'gradients'"):
        fitted().plot_importance(X, kind="gradient")
    with pytest.raises(ValueError, match="has 2 names"):
        fitted().plot_importance(X, feature_names=["a", "b"])
    with pytest.raises(ValueError, match="not fitted"):
        MLPClassifier().plot_importance(X)


# --- larger than memory -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["float64", "float32", "int16"])
def test_a_file_is_predicted_block_by_block(order, kind, tmp_path) -> None:
    """Whatever dtype and layout it has, and whatever the network's: no copy of the whole is ever made."""
    n, size = 100_000, 60
    rows = np.random.default_rng(0).integers(-3, 4, (n, size)).astype(kind)
    path = tmp_path / "rows"
    file = np.memmap(path, kind, "w+", shape=(n, size), order=order)
    file[...] = rows
    model = fitted(x=rows[:150].astype(np.float64), dtype="float32")
    expected = model.predict_proba(rows.astype(np.float32))
    x = np.memmap(path, kind, "r", shape=(n, size), order=order)
    model.predict(x)  # what is loaded at the first use is not what is measured
    tracemalloc.start()
    p = model.predict_proba(x)
    said = model.predict(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(p, expected, rtol=1e-5)
    np.testing.assert_array_equal(said, model._labels(p))
    assert peak < 0.5 * rows.size * 4, f"{peak / 1e6:.1f} MB"
