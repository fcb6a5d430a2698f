"""Several epochs as one call into compiled code: what a fit leaves is what it leaves epoch by epoch, bit for bit."""

import signal
import warnings

import numpy as np
import pytest
from estimators_kit import NUMBERS, X, Y, fitted

import mlpx
from mlpx import MLPClassifier, MLPRegressor, schedules
from mlpx.optimizers import SGD, Adam
from mlpx.steps import cpu
from mlpx.steps.cpu import PlanSteps

pytestmark = pytest.mark.usefixtures("many_cores")


@pytest.fixture(autouse=True)
def _compiled():
    """A call that waits for the compiler seems to be slow, and the next one is then short."""
    trained(False, epochs=2)[1]()


@pytest.fixture
def calls(monkeypatch):
    """Return a list that gets the number of steps of each call into compiled code."""
    made, call = [], PlanSteps._call

    def counted(self, pool, threads, first, rows, changing):
        made.append(changing.shape[1])
        return call(self, pool, threads, first, rows, changing)

    monkeypatch.setattr(PlanSteps, "_call", counted)
    return made


@pytest.fixture
def press(monkeypatch):
    """Press Ctrl-C, once, in the middle of the first call into compiled code that takes several epochs."""
    call, pressed = PlanSteps._call, []

    def pressing(self, pool, threads, first, rows, changing):
        if changing.shape[1] > 3 and not pressed:
            pressed.append(first)
            signal.raise_signal(signal.SIGINT)
        return call(self, pool, threads, first, rows, changing)

    monkeypatch.setattr(PlanSteps, "_call", pressing)


def look(seen) -> None:
    """Be a callback or a function of an estimator, so that each epoch is a call of its own."""


# --- networks ---------------------------------------------------------------------------------------------------------


def trained(watched, epochs=40, rows=150, dropout=0.0, **options):
    net = mlpx.MLP([6, 5, 3], dropout=dropout, dtype="float64", seed=1)
    settings = {"epochs": epochs, "batch_size": 50, "progress": False, "callbacks": [look] if watched else []}
    return net, lambda: net.fit(X[:rows], Y[:rows], **settings, **options)


@pytest.mark.parametrize("rows", [150, 149, 101], ids=["whole batches", "the last step has 49 rows", "it has one"])
@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adam", "dropout": 0.3},
        {"optimizer": Adam(schedule="cosine", clip_norm=0.1), "sample_weight": np.linspace(0.0, 1.0, 150)},
        {"optimizer": SGD(schedule=schedules.Step(every=3)), "shuffle": False},
    ],
    ids=["dropout", "cosine, clipping, weights", "step"],
)
def test_a_network(options, rows, calls) -> None:
    found, made = [], []
    weight = options.get("sample_weight", np.ones(150))[:rows]
    for watched in (True, False):
        if isinstance(options["optimizer"], mlpx.optimizers.Optimizer):
            options["optimizer"].forget()
        net, fit = trained(watched, rows=rows, **options | {"sample_weight": weight})
        history = fit()
        found.append([net.parameters, history.loss, history.learning_rate, history.steps, len(history.seconds)])
        made.append(len(calls))
    for alone, together in zip(*found, strict=True):
        np.testing.assert_array_equal(together, alone)
    assert made[0] >= 40
    assert made[1] - made[0] < 20
    assert sum(calls) == 240


@pytest.mark.parametrize(
    "options",
    [{"optimizer": SGD(schedule=schedules.ReduceOnPlateau(patience=1))}, {"validation": 0.4}],
    ids=["a schedule that watches the loss", "validation"],
)
def test_networks_that_something_looks_at_between_epochs(options, calls) -> None:
    trained(False, **options)[1]()
    assert len(calls) >= 40


@pytest.mark.parametrize("layers", [{"norm": "batch"}, {"dropout": 0.3}], ids=["batch norm", "dropout"])
@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("at_once", [10**6, 6], ids=["several epochs a call", "an epoch and a half"])
def test_several_threads_and_a_shorter_last_step(layers, n_threads, at_once, calls, monkeypatch) -> None:
    monkeypatch.setattr(cpu, "WORTH_THREADS", 0.0)
    time = property(lambda steps: cpu.SLICE / at_once, lambda steps, measured: None)
    monkeypatch.setattr(PlanSteps, "seconds_per_step", time, raising=False)
    found, rng = [], np.random.default_rng(0)
    x, y = rng.standard_normal((310, 20)), rng.integers(0, 3, 310)
    for count in (1, 7):
        monkeypatch.setattr(PlanSteps, "together", lambda steps, most, count=count: min(count, most))
        net = mlpx.MLP([20, 40, 30, 3], seed=1, **layers)
        options = {"batch_size": 100, "deterministic": True, "n_threads": n_threads, "progress": False}
        history = net.fit(x, y, epochs=21, optimizer=Adam(lr=0.01, clip_norm=1.0), **options)
        found.append([net.parameters, net.buffers.statistics, history.loss])
    for alone, together in zip(*found, strict=True):
        np.testing.assert_array_equal(together, alone)
    assert sum(calls) == 2 * 21 * 4
    assert max(calls) == min(at_once, 28)


@pytest.mark.parametrize("batch_size", [75, 80])
@pytest.mark.parametrize("lr", [0.5, 3.0, 30.0, 1e3, 1e6, 1e20])
def test_a_divergence(lr, batch_size, calls) -> None:
    found = []
    for watched in (True, False):
        net = mlpx.MLP([6, 5, 2], "leaky_relu", "linear", seed=1)
        options = {"batch_size": batch_size, "optimizer": SGD(lr=lr), "callbacks": [look] if watched else []}
        with pytest.raises(mlpx.DivergenceError) as caught:
            net.fit(X, 10 * NUMBERS, epochs=3000, progress=False, **options)
        error = caught.value
        found.append([net.parameters, error.history.loss, error.step, error.epoch])
    for alone, together in zip(*found, strict=True):
        np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("epochs", [5000, 2])
def test_ctrl_c_in_a_network_s_fit(epochs, press) -> None:
    net, fit = trained(False, epochs=epochs)
    with pytest.raises(mlpx.TrainingInterrupted) as caught:
        fit()
    history = caught.value.history
    assert history.epochs > 1
    assert history.steps == 3 * history.epochs
    assert f"with {history.epochs} epochs complete" in str(caught.value)
    again, fit = trained(True, epochs=history.epochs)
    assert fit().loss == history.loss
    np.testing.assert_array_equal(net.parameters, again.parameters)


# --- estimators -------------------------------------------------------------------------------------------------------

CURVES = ("loss_curve_", "n_iter_", "t_", "best_loss_", "loss_")


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (MLPClassifier, {}),
        (MLPClassifier, {"tol": 0.05, "n_iter_no_change": 4, "max_iter": 500}),
        (MLPClassifier, {"n_iter_no_change": np.inf, "shuffle": False}),
        (MLPClassifier, {"learning_rate": "cosine", "dropout": 0.2}),
        (MLPClassifier, {"alpha": 1.0, "class_weight": {0: 1.0, 1: 0.3, 2: 2.0}, "clip_norm": 0.1}),
        (MLPRegressor, {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 2}),
        (MLPRegressor, {"loss": "poisson"}),
    ],
)
@pytest.mark.parametrize("rows", [150, 149, 101], ids=["whole batches", "the last step has 49 rows", "it has one"])
def test_an_estimator(kind, params, rows, calls) -> None:
    y, found, made = (np.abs(NUMBERS) if kind is MLPRegressor else Y), [], []
    for callbacks in ([look], None):
        drawn = np.random.RandomState(3)
        settings = {"batch_size": 50, "max_iter": 40, "random_state": drawn, "callbacks": callbacks, **params}
        model = fitted(kind, y[:rows], X[:rows], **settings)
        found.append([*model.coefs_, *(getattr(model, name) for name in CURVES), drawn.randint(10**9)])
        made.append(len(calls))
    for alone, together in zip(*found, strict=True):
        np.testing.assert_array_equal(together, alone)
    assert made[0] >= len(model.loss_curve_)
    assert made[1] - made[0] < 0.7 * made[0]


def test_the_rate_that_changes_each_epoch_is_used(calls) -> None:
    fitted(solver="sgd", learning_rate="invscaling", batch_size=50, max_iter=20)
    assert len(calls) >= 20


@pytest.mark.parametrize("max_iter", [5000, 2])
def test_ctrl_c_in_an_estimator_s_fit(max_iter, press) -> None:
    params = {"batch_size": 50, "n_iter_no_change": 10**6}
    with pytest.warns(UserWarning, match="interrupted by user"):
        stopped = fitted(max_iter=max_iter, **params)
    n = stopped.n_iter_
    assert len(stopped.loss_curve_) == n > 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = fitted(max_iter=n, callbacks=[look], **params)
    np.testing.assert_array_equal(stopped.coefs_[0], again.coefs_[0])
