"""Every CUDA kernel against its reference, from the very source that a GPU gets, on the emulator."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cases import as_params, cases
from cases_kit import Case
from cuda_instances import INSTANCES, build
from cuda_kit import check, few_blocks, recording, run
from emulator import no_compiler, using
from emulator.module import SCHEDULES
from standin.install import to_device

import mlpx
from mlpx import ops
from mlpx.ops.dispatch import using_fused
from mlpx_kernels.cuda.loss import CLIPPED_BINARY
from mlpx_kernels.cuda.runtime.compile import FOLDER, source

DECLARED = [name for name, op in ops.ALL.items() if "cupy" in op.kernels]


@pytest.fixture(scope="module")
def _built() -> None:
    if no_compiler() is None:
        build()


@pytest.fixture
def cupy(_built: None, cupy_standin: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import cupy

    with mlpx.using_backend("cupy"), using_fused("require"):
        yield cupy


@pytest.mark.parametrize("name", DECLARED)
def test_kernel_has_the_name_and_signature_of_its_reference(cupy: Any, name: str) -> None:
    op = ops.ALL[name]
    module, _, function = op.kernels["cupy"].partition(":")
    assert function == name
    assert module.startswith("mlpx_kernels.cuda.")
    wanted = [(p.name, p.kind, p.default) for p in inspect.signature(op).parameters.values()]
    found = [(p.name, p.kind, p.default) for p in inspect.signature(op.kernel("cupy")).parameters.values()]
    assert found == wanted


@pytest.mark.parametrize(("name", "case"), as_params(DECLARED))
def test_kernel_equals_reference(cupy: Any, cupy_standin: Any, name: str, case: Case) -> None:
    check(cupy_standin, name, case)


@pytest.mark.parametrize("name", DECLARED)
def test_no_race_no_stray_access_and_the_same_bits_under_every_schedule(
    cupy: Any, cupy_standin: Any, name: str
) -> None:
    every = [case for case in cases(name) if case.args[0].size and case.args[0].dtype == np.float32]
    assert len(every) > 3
    for case in every[:: max(1, len(every) // 10)]:
        first = run(cupy_standin, name, case)
        for schedule in SCHEDULES:
            with using(build="checked", schedule=schedule):
                again = run(cupy_standin, name, case)
            for one, other in zip(first, again, strict=True):
                assert one is other is None or one.tobytes() == other.tobytes(), f"{case.id}, {schedule}"


@pytest.mark.parametrize("name", DECLARED)
def test_blocks_that_take_several_turns(
    cupy: Any, cupy_standin: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    ops.ALL[name].kernel("cupy")  # imports the module
    few_blocks(monkeypatch)
    every = [case for case in cases(name) if case.args[0].size and case.args[0].dtype == np.float32]
    for case in sorted(every, key=lambda case: case.args[0].size)[-3:]:
        with using(build="checked", schedule="shuffled"):
            check(cupy_standin, name, case)


def widened(case: Case, width: int) -> list[Any]:
    """Return a case's arrays with rows of another width, whatever they then hold."""
    cols = case.args[0].shape[1]

    def wide(a: Any) -> Any:
        has_columns = isinstance(a, np.ndarray) and a.ndim and a.shape[-1] == cols
        return np.resize(a, (*a.shape[:-1], width)) if has_columns else a

    return [wide(a) for a in case.args]


def test_the_instances_are_those_that_ops_ask_for(cupy_standin: Any) -> None:
    """Nothing runs here: every case, and rows of every width class, only say which kernels they want."""
    with recording() as asked, mlpx.using_backend("cupy"), using_fused("require"):
        for name in DECLARED:
            op = ops.ALL[name]
            for case in cases(name):
                calls = [case.args]
                rows, cols = (*case.args[0].shape, 0, 0)[:2]
                in_rows = ("softmax" in name or "layer" in name) and case.args[0].ndim == 2
                if in_rows and 0 < rows <= 8 and cols not in (1, rows):
                    calls += [widened(case, width) for width in (3000, 9000)]
                for args in calls:
                    op(*map(to_device, args), **{k: to_device(v) for k, v in case.params.items()})
    known = {source(family): family for family in INSTANCES}
    found: dict[str, set[str]] = {family: set() for family in INSTANCES}
    for code, name in asked:
        found[known[code]].add(name)
    steps_alone = {"cast", "gather", "network", "network_tensor", "product"}
    for family in INSTANCES.keys() - steps_alone:
        in_steps = re.compile(rf"squared_norm|penalty|element_losses<\w+, {CLIPPED_BINARY}>|.*bfloat16")
        ours = {n for n in INSTANCES[family] if not in_steps.match(n)}
        assert found[family] == ours, f"{family}: {found[family] ^ ours}"


@pytest.mark.parametrize("family", [path.stem for path in FOLDER.glob("*.cu")])
def test_every_source_has_instances_of_every_kernel(family: str) -> None:
    kernels = set(re.findall(r"__global__ void(?: __launch_bounds__\(.*?\))?\s+(\w+)\(", source(family)))
    assert kernels
    assert {name.partition("<")[0] for name in INSTANCES[family]} == kernels
