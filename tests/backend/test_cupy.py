"""The library on the stand-in for CuPy, reference by reference: what works on NumPy works there, with the same numbers,
and nothing crosses between host and device unasked."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import cases
from compare import check_close, exact_result
from odd_arguments import every_call, on_a_device, plain
from standin import installed
from standin.install import to_device

import mlpx
from mlpx import layers, losses, ops, optimizers
from mlpx.ops.dispatch import using_fused


@pytest.fixture
def cupy_standin() -> Iterator[Any]:
    """The stand-in as it is everywhere: references need no kernels, and so no g++."""
    with installed() as device:
        yield device


@pytest.fixture
def cupy(cupy_standin: Any) -> Iterator[Any]:
    import cupy

    with mlpx.using_backend("cupy"), using_fused("off"):
        yield cupy


def on_host(result: Any) -> Any:
    """Return a result on the host, having seen that all of it lies on the device."""
    if isinstance(result, tuple):
        return tuple(map(on_host, result))
    if result is None:
        return None
    assert type(result).__module__ == "cupy", f"{type(result)} is no array of the device"
    return result.get()


def sample(name: str) -> list[Any]:
    """Return a dozen of an op's cases, spread over them, and its first for each dtype."""
    every = cases(name)
    return every[:: max(1, len(every) // 12)]


@pytest.mark.parametrize("name", list(ops.ALL))
def test_every_reference(cupy: Any, cupy_standin: Any, name: str) -> None:
    op = ops.ALL[name]
    for case in sample(name):
        host = [a.copy() if isinstance(a, np.ndarray) else a for a in case.args]
        device = [to_device(a) for a in case.args]
        params = {k: to_device(v) for k, v in case.params.items()}
        before = cupy_standin.counters.copy()
        result = op(*device, **params)
        used = cupy_standin.counters - before
        assert used.to_host == used.synchronisations == 0, f"{case.id}: {used}"
        with np.errstate(all="ignore"):
            reference = op.reference(np, *host, **case.params)
            true = None if reference is None else exact_result(op.reference, case.args, case.params)
        if reference is None:  # an update: what it wrote is its result
            assert result is None
            result, reference, true = tuple(device), tuple(host), tuple(host)
        check_close(f"{name}[{case.id}]", on_host(result), reference, true, case.k)


@pytest.mark.parametrize("name", [n for n in ops.ALL if sum(isinstance(a, np.ndarray) for a in cases(n)[8].args) > 1])
def test_mixing_raises_and_names_both(cupy: Any, name: str) -> None:
    case = next(case for case in cases(name) if case.args[0].size)
    first, *rest = case.args
    for args in ((first, *map(to_device, rest)), (to_device(first), *rest)):
        with pytest.raises(TypeError, match="numpy") as raised:
            ops.ALL[name](*args, **case.params)
        assert name in str(raised.value)
        assert "cupy" in str(raised.value)


@pytest.mark.filterwarnings("ignore")  # of NumPy, about the arrays that the test makes
@pytest.mark.parametrize("name", list(ops.ALL))
def test_wrong_arguments_are_refused_by_name(cupy: Any, name: str) -> None:
    refused = 0
    for case, what, argument, args, params in every_call(name, arrays_alone=True):
        if not on_a_device(args):
            continue
        device = tuple(map(to_device, args))
        try:
            result = ops.ALL[name](*device, **params)
        except (TypeError, ValueError) as error:
            assert name in str(error), (case.id, what, error)  # noqa: PT017
            assert argument in str(error), (case.id, what, error)  # noqa: PT017
            refused += 1
            continue
        if what.startswith("label"):  # nobody looks at class numbers there: their rows become NaN
            assert np.isnan(on_host(result)[0])
            continue
        host = [plain(a) for a in args]
        with np.errstate(all="ignore"):
            reference = ops.ALL[name].reference(np, *host, **params)
        if reference is None:
            result, reference = device, tuple(host)
        check_close(f"{name}[{case.id}], {argument}: {what}", on_host(result), reference, reference, 4 * case.k)
    assert refused > 20


def test_arrays_come_in_and_go_out(cupy: Any, cupy_standin: Any) -> None:
    before = cupy_standin.counters.copy()
    a = mlpx.asarray([[1, 2], [3, 4]], "float32")
    assert type(a) is cupy.ndarray
    assert mlpx.asarray(a) is a
    assert mlpx.to_numpy(a).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    used = cupy_standin.counters - before
    assert (used.to_device, used.to_host) == (1, 1)
    with mlpx.using_backend("numpy"):
        assert type(mlpx.asarray(a)) is np.ndarray
    assert mlpx.get_backend() == "cupy"


# --- networks

RNG = np.random.default_rng(5)
X = RNG.standard_normal((60, 6))
LABELS = np.asarray(np.abs(X[:, 0] + X[:, 1]) > 1).astype(int) + (X[:, 2] > 0)
REAL = np.stack([X[:, 0] * X[:, 1], X[:, 2]], axis=1)


def both(make: Callable[[], mlpx.Sequential]) -> tuple[mlpx.Sequential, mlpx.Sequential]:
    """Return the same network on the host and on the device."""
    with mlpx.using_backend("numpy"):
        host = make()
    with mlpx.using_backend("cupy"):
        device = make()
    assert type(device.parameters).__module__ == "cupy"
    return host, device


def fit(net: mlpx.Sequential, y: Any = LABELS, **options: Any) -> mlpx.History:
    """Train a network on data of its own side."""
    arrays = {k: v for k, v in options.items() if isinstance(v, np.ndarray)}
    with mlpx.using_backend(net.backend.name):
        arrays = {k: mlpx.asarray(v) for k, v in (arrays | {"x": X, "y": y}).items()}
        defaults = {"epochs": 2, "batch_size": 20, "seed": 4, "progress": False}
        return net.fit(**(defaults | options | arrays))


def agree(host: mlpx.Sequential, device: mlpx.Sequential, x: Any, mask: Any = None) -> None:
    """Raise unless two networks have the same weights and statistics, and predict the same."""
    tolerance = {"rtol": 1e-9, "atol": 1e-10} if host.dtype == "float64" else {"rtol": 2e-4, "atol": 2e-5}
    np.testing.assert_allclose(device.parameters.get(), host.parameters, **tolerance)
    np.testing.assert_allclose(device.buffers.statistics.get(), host.buffers.statistics, **tolerance)
    args = [x] if mask is None else [x, mask]
    with mlpx.using_backend("cupy"):
        there = device.predict(*map(mlpx.asarray, args))
    np.testing.assert_allclose(on_host(there), host.predict(*args), **tolerance)


NETWORKS: dict[str, Callable[[], mlpx.Sequential]] = {
    "relu": lambda: mlpx.MLP([6, 8, 8, 3], output="softmax", seed=1, dtype="float64"),
    "float32": lambda: mlpx.MLP([6, 8, 3], output="softmax", seed=1, dtype="float32"),
    "dropout": lambda: mlpx.MLP([6, 16, 3], output="softmax", dropout=0.4, seed=2, dtype="float64"),
    "norms": lambda: mlpx.Sequential(
        layers.Dense(6, 8, "gelu"),
        layers.LayerNorm(8),
        layers.Dense(8, 8, "tanh"),
        layers.BatchNorm(8),
        layers.Dense(8, 3),
        layers.Softmax(),
        seed=3,
        dtype="float64",
    ),
}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_same_seed_gives_the_same_network_and_the_same_fit(cupy: Any, name: str) -> None:
    host, device = both(NETWORKS[name])
    np.testing.assert_array_equal(device.parameters.get(), host.parameters)
    histories = [fit(net, epochs=3, batch_size=17) for net in (host, device)]
    np.testing.assert_allclose(histories[1].loss, histories[0].loss, rtol=1e-4)
    agree(host, device, X)


OPTIMIZERS = dict(optimizers.OPTIMIZERS)
OPTIMIZERS["scheduled"] = lambda: optimizers.AdamW(schedule="cosine", clip_norm=0.5)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer(cupy: Any, name: str) -> None:
    host, device = both(lambda: mlpx.MLP([6, 8, 3], output="softmax", seed=1, dtype="float64"))
    for net in (host, device):
        fit(net, optimizer=OPTIMIZERS[name]())
    agree(host, device, X)


@pytest.mark.parametrize("name", ["lbfgs", "conjugate_gradient", "scaled_conjugate_gradient", "levenberg_marquardt"])
def test_full_batch_optimizers(cupy: Any, name: str) -> None:
    host, device = both(lambda: mlpx.MLP([6, 4, 2], output="linear", seed=1, dtype="float64"))
    for net in (host, device):
        fit(net, REAL, epochs=4, optimizer=name)
    agree(host, device, X)


@pytest.mark.parametrize("name", [name for name in losses.Loss.kinds if name != losses.CustomLoss.name])
def test_every_loss(cupy: Any, name: str) -> None:
    kind = losses.Loss.kinds[name]
    if issubclass(kind, losses.ClassLoss):
        y, n_out, output = LABELS, 3, "linear" if kind is losses.Hinge else "softmax"
    elif issubclass(kind, losses.LabelLoss):
        y, n_out, output = (REAL > 0).astype(float), 2, "sigmoid"
    elif kind in (losses.Poisson, losses.Gamma):
        y, n_out, output = np.abs(REAL) + 0.1, 2, "exp"
    else:
        n_out, output = 1 if kind is losses.Quantile else 2, "linear"
        y = REAL[:, :n_out]
    host, device = both(lambda: mlpx.MLP([6, 8, n_out], output=output, loss=name, seed=1, dtype="float64"))
    for net in (host, device):
        fit(net, y)
    agree(host, device, X)


def test_weights_masks_and_smoothing(cupy: Any) -> None:
    mask = RNG.random((60, 4)) > 0.3
    mask[np.arange(60), LABELS] = True

    def make() -> mlpx.Sequential:
        loss = losses.CrossEntropy(label_smoothing=0.1, class_weight=[1.0, 2.0, 0.5, 1.0])
        stack = (layers.Dense(6, 8, "relu"), layers.Dense(8, 4), layers.MaskedSoftmax())
        return mlpx.Sequential(*stack, loss=loss, seed=1, dtype="float64")

    host, device = both(make)
    weight = RNG.random(60)
    for net in (host, device):
        fit(net, mask=mask, sample_weight=weight)
    agree(host, device, X, mask)


def test_data_on_the_device_stays_there(cupy: Any, cupy_standin: Any) -> None:
    host, device = both(NETWORKS["relu"])
    for net in (host, device):
        fit(net)
    x = cupy.asarray(X)
    agree(host, device, X)
    before = cupy_standin.counters.copy()
    assert type(device.predict(x)) is cupy.ndarray
    used = cupy_standin.counters - before
    assert used.to_host == 0


def test_validation_early_stopping_and_history(cupy: Any) -> None:
    host, device = both(NETWORKS["relu"])
    histories = [
        fit(net, epochs=4, validation=0.3, callbacks=[mlpx.EarlyStopping(patience=2)]) for net in (host, device)
    ]
    np.testing.assert_allclose(histories[1].validation_loss, histories[0].validation_loss, rtol=1e-6)
    np.testing.assert_allclose(histories[1].validation_accuracy, histories[0].validation_accuracy)
    agree(host, device, X)


def test_gradients_check(cupy: Any) -> None:
    device = both(NETWORKS["norms"])[1]
    assert mlpx.check_gradients(device, mlpx.asarray(X[:12]), mlpx.asarray(LABELS[:12]), directions=1) < 1e-6
    assert mlpx.check_gradients(ops.softmax, mlpx.asarray(X)) < 1e-6
    assert mlpx.check_gradients(device.layers[1], cupy.ones((3, 8)) * cupy.arange(8.0)) < 1e-6


def test_sequences(cupy: Any) -> None:
    x = RNG.standard_normal((5, 7, 6))

    def make() -> mlpx.Sequential:
        return mlpx.Sequential(layers.TimeDistributed(layers.Dense(6, 3, "tanh")), loss="squared_error", seed=1)

    host, device = both(make)
    np.testing.assert_allclose(on_host(device.predict(mlpx.asarray(x))), host.predict(x), rtol=1e-5, atol=1e-6)


def test_a_model_saved_on_the_device_loads_without_one_and_back(cupy: Any, tmp_path: Path) -> None:
    device = both(NETWORKS["norms"])[1]
    fit(device)
    device.save(tmp_path / "there.safetensors")
    with mlpx.using_backend("numpy"):
        again = mlpx.load(tmp_path / "there.safetensors")
    assert isinstance(again.parameters, np.ndarray)
    agree(again, device, X)
    again.save(tmp_path / "here.safetensors")
    back = mlpx.load(tmp_path / "here.safetensors")
    assert type(back.parameters) is cupy.ndarray
    np.testing.assert_array_equal(back.parameters.get(), again.parameters)
    moved = again.to("cupy")
    np.testing.assert_array_equal(moved.parameters.get(), moved.to("numpy").parameters)


def test_a_network_refuses_arrays_of_the_other_side(cupy: Any) -> None:
    host, _ = both(NETWORKS["relu"])
    with pytest.raises(TypeError, match="cupy"):
        host.fit(cupy.asarray(X), LABELS, progress=False)


def test_divergence_keeps_the_last_good_weights(cupy: Any) -> None:
    _, device = both(NETWORKS["relu"])
    with pytest.raises(mlpx.DivergenceError):
        fit(device, epochs=50, optimizer=optimizers.SGD(lr=1e200))
    assert np.isfinite(device.parameters.get()).all()
