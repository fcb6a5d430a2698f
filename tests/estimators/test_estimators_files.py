"""Estimators as files: every kind comes back as it was, predicts the same bits, and trains on as it would have."""

import json
import os
import pickle
import subprocess
import sys
import warnings
from functools import partial

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning, NotFittedError

import mlpx
from mlpx import MLPClassifier, MLPRegressor, optimizers, schedules
from mlpx.optimizers.full_batch import LBFGS

NAMES = np.array(["ant", "bee", "größe"])
PRIVATE = {"_fitted", "_training", "_label_binarizer", "_random_state", "_metadata_request"}


def quietly(call, *given, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return call(*given, **options)


def again(model, path):
    model.save(path)
    return mlpx.load(path)


def check_equal(a, b) -> None:
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            check_equal(left, right)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            check_equal(a[key], b[key])
    elif isinstance(a, np.random.RandomState):
        check_equal(a.get_state(), b.get_state())
    else:
        assert a == b


def check_same(loaded, model, x=X) -> None:
    """Check that all that is public is the same, and so are predictions, to the bit."""
    assert type(loaded) is type(model)
    assert vars(loaded).keys() - PRIVATE == vars(model).keys() - PRIVATE
    for name in vars(model).keys() - PRIVATE:
        check_equal(vars(loaded)[name], vars(model)[name])
    for method in ("predict", "predict_proba", "decision_function"):
        if hasattr(model, method):
            check_equal(getattr(loaded, method)(x), getattr(model, method)(x))


LABELS = {
    "integers": Y, "small integers": Y.astype("i1"), "unsigned": Y.astype("u2") + 7, "negative": Y - 5,
    "large": Y + 2**62,
    "bools": Y > 0, "floats": Y.astype(float), "float32": Y.astype("f4"), "strings": NAMES[Y],
    "objects": NAMES[Y].astype(object),
    "a list": NAMES[Y].tolist(), "two strings": NAMES[(Y > 0).astype(int)], "one class": np.full(len(Y), "only"),
    "dates": np.array(["2020-01-01", "2021-01-01", "2022-06-01"], "M8[D]")[Y], "a column": Y[:, None],
    "several labels": (X[:, :3] > 0).astype(int), "several bools": X[:, :3] > 0, "big-endian": Y.astype(">i4"),
}  # fmt: skip


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.filterwarnings("ignore:A column-vector y")
def test_classes_of_every_kind(name, path) -> None:
    model = fitted(y=LABELS[name], max_iter=3)
    loaded = again(model, path)
    check_same(loaded, model)
    check_equal(loaded.classes_, model.classes_)
    loaded.partial_fit(X, LABELS[name])
    model.partial_fit(X, LABELS[name])
    check_same(loaded, model)


CLASSIFIERS = {
    "defaults": {},
    "norms": {"batch_norm": True, "dropout": 0.2},
    "layer norms": {"layer_norm": True, "activation": ("gelu", "tanh"), "hidden_layer_sizes": (5, 4)},
    "hinge": {"loss": "hinge", "dtype": "float32"},
    "focal": {"loss": "focal", "focus": 1.5},
    "lbfgs": {"solver": "lbfgs"},
    "an object": {"solver": optimizers.RMSprop(lr=0.01, rho=0.8, clip_norm=1.0)},
    "a full-batch object": {"solver": LBFGS(memory=3)},
    "a schedule": {"learning_rate": schedules.WarmUp(3, schedules.ReduceOnPlateau(patience=1))},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 1.0, "max_iter": 30},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2},
    "a generator": {"random_state": np.random.RandomState(5)},
    "weights": {"class_weight": {0: 1.0, np.int64(1): 2.5, 2: 0.5}},
    "numbers of NumPy": {"alpha": np.float32(1e-3), "max_iter": np.int64(7), "hidden_layer_sizes": np.array([4, 3])},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "infinite patience": {"n_iter_no_change": np.inf, "label_smoothing": 0.1},
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(name, path) -> None:
    model = fitted(**{"max_iter": 5, "random_state": 0} | CLASSIFIERS[name])
    loaded = again(model, path)
    check_same(loaded, model)
    check_equal(loaded.loss_curve_, model.loss_curve_)
    assert list(path.parent.iterdir()) == [path]
    before = path.read_bytes()
    loaded.save(path)
    assert path.read_bytes() == before


REGRESSORS = {
    "defaults": (NUMBERS[:, 0], {}),
    "two outputs": (NUMBERS, {"early_stopping": True}),
    "poisson": (np.abs(NUMBERS[:, 0]), {"loss": "poisson"}),
    "quantiles": (NUMBERS[:, 0], {"loss": "quantile", "quantiles": (0.1, 0.9)}),
    "an object": (NUMBERS[:, 0], {"loss": mlpx.losses.Huber(2.0)}),
    "huber": (NUMBERS[:, 0], {"loss": "huber", "delta": 2.0, "solver": "scaled_conjugate_gradient"}),
}


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors(name, path) -> None:
    y, params = REGRESSORS[name]
    model = fitted(MLPRegressor, y=y, max_iter=5, **params)
    check_same(again(model, path), model)


SOLVERS = ["sgd", "adam", "rmsprop", "rprop", "adadelta", "nesterov", "adamw", "adagrad"]


@pytest.mark.parametrize("solver", SOLVERS)
def test_partial_fit_goes_on_as_it_would_have(solver, path) -> None:
    given = {"solver": solver, "batch_norm": True, "learning_rate": "cosine", "random_state": 3, "dropout": 0.1}
    model = MLPClassifier((6,), **given)
    for _ in range(3):
        model.partial_fit(X, Y, classes=[0, 1, 2])
    loaded = again(model, path)
    for _ in range(3):
        model.partial_fit(X, Y)
        loaded.partial_fit(X, Y)
    assert loaded._training.optimizer.steps == model._training.optimizer.steps == 6
    check_same(loaded, model)


def test_early_stopping_call_by_call_goes_on(path) -> None:
    model = MLPClassifier((6,), early_stopping=True, n_iter_no_change=3, learning_rate_init=0.05, random_state=1)
    model.partial_fit(X, Y, classes=[0, 1, 2])
    loaded = again(model, path)
    for _ in range(40):
        model.partial_fit(X, Y)
        loaded.partial_fit(X, Y)
        if model.stopped_:
            break
    assert model.stopped_
    check_same(loaded, model)
    with pytest.warns(UserWarning, match="early stopping has ended"):
        check_same(again(loaded.partial_fit(X, Y), path), model)


def test_warm_starts_go_on(path) -> None:
    model = fitted(max_iter=4, warm_start=True, warm_start_optimizer=True, random_state=np.random.RandomState(2))
    loaded = again(model, path)
    check_same(quietly(loaded.fit, X, Y), quietly(model.fit, X, Y))


def test_masks(path) -> None:
    mask = np.random.default_rng(0).random((150, 3)) > 0.3
    mask[np.arange(150), Y] = True
    model = fitted()
    quietly(model.fit, X, Y, mask=mask)
    loaded = again(model, path)
    check_same(loaded, model)
    np.testing.assert_array_equal(loaded.predict_proba(X, mask=mask), model.predict_proba(X, mask=mask))


def test_names_of_columns(path) -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    frame = pandas.DataFrame(X, columns=["größe", *"bcdef"])
    model = fitted(x=frame)
    loaded = again(model, path)
    check_same(loaded, model, frame)
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(frame.rename(columns={"b": "x"}))


def test_names_of_columns_without_frames(path) -> None:
    model = fitted()
    model.feature_names_in_ = np.array(["größe", *"bcdef"], dtype=object)
    check_equal(again(model, path).feature_names_in_, model.feature_names_in_)


def test_weights_put_there_by_hand(path) -> None:
    model = fitted()
    model.coefs_[0][...] = 0.5
    check_same(again(model, path), model)
    model.coefs_ = [w.copy() * 2 for w in model.coefs_]
    check_same(again(model, path), model)
    other = MLPRegressor(hidden_layer_sizes=(3,))
    other.coefs_, other.intercepts_ = [np.ones((2, 3)), np.ones((3, 1))], [np.zeros(3), np.zeros(1)]
    other.n_outputs_, other.out_activation_ = 1, "identity"
    loaded = again(other, path)
    np.testing.assert_array_equal(loaded.predict([[1.0, 2.0]]), other.predict([[1.0, 2.0]]))


def test_parameters_set_after_the_fit_are_kept_and_change_no_prediction(path) -> None:
    model = fitted(activation="tanh").set_params(activation="relu", alpha=0.5)
    loaded = again(model, path)
    check_same(loaded, model)
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted(activation="tanh").predict_proba(X))


def test_routing(path) -> None:
    with config_context(enable_metadata_routing=True):
        model = fitted().set_fit_request(sample_weight=True).set_score_request(sample_weight="weights")
    loaded = again(model, path)
    for method in ("fit", "score", "predict"):
        expected = getattr(model._metadata_request, method).requests if method != "predict" else {}
        requests = getattr(loaded._metadata_request, method).requests
        assert {k: v for k, v in requests.items() if v is not None} == {
            k: v for k, v in expected.items() if v is not None
        }


def test_a_file_says_what_it_is(path) -> None:
    fitted(y=NAMES[Y], max_iter=12).save(path)
    length = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + length])
    inside = json.loads(header["__metadata__"]["mlpx"])
    assert inside["library"] == mlpx.__version__
    assert inside["kind"] == "MLPClassifier"
    assert {"0.w", "0.b", "1.w", "1.b", "state.training.watch.losses", "state.training.moments.0.0.w"} <= header.keys()


def test_a_network_s_file_needs_no_scikit_learn(path) -> None:
    mlpx.MLP([4, 3]).save(path)
    code = "import sys, mlpx; mlpx.load(sys.argv[1]); print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    model = fitted()
    model.save(path)
    code = "import sys, mlpx; print(type(mlpx.load(sys.argv[1])).__name__)"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "MLPClassifier\n"


def test_estimators_for_a_gpu_load_without_one(path) -> None:
    model = fitted()
    model.device = "cuda"
    loaded = pickle.loads(pickle.dumps(model))  # whose network is still to be made, on the device
    loaded.device = "cpu"
    loaded._network()
    loaded.device = "cuda"
    loaded._fitted.device = "cuda"
    third = again(loaded, path)
    third.set_params(device="cpu")
    check_same(third, model.set_params(device="cpu"))


# --- what cannot be saved -------------------------------------------------------------------------------------------


class Mine(MLPRegressor):
    """A class of a user's own."""


def relative(y_true, output):
    e = output - y_true
    return np.mean(e * e), 2 * e / e.size


REFUSED = {
    "not fitted": (MLPClassifier, NotFittedError, "not fitted"),
    "callbacks": (partial(fitted, callbacks=[lambda e: False]), TypeError, "callbacks: are code"),
    "loss": (partial(fitted, MLPRegressor, y=NUMBERS, loss=relative), ValueError, "loss: a function of your own"),
    "class": (partial(fitted, Mine, y=NUMBERS), TypeError, "Mine is a class of your own"),
    "parameter": (lambda: fitted().set_params(alpha=-1.0), ValueError, "'alpha'"),
    "schedule": (lambda: fitted(learning_rate=Odd()), TypeError, r"parameters\.learning_rate: .*Odd.*cannot be saved"),
}


class Odd(schedules.Schedule):
    """A schedule of a user's own."""

    def factor(self, step: int, n_steps: int, epoch: int) -> float:
        return 1.0


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_saved(name, path) -> None:
    make, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        make().save(path)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("bad", [None, 5, b"name"])
def test_paths_of_other_kinds(bad) -> None:
    with pytest.raises(TypeError, match="path: expected the name of a file"):
        fitted().save(bad)
