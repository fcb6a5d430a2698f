"""Estimators that several threads look at: each prediction is that of one model, old or new, whatever comes between."""

import copy
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted

from mlpx import MLPClassifier, MLPRegressor

quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def _busy() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(call: Callable[[], Any], n: int = 6) -> list[Any]:
    """Return what ``n`` threads get that call at the same moment."""
    gate = threading.Barrier(n)
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(lambda _: (gate.wait(), call())[1], range(n)))


def _changed(model: Any) -> Any:
    model = copy.deepcopy(model)
    model.predict(X)
    model.coefs_[0] = model.coefs_[0].copy()
    return model


def _on_the_way(model: Any) -> Any:
    model = copy.deepcopy(model)
    model.coefs_ = [w.tolist() for w in model.coefs_]
    return model


WAYS = {
    "loaded": lambda model: pickle.loads(pickle.dumps(model)),
    "copied": copy.deepcopy,
    "changed": _changed,
    "lists": _on_the_way,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("kind", "y", "params"),
    [
        (MLPClassifier, Y, {"hidden_layer_sizes": (64, 64)}),
        (MLPClassifier, Y > 0, {"batch_norm": True}),
        (MLPRegressor, NUMBERS, {"layer_norm": True}),
    ],
    ids=["classes", "two classes", "numbers"],
)
def test_first_predictions_of_several_threads(kind: Any, y: Any, params: dict[str, Any], way: str) -> None:
    model = fitted(kind, y, **params)
    calls = ["gradients", "predict", *(["predict_proba"] if kind is MLPClassifier else [])]
    expected = {name: getattr(WAYS[way](model), name)(X) for name in calls}
    for trial in range(20):
        fresh, name = WAYS[way](model), calls[trial % len(calls)]
        for found in together(lambda fresh=fresh, name=name: getattr(fresh, name)(X)):
            np.testing.assert_array_equal(found, expected[name])
        np.testing.assert_array_equal(fresh.predict(X), expected["predict"])
        fresh.intercepts_[-1][...] = 0.0  # still views of the network
        fresh.coefs_[-1][...] = 0.0
        assert (fresh.predict(X) == fresh.predict(X)[0]).all()


@contextmanager
def readers(call: Callable[[], Any], n: int = 4) -> Iterator[list[Any]]:
    """Let ``n`` threads call until the block ends; the list holds what they got, results and errors."""
    found: list[Any] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            try:
                found.append(call())
            except Exception as error:
                found.append(error)

    threads = [threading.Thread(target=read) for _ in range(n)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        over.set()
        for thread in threads:
            thread.join()


REFUSED = {
    "rows that are no numbers": lambda m: m.partial_fit(np.full((5, 6), np.nan), Y[:5]),
    "a refit": lambda m: m.fit(np.full((5, 6), np.nan), Y[:5]),
    "unknown classes": lambda m: m.partial_fit(X, Y + 7),
    "rows that blow up": lambda m: m.partial_fit(1e200 * X, Y),
}


@pytest.mark.parametrize("way", REFUSED)
def test_refused_calls_take_nothing_from_readers(way: str) -> None:
    model = fitted(solver="sgd", batch_norm=True)
    before = model.predict_proba(X)
    end = time.monotonic() + 0.3
    with readers(lambda: (model.predict_proba(X), model.loss_curve_, model.n_outputs_)) as found:
        while time.monotonic() < end:
            with pytest.raises(ValueError, match=r"NaN|classes|finite"), np.errstate(all="ignore"):
                REFUSED[way](model)
    assert len(found) > 10
    for each in found:
        assert not isinstance(each, Exception), each
        np.testing.assert_array_equal(each[0], before)
    model.partial_fit(X, Y)
    twin = fitted(solver="sgd", batch_norm=True).partial_fit(X, Y)
    np.testing.assert_array_equal(model.predict_proba(X), twin.predict_proba(X))


@quiet
@pytest.mark.parametrize("params", [{}, {"batch_norm": True}, {"warm_start": True, "early_stopping": True}], ids=str)
def test_each_prediction_is_that_of_one_model(params: dict[str, Any]) -> None:
    model, rows = fitted(**params, hidden_layer_sizes=(30, 30)), np.tile(X, (20, 1))
    models = {model.predict_proba(rows).tobytes()}
    end = time.monotonic() + 0.4
    with readers(lambda: model.predict_proba(rows)) as found:
        while time.monotonic() < end:
            (model.fit if params.get("warm_start") else model.partial_fit)(X, Y)
            models.add(model.predict_proba(rows).tobytes())
    seen = {each.tobytes() for each in found}
    assert len(seen) > 1
    assert seen <= models


@quiet
def test_refits_to_other_classes() -> None:
    """Outputs of one network are never given the names of another's classes."""
    names = np.array(["ant", "bee", "cat", "dog", "eel"])
    model = MLPClassifier((8,), max_iter=2, random_state=0)
    tasks = [Y, Y > 0, names[Y], (X[:, :3] > 0).astype(int), names[np.arange(150) % 5]]
    known = set()
    model.fit(X, tasks[0])
    end = time.monotonic() + 0.4
    with readers(lambda: model.predict(X)) as found:
        while time.monotonic() < end:
            for y in tasks:
                model.fit(X, y)
                known.add((model.predict(X).dtype.kind, model.predict(X).tobytes()))
    for each in found:
        assert not isinstance(each, Exception), each
        assert (each.dtype.kind, each.tobytes()) in known


def test_what_a_caller_holds_of_an_earlier_model_stays() -> None:
    model = fitted()
    held, before = model.coefs_[0], model.coefs_[0].copy()
    model.partial_fit(X, Y).partial_fit(X, Y)
    np.testing.assert_array_equal(held, before)
    assert not np.array_equal(model.coefs_[0], before)
    model.coefs_[0][...] = 0.0
    np.testing.assert_array_equal(held, before)


def test_callbacks_see_the_work_and_others_the_model_of_before() -> None:
    model = fitted()
    before, seen = model.predict_proba(X), []

    def look(work: Any) -> bool:
        seen.append(work.predict_proba(X))
        np.testing.assert_array_equal(model.predict_proba(X), before)
        assert len(work.loss_curve_) == work.n_iter_ == len(seen)
        assert len(model.loss_curve_) == 5
        work.mark, model.other = len(seen), "kept"
        return len(seen) == 3

    model.set_params(callbacks=[look]).fit(X, Y)
    np.testing.assert_array_equal(model.predict_proba(X), seen[-1])
    assert (len(seen), model.mark, model.other) == (3, 3, "kept")
