"""What kernels do beyond their ops as parts of a training step: the clock, tables of chunks, clipping, biases on load,
running statistics, arrays that start anywhere."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cases import cases
from compare import check_close, exact_result
from cuda_instances import build
from emulator import no_compiler, using
from emulator.module import SCHEDULES
from standin.install import to_device

import mlpx
from mlpx import ops
from mlpx.ops.dispatch import using_fused
from mlpx.optimizers import Adam
from mlpx.steps.kernel_codes import of_update
from mlpx_kernels.cuda import dropout, loss, norm, update
from mlpx_kernels.cuda.runtime import arrays

pytestmark = pytest.mark.skipif(no_compiler() is not None, reason=no_compiler() or "")
SIZE = 3000


@pytest.fixture(autouse=True)
def _device(cupy_standin: Any) -> Iterator[None]:
    build()
    with mlpx.using_backend("cupy"), using_fused("require"):
        yield


def normal(seed: int, *shape: int, dtype: str = "float32") -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def clock(step: int, *, first: int = 0, updates: int = 0, failed: int = 0, next_step: int = -1) -> Any:
    return to_device(np.array([next_step, step, first, updates, failed]))


GROUPS = [(0, 1024, True, 1.0), (1024, 1040, False, 0.5), (1040, 2048, True, 0.0), (2048, SIZE, True, 2.0)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_update_ends_a_step(dtype: str) -> None:
    optimizer = Adam(lr=0.1, l1=0.01, l2=0.02, weight_decay=0.3, clip_norm=2.0, clip_value=0.05)
    kind, numbers = of_update(optimizer)
    host = [normal(i, SIZE, dtype=dtype) for i in range(4)]
    host[3] = np.abs(host[3])
    device = [to_device(a) for a in host]
    w, g, *state = device
    own = to_device(np.array([[0.3, 0.0, 0.0], [0.2, 0.07, 1e-3], [0.1, 0.0, 0.0]]))  # rate, l2, eps of each step
    now, penalties = clock(1, updates=4), to_device(np.zeros(3))
    options = {"numbers": numbers, "groups": GROUPS, "changing": own, "clock": now, "max_norm": optimizer.clip_norm}
    options["penalties"] = penalties
    squares = sum(
        float(np.sum(host[0][start:stop].astype(float) ** 2)) for start, stop, pays, f in GROUPS if pays and f
    )
    launches = update.step(kind, w, g, state, **options)
    for launch in launches:
        launch()
    scale = 2.0 / float(np.linalg.norm(host[1].astype(np.float64)))
    for start, stop, pays, factor in GROUPS:
        part = slice(start, stop)
        extra = {"l1": 0.01, "l2": 0.07, "decay": 0.3} if pays else {}
        if factor:
            adam = {"lr": 0.2 * factor, "beta1": 0.9, "beta2": 0.999, "eps": 1e-3, "step": 6}
            ops.adam_inplace.reference(np, *(a[part] for a in host), **adam, scale=scale, clip=0.05, **extra)
    for there, here in zip(device, host, strict=True):
        np.testing.assert_allclose(there.get(), here, rtol=0, atol=2e-6 if dtype == "float32" else 1e-13)
    assert now.get().tolist() == [2, 1, 0, 4, 0]
    assert penalties.get().tolist() == [0.0, pytest.approx(0.035 * squares, rel=1e-12), 0.0]


def test_nothing_is_updated_after_a_loss_that_was_not_finite() -> None:
    kind, numbers = of_update(Adam())
    device = [to_device(np.abs(normal(i, SIZE))) for i in range(4)]
    before = [a.get() for a in device]
    now = clock(1, failed=1)
    options = {"numbers": numbers, "groups": GROUPS, "changing": to_device(np.ones((3, 3))), "clock": now}
    for launch in update.step(kind, device[0], device[1], device[2:], **options):
        launch()
    for there, here in zip(device, before, strict=True):
        np.testing.assert_array_equal(there.get(), here)
    assert now.get()[0] == 2


def test_a_gradient_within_the_norm_is_left_alone() -> None:
    import cupy

    g, square = to_device(normal(1, 5001)), cupy.empty(1, np.float64)
    update.squared_norm(g, square)()
    assert float(square.get()[0]) == pytest.approx(float(np.sum(g.get().astype(np.float64) ** 2)), rel=1e-14)
    results = []
    for extra in ({}, {"squared_norm": square, "max_norm": 1e6}):
        w = to_device(normal(2, 5001))
        numbers = to_device(of_update(mlpx.optimizers.SGD())[1])
        update.update(0, w, g, [], numbers, update.chunks([(0, 5001, True, 1.0)]), **extra)()
        results.append(w.get())
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("width", [10, 300, 9000])
def test_the_loss_adds_the_bias_and_tells_the_step(width: int) -> None:
    z, bias, labels = normal(0, 5, width), normal(1, width), np.arange(5)
    expected, dz = ops.softmax_cross_entropy.reference(np, z + bias, labels)
    there, losses, now = to_device(z), to_device(np.zeros(4)), clock(2)
    loss.cross_entropy(there, there, bias=to_device(bias), labels=to_device(labels), losses=losses, clock=now)()
    np.testing.assert_allclose(there.get(), dz, rtol=1e-4, atol=1e-6)
    assert losses.get().tolist() == [0.0, 0.0, pytest.approx(float(expected), rel=1e-5), 0.0]
    assert now.get()[4] == 0


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_penalty_of_many_chunks(monkeypatch: pytest.MonkeyPatch, schedule: str) -> None:
    monkeypatch.setattr(update, "RESIDENT_BLOCKS", 3)
    w, own, penalties = normal(0, 9001), np.array([[0.0, 0.5, 0.0]]), to_device(np.zeros(1))
    table = update.chunks(
        [(0, 5000, True, 1.0), (5000, 6000, False, 1.0), (6000, 7000, True, 0.0), (7000, 9001, True, 3)]
    )
    with using(build="checked", schedule=schedule):
        update.penalty(to_device(w), table, changing=to_device(own), clock=clock(0), penalties=penalties)()
    squares = float(np.sum(np.delete(w, slice(5000, 7000)).astype(np.float64) ** 2))
    assert penalties.get()[0] == pytest.approx(0.25 * squares, rel=1e-14)


@pytest.mark.parametrize("width", [3, 10, 300, 9000])
def test_a_row_loses_no_more_than_the_ceiling(width: int) -> None:
    z, labels, weight = 100.0 * normal(0, 6, width), np.arange(6) % 3, np.abs(normal(1, 6)) + 0.1
    z[0] = -1e4
    z[0, 0] = 0.0  # certain, and right
    shifted = z.astype(np.float64) - z.max(axis=1, keepdims=True)
    each = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(6), labels]
    for schedule in SCHEDULES:
        losses, out = to_device(np.zeros(1)), to_device(np.zeros((6, width), np.float32))
        total, given = to_device(np.array([weight.sum()], np.float64)), to_device(weight)
        arrays = {"labels": to_device(labels), "sample_weight": given, "total": total}
        with using(build="checked", schedule=schedule):
            loss.cross_entropy(to_device(z), out, **arrays, losses=losses, ceiling=16.0)()
        clipped = np.clip(each, np.exp(-16.0), 16.0)
        assert losses.get()[0] == pytest.approx(float(np.average(clipped, weights=weight)), rel=1e-5)
        plain = to_device(np.zeros((6, width), np.float32))
        loss.cross_entropy(to_device(z), plain, **arrays, losses=losses)()
        assert out.get().tobytes() == plain.get().tobytes()  # the gradient knows no ceiling
        assert losses.get()[0] == pytest.approx(float(np.average(each, weights=weight)), rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clipped_probabilities_of_single_outputs(dtype: str) -> None:
    ceiling = -np.log(np.finfo(dtype).eps)
    z = np.linspace(-3.0 * ceiling, 3.0 * ceiling, 61).astype(dtype).reshape(-1, 1)
    for t in (0.0, 1.0):
        target, out, losses = np.full_like(z, t), to_device(np.zeros_like(z)), to_device(np.zeros(1))
        loss.element_loss(loss.CLIPPED_BINARY, to_device(z), to_device(target), out, option=ceiling, losses=losses)()
        one = z.dtype.type(1.0)
        with np.errstate(over="ignore"):
            p = np.clip(one / (one + np.exp(-z)), np.finfo(dtype).eps, one - np.finfo(dtype).eps).astype(np.float64)
        expected = -np.log(p if t else 1.0 - p).mean()
        assert losses.get()[0] == pytest.approx(float(expected), rel=1e-6 if dtype == "float32" else 1e-12)
        _, dz = ops.sigmoid_cross_entropy.reference(np, z, target)
        np.testing.assert_allclose(out.get(), dz, rtol=1e-5, atol=1e-12)


def test_losses_of_single_outputs_add_the_bias() -> None:
    y, target, bias, weight = normal(0, 70, 9), normal(1, 70, 9), normal(2, 9), np.abs(normal(3, 70))
    expected, dy = ops.huber.reference(np, y + bias, target, weight, delta=0.5)
    total, out, there = to_device(np.zeros(1)), to_device(np.zeros((), np.float32)), to_device(y)
    arrays = {"bias": to_device(bias), "sample_weight": to_device(weight)}
    loss.total_weight(total, y.shape, sample_weight=arrays["sample_weight"])()
    loss.element_loss(loss.HUBER, there, to_device(target), there, **arrays, option=0.5, total=total, loss=out)()
    np.testing.assert_allclose(there.get(), dy, rtol=1e-4, atol=1e-7)
    assert float(out.get()) == pytest.approx(float(expected), rel=1e-5)


def test_the_clock_keeps_the_first_step_whose_loss_is_not_finite() -> None:
    z, labels = to_device(normal(0, 3, 4)), to_device(np.zeros(3, np.int64))
    losses, now = to_device(np.zeros(9)), clock(5)
    z[1, 2] = np.inf
    launch = loss.cross_entropy(z, to_device(np.zeros((3, 4), np.float32)), labels=labels, losses=losses, clock=now)
    launch()
    assert now.get().tolist() == [-1, 5, 0, 0, 6]
    now[1] = 7
    launch()
    assert now.get()[4] == 6


def test_dropout_goes_by_the_clock_and_in_place() -> None:
    x = normal(0, 1001)
    expected = ops.dropout.reference(np, x, p=0.3, seed=7, step=2**32 + 3, layer=2)
    there = to_device(x)
    dropout.drop(there, there, p=0.3, seed=7, layer=2, clock=clock(1, first=2**32 + 2))()
    np.testing.assert_array_equal(there.get(), expected)


def test_dropout_of_bfloat16_drops_the_same_elements() -> None:
    x = (normal(0, 1003).view(np.uint32) >> 16).astype(np.uint16)  # the bits of numbers cut off to bfloat16
    there = to_device(x)
    dropout.drop(there, there, p=0.5, seed=7, step=3)()
    kept, exact = ((a.astype(np.uint32) << 16).view(np.float32) for a in (there.get(), x))
    np.testing.assert_array_equal(kept, ops.dropout.reference(np, exact, p=0.5, seed=7, step=3))


@pytest.mark.parametrize("rows", [1, 2, 300])
def test_running_statistics_move_with_the_batch(rows: int) -> None:
    import cupy

    x, running = normal(0, rows, 7), (normal(1, 7), np.abs(normal(2, 7)))
    device = tuple(map(to_device, running))
    mean, var = (cupy.empty(7, np.float32) for _ in range(2))
    norm.statistics(to_device(x), mean, var, running=device, momentum=0.2)()
    unbiased = x.var(axis=0) * rows / max(rows - 1, 1)
    for there, before, now in zip(device, running, (x.mean(axis=0), unbiased) if rows > 1 else running, strict=True):
        np.testing.assert_allclose(there.get(), before + 0.2 * (now - before), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["softmax", "activation", "dropout", "layer_norm", "adam_inplace", "huber"])
def test_arrays_that_start_anywhere(name: str) -> None:
    """Not on sixteen bytes: elements go one by one, to the same result."""
    params = {
        "activation": {"kind": "silu"},
        "dropout": {"p": 0.4, "seed": 1},
        "layer_norm": {"eps": 1e-5},
        "adam_inplace": {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "step": 2},
    }.get(name, {})
    n, f = 9, 64
    shapes = {"layer_norm": [(n, f), (f,), (f,)], "adam_inplace": [(n * f,)] * 4, "huber": [(n, f)] * 2}
    host = [np.abs(normal(i, *shape)) for i, shape in enumerate(shapes.get(name, [(n, f)]))]
    results = []
    for start in (0, 1):
        device = [to_device(np.append(np.zeros(start, a.dtype), a.reshape(-1)))[start:].reshape(a.shape) for a in host]
        result = ops.ALL[name](*device, **params)
        out = device if result is None else (result if isinstance(result, tuple) else [result])
        results.append([a.get() for a in out])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("build", ["fast", "checked"])
@pytest.mark.parametrize("name", [name for name, op in ops.ALL.items() if "cupy" in op.kernels])
def test_few_blocks_take_several_turns(name: str, build: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over shared memory that the turn before has used, which the checked build watches."""
    monkeypatch.setattr(arrays, "MOST_BLOCKS", 2)
    monkeypatch.setattr(update, "RESIDENT_BLOCKS", 2)
    op = ops.ALL[name]
    usable = [case for case in cases(name) if build == "fast" or case.args[0].dtype == np.float32]
    for case in sorted(usable, key=lambda case: case.args[0].size)[-2:]:
        device = [to_device(a) for a in case.args]
        with using(build=build, schedule="shuffled"):
            result = op(*device, **case.params)
        if name.endswith("_inplace"):
            reference, true = ([a.astype(kind) for a in case.args] for kind in (case.args[0].dtype, np.longdouble))
            for part in (reference, true):
                op.reference(np, *part, **case.params)
            result, reference, true = tuple(device), tuple(reference), tuple(true)
        else:
            with np.errstate(all="ignore"):
                reference = op.reference(np, *case.args, **case.params)
                true = exact_result(op.reference, case.args, case.params)
        parts = result if isinstance(result, tuple) else (result,)
        out = tuple(None if part is None else part.get() for part in parts)
        check_close(f"{name}[{case.id}]", out if isinstance(result, tuple) else out[0], reference, true, case.k)
