"""Fits of estimators that go on from a checkpoint: they end as those that nothing interrupted do, bit by bit."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y
from sklearn.exceptions import ConvergenceWarning

import mlpx
from mlpx import MLPClassifier, MLPRegressor, optimizers, schedules
from mlpx.estimators.checkpoints import FitCheckpoints
from mlpx.steps import cpu
from mlpx.training.checkpoints import NAME


def relative(y_true, output):
    e = output - y_true
    return np.mean(e * e), 2 * e / e.size


FITS = {
    "adam": (MLPClassifier, {}, {}),
    "norms and dropout": (MLPClassifier, {"batch_norm": True, "dropout": 0.2, "random_state": 3}, {}),
    "early stopping": (MLPClassifier, {"early_stopping": True, "n_iter_no_change": 2, "learning_rate_init": 0.05}, {}),
    "adaptive": (MLPClassifier, {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 0.5}, {}),
    "invscaling": (MLPClassifier, {"solver": "sgd", "learning_rate": "invscaling"}, {}),
    "a plateau": (MLPRegressor, {"learning_rate": schedules.ReduceOnPlateau(patience=1), "y": NUMBERS}, {}),
    "in order": (MLPRegressor, {"shuffle": False, "solver": optimizers.RMSprop(0.01, clip_norm=1.0), "y": NUMBERS}, {}),
    "a loss of the library's": (MLPRegressor, {"loss": mlpx.losses.Huber(0.5), "y": NUMBERS}, {}),
    "a loss of one's own": (MLPRegressor, {"loss": relative, "y": NUMBERS}, {}),
    "weights and rows to validate on": (
        MLPClassifier,
        {"class_weight": "balanced", "dtype": "float32"},
        {"sample_weight": np.linspace(0, 2, 150), "validation_data": (X[:40], Y[:40])},
    ),
    "callbacks": (MLPClassifier, {"callbacks": [lambda e: e.n_iter_ == 5]}, {}),
}


def fit(name, **more):
    """Return an estimator that was fitted from its begin."""
    kind, params, given = FITS[name]
    params = {"hidden_layer_sizes": (8,), "batch_size": 30, "max_iter": 8, "random_state": 0} | params
    y = params.pop("y", Y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return kind(**params).fit(X, y, **given, **more)


def check_same(model, expected) -> None:
    for a, b in zip([*model.coefs_, *model.intercepts_], [*expected.coefs_, *expected.intercepts_], strict=True):
        np.testing.assert_array_equal(a, b)
    for name in ("loss_curve_", "validation_scores_", "n_iter_", "t_", "loss_", "stopped_", "best_loss_"):
        assert getattr(model, name) == getattr(expected, name)
    optimizer, other = model._training.optimizer, expected._training.optimizer
    assert (optimizer.steps, optimizer.lr, optimizer.schedule) == (other.steps, other.lr, other.schedule)
    np.testing.assert_array_equal(model.predict(X), expected.predict(X))


@pytest.mark.parametrize("name", FITS)
def test_from_every_checkpoint_of_a_fit(name, tmp_path, monkeypatch) -> None:
    expected = fit(name)
    monkeypatch.setattr(cpu, "SLICE", 1e-9)  # epochs are taken one by one
    written = []
    write = FitCheckpoints.write

    def also_kept(self, *args, **options):
        write(self, *args, **options)
        written.append(Path(self.path).read_bytes())

    monkeypatch.setattr(FitCheckpoints, "write", also_kept)
    check_same(fit(name, checkpoint=tmp_path / "all", every=0), expected)
    monkeypatch.setattr(FitCheckpoints, "write", write)
    assert len(written) >= 3
    for number, content in enumerate(written):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / NAME).write_bytes(content)
        model = fit(name, checkpoint=folder, every=1e9, resume=True)
        check_same(model, expected)
        assert model._training.checkpoints is None


def test_a_fit_whose_seed_is_chance_goes_on_with_its_draws(tmp_path) -> None:
    class Crash(Exception):
        pass

    def crash(estimator):
        if estimator.n_iter_ == 3:
            raise Crash

    seen = []
    given = {"hidden_layer_sizes": (8,), "batch_size": 30, "max_iter": 3, "early_stopping": True}
    first = MLPClassifier(**given, callbacks=[lambda e: seen.append(e.coefs_[0].copy()), crash])
    with pytest.raises(Crash):
        first.fit(X, Y, checkpoint=tmp_path, every=0)
    with pytest.warns(ConvergenceWarning):
        second = MLPClassifier(**given, callbacks=[]).fit(X, Y, checkpoint=tmp_path, resume=True)
    assert second.n_iter_ == 3
    assert any((second.coefs_[0] == each).all() for each in seen)


def test_the_estimator_in_a_checkpoint(tmp_path) -> None:
    model = fit("adam", checkpoint=tmp_path)
    loaded = mlpx.load(tmp_path / NAME)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded.get_params() == model.get_params()
    fit("a loss of one's own", checkpoint=tmp_path / "own")
    with pytest.raises(mlpx.ModelFileError, match="is not a usable"):
        mlpx.load(tmp_path / "own" / NAME)


def test_other_fits_are_refused(tmp_path) -> None:
    def crash(estimator):
        raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        MLPClassifier(callbacks=[crash]).fit(X, Y, checkpoint=tmp_path, every=0)
    with pytest.raises(ValueError, match="of a fit that was not complete"):
        MLPClassifier().fit(X, Y, checkpoint=tmp_path)
    for model, x, message in (
        (MLPClassifier(alpha=1.0), X, "alpha was '0.0001' and is '1.0'"),
        (MLPClassifier(), X + 1, "X and y is another"),
        (MLPClassifier(early_stopping=True), X, "early_stopping was 'False' and is 'True'"),
    ):
        with pytest.raises(ValueError, match=f"checkpoint: .* is of another fit: .*{message}"):
            model.fit(x, Y, checkpoint=tmp_path, resume=True)
        assert not hasattr(model, "coefs_")
    with pytest.raises(mlpx.ModelFileError, match="no checkpoint of this kind of fit"):
        MLPRegressor().fit(X, NUMBERS, checkpoint=tmp_path, resume=True)


def test_options_that_cannot_be(tmp_path) -> None:
    for options, kind, message in (
        ({"resume": True}, ValueError, "resume: needs the folder"),
        ({"checkpoint": 5}, TypeError, "checkpoint: expected the name"),
        ({"checkpoint": tmp_path, "every": -1}, ValueError, "every: expected"),
        ({"checkpoint": tmp_path, "resume": "x"}, TypeError, "resume: expected True or False"),
    ):
        with pytest.raises(kind, match=message):
            MLPClassifier().fit(X, Y, **options)
    with pytest.raises(ValueError, match="checkpoint: solver='lbfgs' sees all rows at once"):
        MLPClassifier(solver="lbfgs").fit(X, Y, checkpoint=tmp_path)
    assert os.listdir(tmp_path) == []


KILLED = """
import os, random, signal, sys, time, warnings
import numpy as np, mlpx
warnings.simplefilter("ignore")
folder, n_threads, kills = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
x, y = rng.standard_normal((1500, 20)), rng.integers(0, 3, 1500)
def fit(**options):
    model = mlpx.MLPClassifier((128, 128), batch_norm=True, dropout=0.2, batch_size=64, max_iter=5, early_stopping=True,
        random_state=0, n_threads=n_threads, dtype="float32")
    model.fit(x, y, **options)
    return [w.tobytes() for w in model.coefs_], model.loss_curve_, model.validation_scores_
fit(checkpoint=folder + "/warm", every=0)  # compiles
began = time.perf_counter()
expected = fit()
length = time.perf_counter() - began
chance, killed, rounds, over = random.Random(n_threads), 0, 1, False
while killed < kills or not over:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            done = fit(checkpoint=f"{folder}/{rounds}", every=0, resume=True)
            os.write(writer, b"y" if done == expected else b"n")
        finally:
            os._exit(0)
    os.close(writer)
    if killed < kills:
        time.sleep(length * chance.random())
        os.kill(child, signal.SIGKILL)
    killed += os.waitpid(child, 0)[1] != 0
    answer = os.read(reader, 1)
    os.close(reader)
    assert answer != b"n", "other bits"
    over = answer == b"y"
    rounds += over and killed < kills
print(killed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_killed_at_any_moment(n_threads, tmp_path) -> None:
    code = [sys.executable, "-c", KILLED, str(tmp_path), str(n_threads), "20"]
    done = subprocess.run(code, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 20
