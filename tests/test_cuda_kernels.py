"""Every CUDA kernel against its reference, from the very source that a GPU gets, on the emulator."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cases import as_params, cases
from cases_kit import Case
from compare import check_close, exact_result
from cuda_instances import INSTANCES, build
from emulator import no_compiler, using
from emulator.module import SCHEDULES
from standin.install import to_device

import mlpx
from mlpx import ops
from mlpx.op import using_fused
from mlpx_kernels.cuda.compile import FOLDER, source

DECLARED = [name for name, op in ops.ALL.items() if "cupy" in op.kernels]
asked_for: set[tuple[str, str]] = set()
"""Family and instance of every kernel that these tests asked for."""


@pytest.fixture(scope="module")
def _built() -> None:
    if no_compiler() is None:
        build()


@pytest.fixture
def cupy(_built: None, cupy_standin: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import cupy

    with mlpx.using_backend("cupy"), using_fused("require"):
        yield cupy
    families = {name: family for family, names in INSTANCES.items() for name in names}
    asked_for.update((families.get(name, "none of cuda_instances.py"), name) for name in cupy_standin.names)


def on_host(array: Any) -> Any:
    """Return an array of the device, without counting."""
    return array if array is None else array._host.copy()


def run(cupy_standin: Any, name: str, case: Case) -> tuple[Any, ...]:
    """Return what an op leaves behind: its results, or for an update its arrays."""
    op = ops.ALL[name]
    device = [to_device(a) for a in case.args]
    params = {k: to_device(v) for k, v in case.params.items()}
    before = cupy_standin.counters.copy()
    result = op(*device, **params)
    used = cupy_standin.counters - before
    assert used.to_host == used.synchronisations == 0, used
    if name.endswith("_inplace"):
        assert result is None
        np.testing.assert_array_equal(on_host(device[1]), case.args[1])
        return tuple(map(on_host, device))
    for a, there in zip(case.args, device, strict=True):
        if isinstance(a, np.ndarray):
            assert on_host(there).tobytes() == np.ascontiguousarray(a).tobytes(), "wrote to an input"
    outs = result if isinstance(result, tuple) else (result,)
    for number, out in enumerate(outs):
        if out is None:
            continue
        assert type(out).__module__ == "cupy"
        shared = [a for a in device if a is not None and a._memory is out._memory and out.size]
        assert not shared or number in case.may_alias, f"result {number} is an input"
    return tuple(map(on_host, outs))


def expected(name: str, case: Case) -> tuple[Any, Any]:
    """Return the reference's result, and in wider arithmetic."""
    op = ops.ALL[name]
    with np.errstate(all="ignore"):
        if not name.endswith("_inplace"):
            return op.reference(np, *case.args, **case.params), exact_result(op.reference, case.args, case.params)
        reference, true = [a.copy() for a in case.args], [a.astype(np.longdouble) for a in case.args]
        op.reference(np, *reference, **case.params)
        op.reference(np, *true, **case.params)
        return tuple(reference), tuple(true)


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
    result = run(cupy_standin, name, case)
    reference, true = expected(name, case)
    check_close(f"{name}[{case.id}]", result if len(result) > 1 else result[0], reference, true, case.k)


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


def test_the_instances_are_all_that_wrappers_can_ask_for() -> None:
    """Names in cuda_instances.py that no case asked for are listed by another test; here: none is missing there."""
    assert not [entry for entry in asked_for if entry[0] not in INSTANCES]


@pytest.mark.parametrize("family", [path.stem for path in FOLDER.glob("*.cu")])
def test_every_source_has_instances_of_every_kernel(family: str) -> None:
    kernels = set(re.findall(r"__global__ void(?: __launch_bounds__\(.*?\))?\s+(\w+)\(", source(family)))
    assert kernels
    assert {name.partition("<")[0] for name in INSTANCES[family]} == kernels
