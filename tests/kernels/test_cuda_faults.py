"""Faults planted in copies of the real CUDA sources are seen by the tests of the kernels: a lost barrier, a lost fence,
a lost tail, a step past the end, a wrong formula."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pytest
from cases import cases
from cuda_kit import check, few_blocks
from emulator import EmulationError, no_compiler, using
from standin.install import to_device

import mlpx
from mlpx import ops
from mlpx.ops.dispatch import using_fused
from mlpx_kernels.cuda import update
from mlpx_kernels.cuda.gemm.products import TileProducts
from mlpx_kernels.cuda.runtime import compile as cuda_compile
from mlpx_kernels.updates import encode

pytestmark = pytest.mark.skipif(no_compiler() is not None, reason=no_compiler() or "")
original = cuda_compile.source


class Fault(NamedTuple):
    """One change of a family's source text, and the test that must see it.

    Attributes
    ----------
    family, old, new : str
        ``old`` is in the text once.
    op : str
        Whose cases are run, those whose names begin with ``cases``.
    build : str
        Of the emulator.
    message : str
        What is said; a pattern.
    """

    family: str
    old: str
    new: str
    op: str
    cases: str
    build: str = "fast"
    message: str = "is off by|in other places"


RACE = "race|no thread of the block has written"
LAST = "    __threadfence();\n    __syncthreads();\n    if"
MERGE = "        __syncthreads();\n        if (threadIdx.y < half)"
ALL = "if (!last_block(counter, gridDim.x)) return false;"
PARTS = "parts[threadIdx.x / WARP] = value;\n        __syncthreads();"
EARLIER = "        __syncthreads();  // the parts of an earlier call have been read\n"
OLD_RULE = "            __syncthreads();  // the rule of the chunk before is no longer read\n"
NEW_RULE = "make_rule(rule, chunk, common, numbers);\n            __syncthreads();"
TAIL = "        advance_span<T, KIND, 1>(w, g, s1, s2, middle, chunk.stop, rule);\n"
STORE = "if (column(k) < cols) row[column(k)] = T(at[k]);"
ROWS = "const i64 end = rows * cols, step"

FAULTS = {
    # barriers, fences and atomics
    "no_fence_for_the_last_block": Fault(
        "dense", LAST, "    __syncthreads();\n    if", "dense_grad", "f32-260", "checked", "race"
    ),
    "no_barrier_for_the_last_block": Fault(
        "dense", LAST, "    __threadfence();\n    if", "dense_grad", "f32-260", "checked", "race"
    ),
    "no_atomic_for_the_last_block": Fault(
        "dense", "before = atomicAdd(counter, 1u)", "before = (*counter)++", "dense_grad", "f32-260", "checked", "race"
    ),
    "every_block_sums": Fault(
        "loss",
        "if (!last_block(counter, gridDim.x)) return false;",
        "",
        "softmax_cross_entropy",
        "f32",
        "checked",
        "race",
    ),
    "no_barrier_between_merges": Fault("dense", MERGE, MERGE[25:], "dense_grad", "f32-260", "checked", RACE),
    "no_barrier_after_the_parts": Fault("softmax", PARTS, PARTS[:34], "softmax", "f32", "checked", RACE),
    "rule_read_before_it_is_there": Fault("update", NEW_RULE, NEW_RULE[:40], "adam_inplace", "f32", "checked", RACE),
    # tails and ends
    "lost_last_column": Fault("softmax", "column(k) < cols ? Acc", "column(k) < cols - 1 ? Acc", "softmax", "f32"),
    "lost_last_row": Fault("dense", ROWS, ROWS.replace("rows *", "(rows - 1) *"), "dense", "f32"),
    "lost_tail_of_an_update": Fault("update", TAIL, "", "adam_inplace", "f32"),
    "stores_past_the_row": Fault(
        "softmax", STORE, STORE[22:], "softmax", "f32", "checked", "outside of all arrays|race"
    ),
    "draws_past_the_end": Fault(
        "dropout", "if (at + k < n) y", "y", "dropout", "f32", "checked", "outside of all arrays"
    ),
    "writes_past_the_end": Fault("dropout", "if (at + k < n) y", "y", "dropout", "f32", "fast", "past the end"),
    # formulas
    "no_maximum": Fault("softmax", "maths::exp(at[k] - top)", "maths::exp(at[k])", "softmax", "f32"),
    "no_bias": Fault("dense", "T(A(value.at[v]) + b[v])", "T(A(value.at[v]) + b[v] * A(0))", "dense", "f32"),
    "other_random_words": Fault("dropout", "0x9E3779B9u", "0x9E3779B1u", "dropout", "f32"),
    "means_forgotten": Fault("norm", "squares + off * off * (count * share)", "squares", "batch_norm", "f32"),
    "no_smoothing": Fault("loss", "q[k] = A(1.0 - smoothing) * q[k] + spread;", "", "softmax_cross_entropy", "f32"),
}


@pytest.fixture
def device(cupy_standin: Any) -> Iterator[Any]:
    with mlpx.using_backend("cupy"), using_fused("require"):
        yield cupy_standin
    cuda_compile._compiled.cache_clear()


def plant(monkeypatch: pytest.MonkeyPatch, family: str, old: str, new: str) -> None:
    """Have a family's source say something else from here on."""
    text = original(family)
    assert text.count(old) == 1, f"{family}: {old!r} is there {text.count(old)} times"
    monkeypatch.setattr(cuda_compile, "source", lambda f: text.replace(old, new) if f == family else original(f))
    cuda_compile._compiled.cache_clear()


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_planted_fault_is_seen(device: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    fault = FAULTS[name]
    plant(monkeypatch, fault.family, fault.old, fault.new)
    chosen = [case for case in cases(fault.op) if case.id.startswith(fault.cases)]
    assert chosen

    def check_all() -> None:
        for case in chosen:
            check(device, fault.op, case)

    with using(build=fault.build), pytest.raises(AssertionError, match=fault.message):
        check_all()


def _product(device: Any) -> None:
    import cupy

    a, b = (np.random.default_rng(i).standard_normal((40, 70)).astype(np.float32) for i in (1, 2))
    y = cupy.empty((40, 40), np.float32)
    TileProducts().forward(to_device(a), to_device(b), y)()
    np.testing.assert_allclose(y._host, a @ b.T, rtol=1e-4, atol=1e-4)


def _predict(device: Any) -> None:
    net = mlpx.MLP([20, 30, 3], activation="relu", output="softmax", seed=0)
    x = np.random.default_rng(0).standard_normal((70, 20)).astype(np.float32)
    y = net.predict(to_device(x))
    assert any(name.startswith("network") for name in device.names)
    with mlpx.using_backend("numpy"):
        np.testing.assert_allclose(y.get(), net.to("numpy").predict(x), rtol=1e-4, atol=1e-5)


def _adam(device: Any) -> None:
    """Four chunks of parameters for two blocks, each chunk with a learning rate of its own."""
    arrays = [np.random.default_rng(i).random(4096).astype(np.float32) for i in range(4)]
    there = [to_device(a) for a in arrays]
    groups = [(1024 * i, 1024 * (i + 1), True, 1.0 + i) for i in range(4)]
    kind, numbers = encode("adam_inplace", lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8, step=3)
    launch = update.update(kind, *there[:2], there[2:], to_device(numbers), update.chunks(groups))
    launch.func(2, *launch.args[1:])  # type: ignore[attr-defined]
    for start, stop, _, factor in groups:
        parts = [a[start:stop] for a in arrays]
        ops.adam_inplace(*parts, lr=0.1 * factor, beta1=0.9, beta2=0.99, eps=1e-8, step=3)
    np.testing.assert_allclose(there[0]._host, arrays[0], rtol=1e-5, atol=1e-6)


def _layer_norm(device: Any) -> None:
    """Two sums, one right behind the other, over rows that a whole block takes."""
    x, ones = np.random.default_rng(0).random((3, 300)).astype(np.float32), np.ones(300, np.float32)
    y = ops.layer_norm(*map(to_device, (x, ones, ones)), eps=1e-5)[0]
    np.testing.assert_allclose(y._host, ops.layer_norm(x, ones, ones, eps=1e-5)[0], rtol=1e-4, atol=1e-4)


READ = "            __syncthreads();  // all have read the layer's inputs, whose place its outputs take\n"
STEPS = {
    "tile_overwritten": (_product, "product", "        }\n        __syncthreads();\n    }\n", "        }\n    }\n"),
    "tile_not_yet_there": (_product, "product", "        __syncthreads();\n#pragma unroll 8", "#pragma unroll 8"),
    "outputs_over_inputs": (_predict, "network", READ, ""),
    "rule_overwritten_while_read": (_adam, "update", OLD_RULE, ""),
    "no_barrier_before_the_next_parts": (_layer_norm, "norm", EARLIER, ""),
}


LAUNCHERS = {"product": "gemm.products", "network": "plan.prediction"}
"""Modules that launch a family's kernels, where they have another name."""


@pytest.mark.parametrize("name", list(STEPS))
def test_a_planted_fault_in_a_step_is_seen(device: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    runs, family, old, new = STEPS[name]
    plant(monkeypatch, family, old, new)
    import_module(f"mlpx_kernels.cuda.{LAUNCHERS.get(family, family)}")
    few_blocks(monkeypatch)
    with using(build="checked"), pytest.raises(EmulationError, match=RACE):
        runs(device)


def test_without_a_fault_nothing_is_seen(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in (_product, _predict, _adam, _layer_norm):
        run(device)
    few_blocks(monkeypatch)
    with using(build="checked"):
        for run in (_product, _predict, _adam, _layer_norm):
            run(device)
