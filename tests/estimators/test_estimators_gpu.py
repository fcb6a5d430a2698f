"""The estimators' fused steps on a GPU, on the stand-in with the real kernels: the host's numbers, one graph a step."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted

from mlpx import MLPClassifier, MLPRegressor, optimizers
from mlpx.estimators.steps import Steps
from mlpx.network import host_rows
from mlpx.ops.dispatch import using_fused
from mlpx.steps import gpu, gpu_feed
from mlpx.steps.gpu import GraphSteps

TWO = Y > 0


@pytest.fixture(autouse=True)
def device(cupy_standin: Any) -> Iterator[Any]:
    with using_fused("auto"):
        yield cupy_standin


def both(device: Any, kind: Any = MLPClassifier, y: Any = Y, x: Any = X, **params: Any) -> tuple[Any, Any]:
    """Return an estimator that learnt on the host, and its twin that learnt by graphs."""
    host, before = fitted(kind, y=y, x=x, **params), device.counters.copy()
    there = fitted(kind, y=y, x=x, device="cuda", **params)
    assert not there._net.plan_declined, there._net.plan_declined
    assert (device.counters - before).graphs > 0
    return host, there


def check_same(host: Any, there: Any, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(there.loss_curve_, host.loss_curve_, rtol=tolerance)
    for a, b in zip(there.coefs_ + there.intercepts_, host.coefs_ + host.intercepts_, strict=True):
        np.testing.assert_allclose(a.get(), b, rtol=0, atol=1e2 * tolerance * np.abs(b).max())


@pytest.mark.parametrize(
    ("kind", "y", "params"),
    [
        (MLPClassifier, Y, {"batch_size": 32, "alpha": 0.1}),
        (MLPClassifier, Y, {"batch_size": 32, "alpha": 0.0, "epsilon": 1e-3, "batch_norm": True}),
        (MLPClassifier, Y, {"solver": "sgd", "learning_rate": "invscaling", "sample_weight": np.linspace(0, 2, 150)}),
        (MLPClassifier, TWO, {"batch_size": 32, "alpha": 0.3, "early_stopping": True}),
        (MLPClassifier, TWO, {"loss": "hinge", "solver": optimizers.RMSprop(lr=0.01, l2=0.1)}),
        (MLPClassifier, (X[:, :3] > 0).astype(int), {"batch_size": 40, "class_weight": None}),
        (MLPClassifier, Y, {"loss": "focal", "dropout": 0.3, "layer_norm": True}),
        (MLPClassifier, Y, {"mask": (np.arange(3) != 2) | (Y[:, None] == 2), "class_weight": "balanced"}),
        (MLPClassifier, Y, {"solver": "lbfgs", "alpha": 0.1, "batch_norm": True}),
        (MLPClassifier, Y, {"solver": "rprop", "layer_norm": True, "clip_norm": 0.5}),
        (MLPRegressor, NUMBERS, {"batch_size": 50, "alpha": 0.1, "learning_rate": "cosine"}),
        (MLPRegressor, np.exp(NUMBERS[:, 0]), {"loss": "poisson", "sample_weight": np.linspace(0.1, 2, 150)}),
    ],
)
def test_the_same_numbers_as_on_the_host(device: Any, kind: Any, y: Any, params: dict[str, Any]) -> None:
    check_same(*both(device, kind, y, **params))


def test_float32(device: Any) -> None:
    check_same(*both(device, x=X.astype(np.float32), batch_size=32, alpha=0.1), tolerance=2e-5)


@pytest.mark.parametrize("y", [Y, TWO, (X[:, :2] > 0).astype(int)], ids=["classes", "two", "labels"])
def test_losses_of_clipped_probabilities(device: Any, y: Any) -> None:
    """As scikit-learn reports them: no row's loss above -log eps, though logits are in the hundreds."""
    wide = {"x": 1e3 * X, "solver": "sgd", "learning_rate_init": 1e-3, "batch_size": 50, "max_iter": 3, "alpha": 0.0}
    host, there = both(device, y=y, **wide)
    check_same(host, there, tolerance=1e-7)
    assert 1.0 < host.loss_curve_[0] < 40.0


def test_a_slice_of_steps_is_graphs_and_nothing_comes_to_the_host_within_it(device: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(gpu, "SLICE", 1e9)  # an epoch is a slice, after the first
    used = []
    fitted(max_iter=1, device="cuda")  # looks for a GPU
    for epochs in (2, 5):
        before = device.counters.copy()
        fitted(max_iter=epochs, batch_size=2, shuffle=False, device="cuda")
        used.append(device.counters - before)
    more = used[1] - used[0]  # three epochs of 75 steps
    assert more.kernels == 0
    assert 3 * 75 // 16 <= more.graphs <= 3 * 75
    assert more.to_host == 3 * 4  # losses, penalties, clock, finite weights or not: an epoch's, not a step's
    assert more.to_device == 3 * 3  # order, numbers of each step, clock


def test_no_penalty_no_launch_for_it(device: Any) -> None:
    from mlpx.estimators.weights import backend_for

    assert backend_for("cuda", X).name == "cupy"
    lengths = []
    for alpha in (0.0, 0.1):
        model = fitted(device="cuda", max_iter=1)
        xp = model._net.backend.xp
        taken = Steps(model._net, xp.asarray(X), xp.asarray(Y), None, 50, model._training.optimizer, alpha)
        assert isinstance(taken.taker, GraphSteps)
        lengths.append(len(taken.taker.runs[50][0][0].launches))
    assert lengths[1] == lengths[0] + 1


def test_rows_in_any_layout(device: Any) -> None:
    import cupy

    host = fitted()
    for rows in (np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2]):
        there = fitted(x=cupy.asarray(rows))
        assert not there._net.plan_declined
        check_same(host, there)


@pytest.mark.parametrize(
    "params", [{}, {"early_stopping": True}, {"solver": "lbfgs"}, {"solver": "conjugate_gradient"}]
)
def test_rows_too_many_for_the_device_stream_through_it(monkeypatch: Any, device: Any, params: dict[str, Any]) -> None:
    resident = fitted(device="cuda", batch_size=16, **params)
    monkeypatch.setattr(host_rows, "SHARE", 0.0)
    monkeypatch.setattr(gpu_feed, "PIECE", 32 * 6 * 8)  # two batches at a time
    streamed = fitted(device="cuda", batch_size=16, **params)
    assert not streamed._net.plan_declined
    np.testing.assert_allclose(streamed.loss_curve_, resident.loss_curve_, rtol=1e-12)
    np.testing.assert_allclose(streamed.coefs_[0].get(), resident.coefs_[0].get(), rtol=1e-9, atol=1e-12)


def test_call_by_call(device: Any, monkeypatch: Any) -> None:
    """Calls of one size share their graphs, whatever rows they bring."""
    import cupy

    captured, begin = [], GraphSteps.__init__
    monkeypatch.setattr(GraphSteps, "__init__", lambda self, *a, **k: captured.append(a) or begin(self, *a, **k))
    host, there = (MLPClassifier((6,), batch_size=20, random_state=0, device=where) for where in ("cpu", "cuda"))
    for part in (slice(0, 50), slice(50, 100), slice(100, 150), slice(0, 150), slice(0, 150)):
        rows = cupy.asarray(X[part])
        host.partial_fit(X[part], Y[part], classes=[0, 1, 2])
        there.partial_fit(rows, Y[part], classes=[0, 1, 2])
        np.testing.assert_array_equal(rows.get(), X[part])
    assert not there._net.plan_declined
    assert len(captured) == 2
    check_same(host, there)


def test_what_has_no_kernels_goes_layer_by_layer(device: Any) -> None:
    def squared(y_true: Any, output: Any) -> Any:
        e = output - y_true
        return (e * e).mean(), 2 * e / e.size

    host, there = (fitted(MLPRegressor, NUMBERS, loss=squared, device=where) for where in ("cpu", "cuda"))
    assert "custom" in there._net.plan_declined
    check_same(host, there)


@pytest.mark.parametrize("at", [0, 75, 149])
def test_a_fit_that_blows_up_leaves_the_estimator_as_it_was(device: Any, at: int) -> None:
    rows, wild = X.copy(), NUMBERS.copy()
    wild[at] = 1e200
    model = fitted(MLPRegressor, NUMBERS, device="cuda", solver="sgd", warm_start=True, batch_size=10, shuffle=False)
    before = [w.get() for w in model.coefs_]
    with pytest.raises(ValueError, match="non-finite"):
        model.fit(rows, wild)
    for w, old in zip(model.coefs_, before, strict=True):
        np.testing.assert_array_equal(w.get(), old)
