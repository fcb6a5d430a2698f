"""The estimators: whole fits against scikit-learn's, and what they add to the library's own fit and predict."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np
import pytest

import mlpx
from benchmarks.measure import interleave, quick
from benchmarks.nets import Net
from benchmarks.peers import Calls, load
from mlpx.optimizers import Adam

pytestmark = pytest.mark.filterwarnings("ignore")  # few epochs do not converge, as all fits would say
datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed (extra bench)")


@dataclass(frozen=True)
class Fit:
    """A fit of an estimator.

    Parameters
    ----------
    name : str
        What tables call it.
    kind : str
        The estimators' name.
    data : callable
        Returns (x, y) of some rows at most.
    net : Net
        The layers' widths and the rows of a step.
    params : dict
        Of the estimators, beside their defaults.
    """

    name: str
    kind: str
    data: Callable[[int], tuple[Any, Any]]
    net: Net
    params: dict[str, Any] = field(default_factory=dict)


def _digits(rows: int) -> tuple[Any, Any]:
    x, y = datasets.load_digits(return_X_y=True)
    return x[:rows], y[:rows]


def _classes(rows: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((min(rows, 20_000), 16))
    return x, (x @ rng.standard_normal((16, 26))).argmax(axis=1)


def _numbers(rows: int) -> tuple[Any, Any]:
    x = np.random.default_rng(0).standard_normal((min(rows, 100_000), 50))
    return x, x[:, 0] * x[:, 1] + np.sin(2.0 * x[:, 2])


WIDE = {"hidden_layer_sizes": (256, 256)}
FITS = (
    Fit("digits", "MLPClassifier", _digits, Net((64, 100, 10), 200, 9)),
    # Few epochs: a whole fit takes hundreds of them, and minutes.
    Fit("20000x16 in 26", "MLPClassifier", _classes, Net((16, 256, 256, 26), 200, 100), WIDE | {"max_iter": 2}),
    Fit(
        "100000x50 regression",
        "MLPRegressor",
        _numbers,
        Net((50, 256, 256, 1), 256, 391),
        WIDE | {"max_iter": 1, "batch_size": 256},
    ),
)


def _fitter(estimators: Any, fit: Fit, x: Any, y: Any, **params: Any) -> Callable[[], Any]:
    return lambda: getattr(estimators, fit.kind)(random_state=0, **fit.params, **params).fit(x, y)


def _sklearn(fit: Fit, dtype: str, x: Any, y: Any) -> Callable[[], Any]:
    return _fitter(load("sklearn.neural_network", "scikit-learn"), fit, x.astype(dtype), y)


def _same_curves(calls: Calls) -> None:
    """Raise unless all fits with the same dtype reach the same losses."""
    for dtype, tolerance in (("", 1e-6), (" float32", 1e-2)):
        ours = calls[f"mlpx{dtype}"]()
        assert not ours._net.plan_declined, f"mlpx: no plan: {ours._net.plan_declined}"
        if f"sklearn{dtype}" in calls:
            theirs = calls[f"sklearn{dtype}"]()
            assert ours.n_iter_ == theirs.n_iter_, f"{dtype} epochs: mlpx {ours.n_iter_}, sklearn {theirs.n_iter_}"
            np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=tolerance, err_msg=dtype)


@pytest.mark.parametrize("fit", [pytest.param(fit, id=fit.name) for fit in FITS])
def test_fit(fit: Fit, compare) -> None:
    """A whole ``fit``, checks of the data and first weights included, in the data's float64 and in float32."""
    x, y = fit.data(400 if quick() else 10**6)
    fit = replace(fit, params=fit.params | {"max_iter": 2}) if quick() else fit
    calls = Calls(mlpx=_fitter(mlpx, fit, x, y))
    calls["mlpx float32"] = _fitter(mlpx, fit, x, y, dtype="float32")
    calls.add("sklearn", lambda: _sklearn(fit, "float64", x, y))
    calls.add("sklearn float32", lambda: _sklearn(fit, "float32", x, y))
    _same_curves(calls)
    square = np.random.default_rng(0).standard_normal((64 if quick() else 1024,) * 2)
    product = np.empty_like(square)
    # The bound: the fit's products in float64 on all cores, as if nothing else had to be done.
    calls["gemm"] = lambda: np.matmul(square, square, out=product)
    flops = fit.net.flops * (len(x) / fit.net.batch) * calls["mlpx"]().n_iter_
    compare(f"fit {fit.name}", calls, per={"gemm": 2.0 * len(square) ** 3 / flops})


STEPS = (Net((4, 16, 3), 32, 100, 10), Net((64, 128, 10), 32, 100, 10), Net((64, 100, 10), 200, 100, 10))


@pytest.mark.parametrize("net", [pytest.param(net, id=f"{net.name} batch {net.batch}") for net in STEPS])
def test_over_net_fit(net: Net, compare) -> None:
    """A fit of 1,000 steps by the estimator and by ``net.fit`` on one thread; the same network, data and optimiser."""
    name, net = f"1000 steps {net.name} batch {net.batch}", net.small() if quick() else net
    x, y = net.data
    fit = Fit(name, "MLPClassifier", lambda rows: (x, y), net, {"max_iter": net.epochs, "tol": 0.0})
    settings = {"hidden_layer_sizes": net.sizes[1:-1], "batch_size": net.batch, "n_iter_no_change": 1000}

    def by_net() -> float:
        model = net.build()
        options = {"epochs": net.epochs, "batch_size": net.batch, "optimizer": Adam(lr=1e-3)}
        return model.fit(x, y, progress=False, n_threads=1, **options).loss[-1]

    calls = Calls(mlpx=_fitter(mlpx, fit, x, y, n_threads=1, **settings))
    calls["net.fit"] = by_net
    assert calls["mlpx"]().loss_curve_[-1] == pytest.approx(by_net(), rel=0.5)  # other weights, other orders
    rounds = None if quick() else 33  # a difference of a few per cent takes more of them
    compare(name, {}, samples=interleave(calls, rounds))


def test_one_row(compare) -> None:
    """One row through 64-128-10 by ``predict_proba`` and by the network's own ``predict``."""
    net = Net((64, 128, 10), 32, 10)
    x, y = net.data
    model = _fitter(mlpx, Fit("", "MLPClassifier", lambda rows: (x, y), net, {"max_iter": 1}), x, y)()
    row = x[:1].copy()
    calls = {"mlpx": lambda: model.predict_proba(row), "net.predict": lambda: model._net.predict(row)}
    np.testing.assert_array_equal(calls["mlpx"](), calls["net.predict"]())
    samples: dict[str, list[float]] = {name: [] for name in calls}
    count = 10 if quick() else 500
    for _ in range(2 if quick() else 20):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(count):
                call()
            samples[name].append((time.perf_counter() - began) / count)
    beyond = (median(samples["mlpx"]) - median(samples["net.predict"])) * 1e6
    compare("one row 64-128-10", {}, samples=samples, values={"beyond net.predict us": beyond})
