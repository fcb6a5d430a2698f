"""Every fused CPU kernel against its reference, on every case, by the one tolerance rule."""

import inspect
from importlib.util import find_spec

import cases_kit
import pytest
from cases import as_params, cases
from compare import check_kernel

from mlpx import ops
from mlpx.op import using_fused

DECLARED = [name for name, op in ops.ALL.items() if "numpy" in op.kernels]
needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed: no CPU kernel can run")


def test_cases_cover_every_op() -> None:
    assert set(cases_kit.GENERATORS) == set(ops.ALL)
    assert not [name for name in ops.ALL if len(cases(name)) < 10]


@pytest.mark.parametrize("name", list(ops.ALL))
def test_case_ids_are_unique(name: str) -> None:
    ids = [case.id for case in cases(name)]
    assert len(set(ids)) == len(ids)


@needs_numba
@pytest.mark.parametrize("name", DECLARED)
def test_declared_kernel_is_there(name: str) -> None:
    assert callable(ops.ALL[name].kernel("numpy"))


@needs_numba
@pytest.mark.parametrize("name", DECLARED)
def test_kernel_has_the_name_and_signature_of_its_reference(name: str) -> None:
    op = ops.ALL[name]
    module, _, function = op.kernels["numpy"].partition(":")
    assert function == name
    assert module.startswith("mlpx_kernels.cpu.")
    wanted = [(p.name, p.kind, p.default) for p in inspect.signature(op).parameters.values()]
    found = [(p.name, p.kind, p.default) for p in inspect.signature(op.kernel("numpy")).parameters.values()]
    assert found == wanted


@needs_numba
@pytest.mark.parametrize(("name", "case"), as_params(DECLARED))
def test_kernel_equals_reference(name: str, case: cases_kit.Case) -> None:
    with using_fused("require"):
        check_kernel(ops.ALL[name], ops.ALL[name], case)
