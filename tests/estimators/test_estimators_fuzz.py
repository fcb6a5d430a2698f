"""Sequences of calls drawn by chance, against scikit-learn's estimators: what users see agrees after each of them."""

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

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
N, CALLS = 60, 8
DATA = np.random.default_rng(1)
X = np.where(DATA.random((N, 5)) < 0.3, 0.0, DATA.standard_normal((N, 5)))
TARGETS = {
    "classes": np.digitize(X[:, 0] + X[:, 1] * X[:, 2], [-0.4, 0.4]),
    "two": np.where(X[:, 0] - X[:, 1] > 0, "yes", "no"),
    "labels": (X[:, :3] > 0).astype(int),
    "number": X[:, 0] * 2 - np.sin(X[:, 1]),
    "numbers": X[:, :2] * [1.0, 3.0],
    "counts": DATA.poisson(np.exp(0.5 * X[:, 0])),
}


class Pair:
    """An estimator of scikit-learn's and one of ours, to which the same is done."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.log = rng, list[str]()
        self.target = str(rng.choice(list(TARGETS)))
        self.classifies = self.target in ("classes", "two", "labels")
        params = {
            "hidden_layer_sizes": self.one_of((), (6,), (7, 4)), "activation": self.one_of("relu", "tanh", "logistic"),
            "solver": self.one_of("adam", "sgd"), "alpha": self.one_of(0.0, 1e-3, 0.3), "max_iter": 4,
            "batch_size": self.one_of("auto", 7, 20), "shuffle": self.one_of(True, False),
            "learning_rate": self.one_of("constant", "invscaling", "adaptive"), "warm_start": self.one_of(True, False),
            "tol": self.one_of(0.0, 1e-4, 0.5), "n_iter_no_change": self.one_of(1, 10), "learning_rate_init": 0.01,
            "random_state": int(rng.integers(99)),
        }  # fmt: skip
        if self.target == "counts":
            params["loss"] = "poisson"
        name = "MLPClassifier" if self.classifies else "MLPRegressor"
        self.models = [getattr(module, name)(**params) for module in (peers, mlpx)]
        self.log.append(repr(self.models[1]))

    def one_of(self, *values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def each(self, call: Callable[[Any], Any]) -> list[Any]:
        """Return what both make of a call, each an error where it raises one."""
        found = []
        for model in self.models:
            try:
                found.append(call(model))
            except (ValueError, AttributeError) as error:
                found.append(error)
        assert isinstance(found[0], Exception) == isinstance(found[1], Exception), found
        return found

    def rows(self) -> tuple[Any, Any]:
        """Return some rows, among which every class is, dense or sparse."""
        y = TARGETS[self.target]
        while True:
            rows = self.rng.permutation(N)[: int(self.rng.integers(20, N + 1))]
            if not self.classifies or y.ndim > 1 or np.unique(y[rows]).size == np.unique(y).size:
                break
        x = X[rows]
        return (sparse.csr_array(x) if self.rng.random() < 0.3 else x), y[rows]

    def announced(self) -> dict[str, Any]:
        """Return the classes, for the first call."""
        if not self.classifies or hasattr(self.models[0], "classes_"):
            return {}
        return {"classes": np.arange(3) if self.target == "labels" else np.unique(TARGETS[self.target])}

    # --- what may be done -------------------------------------------------------------------------------------------

    def fit(self) -> None:
        x, y = self.rows()
        weight = self.one_of(None, self.rng.uniform(0.2, 3.0, len(y)))
        self.each(lambda model: model.fit(x, y, sample_weight=weight))

    def partial_fit(self) -> None:
        x, y = self.rows()
        given = self.announced() | {"sample_weight": self.one_of(None, self.rng.uniform(0.2, 3.0, len(y)))}
        self.each(lambda model: model.partial_fit(x, y, **given))

    def refused(self) -> None:
        """Rows that are none, of another width, or fewer targets than rows; scikit-learn's may be left half changed."""
        x, y = X.copy(), TARGETS[self.target]
        kind = self.one_of("NaN", "width", "length")
        if kind == "NaN":
            x[3, 2] = np.nan
        x, y = (x[:, :3] if kind == "width" else x), (y[:9] if kind == "length" else y)
        if kind == "width" and not hasattr(self.models[0], "coefs_"):
            return  # which a first call would take
        call = self.one_of("fit", "partial_fit") if kind != "width" else "partial_fit"
        before = self.seen(self.models[1]) if hasattr(self.models[1], "coefs_") else None
        given = self.announced() if call == "partial_fit" else {}
        theirs = copy.deepcopy(self.models[0])
        found = self.each(lambda model: getattr(model, call)(x, y, **given))
        assert isinstance(found[1], ValueError), found
        self.models[0] = theirs
        if before is None:
            assert not hasattr(self.models[1], "coefs_")
        else:
            self.same(before, self.seen(self.models[1]), 0.0)

    def set_params(self) -> None:
        change = self.one_of(
            {"alpha": 0.05}, {"max_iter": 2}, {"tol": 0.1}, {"shuffle": False}, {"batch_size": 11}, {"warm_start": True}
        )
        self.each(lambda model: model.set_params(**change))

    def copied(self) -> None:
        way = self.one_of(copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)))
        self.models = [way(model) for model in self.models]

    def written(self) -> None:
        """Numbers written into the arrays, or arrays put into the lists."""
        if not hasattr(self.models[0], "coefs_"):
            return
        name, in_place = self.one_of("coefs_", "intercepts_"), self.one_of(True, False)
        layer = int(self.rng.integers(len(self.models[0].coefs_)))
        for model in self.models:
            arrays = getattr(model, name)
            if in_place:
                arrays[layer][...] *= 0.75
            else:
                arrays[layer] = 0.75 * arrays[layer]

    # --- what is to be seen -----------------------------------------------------------------------------------------

    def seen(self, model: Any) -> dict[str, Any]:
        names = ("n_iter_", "t_", "n_outputs_", "loss_", "best_loss_", "loss_curve_", "coefs_", "intercepts_")
        found = {name: copy.deepcopy(getattr(model, name)) for name in names}
        for name in ("predict", *(["predict_proba"] if self.classifies else [])):
            found[name] = getattr(model, name)(X)
        return found

    def same(self, one: dict[str, Any], other: dict[str, Any], rtol: float) -> None:
        for name, expected in one.items():
            values, others = (v if isinstance(v, list) and "s_" in name else [v] for v in (expected, other[name]))
            for a, b in zip(values, others, strict=True):
                if np.asarray(a).dtype.kind in "US":
                    np.testing.assert_array_equal(a, b, err_msg=name)
                else:
                    np.testing.assert_allclose(b, a, rtol=rtol, atol=1e-2 * rtol, err_msg=name)

    def compare(self) -> None:
        fitted = [hasattr(model, "coefs_") for model in self.models]
        assert fitted[0] == fitted[1]
        if fitted[0]:
            self.same(*(self.seen(model) for model in self.models), 1e-6)


STEPS = [Pair.fit, Pair.partial_fit, Pair.partial_fit, Pair.refused, Pair.set_params, Pair.copied, Pair.written]


def run(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pair = Pair(rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="Got `batch_size` less than 1")
        for _ in range(CALLS):
            step = STEPS[int(rng.integers(len(STEPS)))]
            pair.log.append(step.__name__)
            try:
                step(pair)
                pair.compare()
            except Exception as error:
                raise AssertionError(f"seed {seed}: {', '.join(pair.log)}") from error


@pytest.mark.parametrize("seed", range(15))
def test_calls_drawn_by_chance(seed: int) -> None:
    run(seed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_many_more_of_them(part: int) -> None:
    for seed in range(1000 + 50 * part, 1050 + 50 * part):
        run(seed)
