"""Training on a GPU, on the stand-in with the real kernels: the CPU's numbers, one graph a step, nothing read back."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlpx
from mlpx import layers, losses, optimizers
from mlpx.network import host_rows
from mlpx.ops.dispatch import using_fused
from mlpx.steps import gpu, gpu_feed
from mlpx.training.checkpoints import NAME, Checkpoints
from mlpx_kernels.cuda.plan.graph import MANY

RNG = np.random.default_rng(0)
X = RNG.standard_normal((70, 6)).astype(np.float32)
LABELS = X[:, :3].argmax(axis=1)
NUMBERS = (X[:, :3] ** 2).astype(np.float32)


@pytest.fixture(autouse=True)
def device(cupy_standin: Any) -> Iterator[Any]:
    with mlpx.using_backend("cupy"), using_fused("auto"):
        yield cupy_standin


def build(backend: str, **options: Any) -> mlpx.Sequential:
    with mlpx.using_backend(backend):
        return mlpx.MLP([6, 9, 5, 3], **({"activation": "relu", "output": "softmax", "seed": 3} | options))


def both(fit: dict[str, Any], y: np.ndarray = LABELS, **options: Any) -> tuple[Any, Any, Any, Any]:
    """Fit the same network on the CPU and on the GPU; return (CPU net, history, GPU net, history)."""
    result: list[Any] = []
    for backend in ("numpy", "cupy"):
        net = build(backend, **options)
        given = {name: value() if callable(value) else value for name, value in fit.items()}
        with mlpx.using_backend(backend):
            history = net.fit(X, y, **({"epochs": 3, "batch_size": 16, "progress": False} | given))
        assert not net.plan_declined, net.plan_declined
        result += [net, history]
    return tuple(result)  # type: ignore[return-value]


def check_same(cpu: Any, cpu_history: Any, gpu: Any, gpu_history: Any, tolerance: float = 2e-5) -> None:
    np.testing.assert_allclose(gpu_history.loss, cpu_history.loss, rtol=tolerance)
    a, b = mlpx.to_numpy(gpu.parameters), cpu.parameters
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max() * 5)


@pytest.mark.parametrize(
    "optimizer", ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "adamw"]
)
def test_every_optimiser_trains_as_on_the_cpu(optimizer: str) -> None:
    check_same(*both({"optimizer": optimizer}))


@pytest.mark.parametrize("activation", ["tanh", "gelu", "silu", "softplus"])
def test_activations(activation: str) -> None:
    check_same(*both({}, activation=activation))


def test_float64() -> None:
    check_same(*both({}, dtype="float64"), tolerance=1e-12)


@pytest.mark.parametrize(
    ("loss", "output", "y"),
    [
        (losses.SquaredError(), "linear", NUMBERS),
        (losses.Huber(0.5), "linear", NUMBERS),
        (losses.BinaryCrossEntropy(pos_weight=(1.0, 2.0, 3.0)), "sigmoid", (NUMBERS > 0.5).astype(np.float32)),
        (losses.CrossEntropy(label_smoothing=0.1), "softmax", LABELS),
        (losses.CrossEntropy(class_weight=(1.0, 2.0, 0.5)), "softmax", LABELS),
        (losses.CrossEntropy(), "softmax", np.eye(3, dtype=np.float32)[LABELS]),
        (losses.Focal(), "softmax", LABELS),
        (losses.BinaryFocal(1.5), "sigmoid", (NUMBERS > 0.5).astype(np.float32)),
        (losses.Hinge(), "linear", (NUMBERS > 0.5).astype(np.float32)),
        (losses.Gamma(), "exp", NUMBERS + 0.1),
    ],
    ids=[
        *("squared", "huber", "binary", "smoothed", "weighted", "probabilities"),
        *("focal", "binary-focal", "hinge", "gamma"),
    ],
)
def test_losses(loss: Any, output: str, y: np.ndarray) -> None:
    check_same(*both({}, y, loss=loss, output=output))


def test_weights_clipping_penalties_and_schedules() -> None:
    def adam() -> Any:
        return optimizers.Adam(lr=0.02, clip_norm=0.3, l1=1e-3, l2=1e-2, schedule="cosine")

    check_same(*both({"optimizer": adam, "sample_weight": RNG.random(70)}))


def test_a_masked_output() -> None:
    mask = RNG.random((70, 3)) > 0.3
    mask[np.arange(70), LABELS] = True
    check_same(*both({"mask": mask}, output="masked_softmax"))


def test_dropout_and_norms_draw_the_same_masks() -> None:
    for norm in ("layer", "batch"):
        check_same(*both({}, dropout=0.3, norm=norm), tolerance=1e-4)


def test_a_step_is_one_graph_and_nothing_is_read_back_within_a_slice(device: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(gpu, "SLICE", 1e9)  # an epoch is a slice, after the first
    net, x, y = build("cupy"), mlpx.asarray(X), mlpx.asarray(LABELS)
    adam = optimizers.Adam()
    used = []
    for epochs in (1, 3):
        before = device.counters.copy()
        net.fit(x, y, epochs=epochs, batch_size=2, optimizer=adam, shuffle=False, progress=False)
        used.append(device.counters - before)
    more = used[1] - used[0]  # two epochs of 35 steps
    assert more.kernels == 0
    assert 2 * 35 // MANY <= more.graphs <= 2 * 35
    assert more.to_host == 2 * 3  # losses, clock, and whether the weights are finite: an epoch's, not a step's
    assert more.to_device == 2 * 3  # order, rates, clock
    assert more.products == 0


def test_launches_of_a_step_of_three_layers(device: Any) -> None:
    net = build("cupy")
    fit = gpu.GraphSteps(net, net.batch(mlpx.asarray(X), mlpx.asarray(LABELS)), 16, started(net), seed=0, n_steps=9)
    assert [len(run.launches) for run in fit.runs[16][0]] == [16]


def started(net: Any) -> Any:
    adam = optimizers.Adam()
    adam.start(net)
    return adam


def test_a_hook_sees_the_gradient_between_two_graphs() -> None:
    seen = []
    hooked, plain = build("cupy"), build("cupy")
    data = {"epochs": 2, "batch_size": 16, "progress": False}
    hooked.fit(X, LABELS, gradient_hook=lambda g: seen.append(float((g * g).sum())), **data)
    plain.fit(X, LABELS, **data)
    assert len(seen) == 2 * 5
    assert min(seen) > 0.0
    assert np.array_equal(mlpx.to_numpy(hooked.parameters), mlpx.to_numpy(plain.parameters))


def test_a_capture_that_is_refused_costs_one_warning(device: Any, monkeypatch: Any) -> None:
    import cupy

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no graphs today")

    monkeypatch.setattr(cupy.cuda.Stream, "begin_capture", refuse)
    net = build("cupy")
    with pytest.warns(RuntimeWarning, match="launched one by one: RuntimeError: no graphs today") as told:
        net.fit(X, LABELS, epochs=2, batch_size=16, progress=False)
    assert len(told) == 1
    plain = build("numpy")
    plain.fit(X, LABELS, epochs=2, batch_size=16, progress=False)
    np.testing.assert_allclose(mlpx.to_numpy(net.parameters), plain.parameters, atol=1e-5)


@pytest.mark.parametrize("batch_size", [3, 70])
def test_data_too_large_for_the_device_stream_through_it(monkeypatch: Any, batch_size: int) -> None:
    monkeypatch.setattr(host_rows, "SHARE", 0.0)
    monkeypatch.setattr(gpu_feed, "PIECE", 8 * 6 * 4)  # eight rows at a time
    weight = RNG.random(70)
    common = {"epochs": 3, "batch_size": batch_size, "progress": False, "validation": 0.2}
    streamed, resident = build("cupy"), build("cupy")
    first = streamed.fit(X, LABELS, sample_weight=weight, **common)
    assert not streamed.plan_declined
    monkeypatch.setattr(host_rows, "SHARE", 0.5)
    second = resident.fit(X, LABELS, sample_weight=weight, **common)
    assert first.loss == second.loss
    assert first.validation_loss == second.validation_loss
    assert np.array_equal(mlpx.to_numpy(streamed.parameters), mlpx.to_numpy(resident.parameters))


def test_a_map_larger_than_memory_is_never_copied_whole(monkeypatch: Any, tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "x", np.float64, "w+", shape=X.shape)
    mapped[...] = X
    monkeypatch.setattr(host_rows, "SHARE", 0.0)
    net, plain = build("cupy"), build("cupy")
    net.fit(mapped, LABELS, epochs=1, batch_size=16, progress=False)
    monkeypatch.setattr(host_rows, "SHARE", 0.5)
    plain.fit(X, LABELS, epochs=1, batch_size=16, progress=False)
    assert np.array_equal(mlpx.to_numpy(net.parameters), mlpx.to_numpy(plain.parameters))


@pytest.mark.parametrize("optimizer", ["lbfgs", "conjugate_gradient"])
def test_optimisers_of_all_rows_bring_them_together(monkeypatch: Any, optimizer: str) -> None:
    plain, brought = build("cupy"), build("cupy")
    data = {"epochs": 2, "optimizer": optimizer, "progress": False}
    plain.fit(X, LABELS, **data)
    monkeypatch.setattr(host_rows, "SHARE", 0.0)
    brought.fit(X, LABELS, **data)
    assert np.array_equal(mlpx.to_numpy(brought.parameters), mlpx.to_numpy(plain.parameters))


def test_rows_in_any_layout() -> None:
    import cupy

    plain, turned = build("cupy"), build("cupy")
    data = {"epochs": 1, "batch_size": 16, "progress": False}
    soft = np.abs(NUMBERS) / np.abs(NUMBERS).sum(axis=1, keepdims=True)
    plain.fit(X, soft, **data)
    turned.fit(cupy.asarray(np.asfortranarray(X)), cupy.asarray(np.asfortranarray(soft)), **data)
    assert not turned.plan_declined
    assert np.array_equal(mlpx.to_numpy(turned.parameters), mlpx.to_numpy(plain.parameters))


def diverging(rows: slice, lr: float) -> tuple[Any, Any]:
    """Fit both ways data whose rows blow up; return the errors and the weights that were left."""
    y = NUMBERS.copy()
    y[rows] = 1e30
    found = []
    for backend in ("numpy", "cupy"):
        net = build(backend, output="linear", loss="squared_error")
        with mlpx.using_backend(backend), pytest.raises(mlpx.DivergenceError) as raised:
            net.fit(X, y, epochs=4, batch_size=10, optimizer=optimizers.SGD(lr=lr), shuffle=False, progress=False)
        found.append((raised.value, mlpx.to_numpy(net.parameters)))
    return found[0], found[1]


@pytest.mark.parametrize("rows", [slice(0, 1), slice(35, 36), slice(69, 70)], ids=["first", "middle", "last"])
def test_divergence_leaves_the_last_good_weights(rows: slice) -> None:
    (cpu, cpu_weights), (gpu, gpu_weights) = diverging(rows, 1e9)
    assert (gpu.step, gpu.epoch, gpu.layer) == (cpu.step, cpu.epoch, cpu.layer)
    np.testing.assert_allclose(gpu_weights, cpu_weights, rtol=1e-4, atol=1e-6)


def test_ctrl_c_ends_a_fit_between_two_slices(monkeypatch: Any) -> None:
    monkeypatch.setattr(gpu, "SLICE", 0.0)  # a step is a slice
    net = build("cupy")

    def press(run: Any) -> None:
        import _thread

        if run.epoch == 1:
            _thread.interrupt_main()

    with pytest.raises(mlpx.TrainingInterrupted) as raised:
        net.fit(X, LABELS, epochs=50, batch_size=16, callbacks=[press], progress=False)
    assert raised.value.history.epochs in (2, 3)
    assert np.isfinite(mlpx.to_numpy(net.parameters)).all()


def test_sequences_and_losses_without_a_code_go_layer_by_layer() -> None:
    net = mlpx.Sequential(layers.TimeDistributed(layers.Dense(6, 3)), layers.Softmax())
    net.fit(X.reshape(14, 5, 6), LABELS.reshape(14, 5), epochs=1, progress=False)
    assert "sequences" in net.plan_declined
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = build("cupy", output="linear", loss=lambda z, t: (((z - t) ** 2).sum(), 2 * (z - t)))
        own.fit(X, NUMBERS, epochs=1, progress=False)
    assert "custom" in own.plan_declined


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_bf16_keeps_to_the_curve_of_float32(activation: str) -> None:
    import cupy

    exact, rounded = build("cupy", activation=activation), build("cupy", activation=activation)
    data = {"epochs": 4, "batch_size": 16, "progress": False}
    one, other = exact.fit(X, LABELS, **data), rounded.fit(X, LABELS, precision="bf16", **data)
    assert not rounded.plan_declined
    assert rounded.parameters.dtype == cupy.float32
    np.testing.assert_allclose(other.loss, one.loss, rtol=0.02)
    assert other.loss != one.loss


def test_precisions_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="precision: unknown name 'bf8'"):
        build("cupy").fit(X, LABELS, precision="bf8")
    with pytest.raises(ValueError, match="dtype float32; this one is float64"):
        build("cupy", dtype="float64").fit(X, LABELS, precision="bf16")
    build("numpy").fit(X, LABELS, precision="bf16", epochs=1, progress=False)  # a CPU rounds nothing


def test_where_our_kernels_do_not_compile_plain_cupy_trains_and_says_so(device: Any) -> None:
    device.failures = replace(device.failures, source="<")  # in every name
    from mlpx_kernels.cuda.runtime import compile as cuda_compile

    cuda_compile._compiled.cache_clear()
    net = build("cupy")
    with pytest.warns(RuntimeWarning, match="CUDA kernels do not compile here.*CompileException") as told:
        history = net.fit(X, LABELS, epochs=2, batch_size=16, progress=False)
    assert len({str(w.message) for w in told}) == 1
    assert "does not compile here" in net.plan_declined
    plain = build("numpy").fit(X, LABELS, epochs=2, batch_size=16, progress=False)
    np.testing.assert_allclose(history.loss, plain.loss, rtol=1e-4)


def test_rows_that_stream_come_over_once(monkeypatch: Any) -> None:
    monkeypatch.setattr(host_rows, "SHARE", 0.0)
    monkeypatch.setattr(gpu_feed, "PIECE", 16 * 6 * 4)
    monkeypatch.setattr(gpu, "SLICE", 1e9)
    brought: list[int] = []
    ahead = gpu_feed.Streamed.ahead

    def counted(self: Any, order: Any) -> None:
        brought.append(order.size)
        ahead(self, order)

    monkeypatch.setattr(gpu_feed.Streamed, "ahead", counted)
    build("cupy").fit(X, LABELS, epochs=3, batch_size=4, progress=False)
    assert sum(brought) == 3 * 70


def test_from_every_checkpoint_of_a_fit(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits of a fit that nothing interrupted, in the middle of an epoch too."""
    monkeypatch.setattr(gpu, "SLICE", 0.0)
    given = {"epochs": 2, "batch_size": 16, "progress": False, "validation": (X, LABELS)}

    def fit(**options: Any) -> tuple[Any, Any]:
        net = build("cupy", dropout=0.2, norm="batch")
        return net, net.fit(X, LABELS, optimizer=optimizers.Adam(0.01, schedule="cosine"), **given, **options)

    expected, history = fit()
    written = []
    write = Checkpoints.write

    def also_kept(self: Checkpoints, *args: Any, **options: Any) -> None:
        write(self, *args, **options)
        written.append(Path(self.path).read_bytes())

    monkeypatch.setattr(Checkpoints, "write", also_kept)
    fit(checkpoint=tmp_path, every=0)
    monkeypatch.setattr(Checkpoints, "write", write)
    assert len(written) > history.steps
    for content in written[::2]:
        (tmp_path / NAME).write_bytes(content)
        net, again = fit(checkpoint=tmp_path, every=1e9, resume=True)
        np.testing.assert_array_equal(mlpx.to_numpy(net.parameters), mlpx.to_numpy(expected.parameters))
        assert (again.loss, again.validation_loss) == (history.loss, history.validation_loss)
