"""Every fused CPU kernel against its reference, on every case, by the one tolerance rule."""

import inspect
from importlib.util import find_spec
from typing import Any

import cases_kit
import numpy as np
import pytest
from cases import as_params, cases
from cases_kit import F32, normal
from compare import check_kernel, parts

from mlpx import ops
from mlpx.ops.dispatch import using_fused

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


def large_calls() -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Return calls, of each op that sums over rows first, large enough to be cut and shared among threads."""
    x, dy, t = (normal(name, 2051, 520, dtype=F32) for name in ("x", "dy", "t"))
    gamma, beta, mean = (normal(name, 520, dtype=F32) for name in ("gamma", "beta", "mean"))
    eps, rows = {"eps": 1e-5}, x.mean(axis=1, keepdims=True)
    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "batch_norm": ((x, gamma, beta), eps),
        "batch_norm_grad": ((dy, x, gamma, mean, gamma**2), eps),
        "batch_norm_inference": ((x, gamma, beta, mean, gamma**2), eps),
        "batch_norm_inference_grad": ((dy, x, gamma, mean, gamma**2), eps),
        "layer_norm": ((x, gamma, beta), eps),
        "layer_norm_grad": ((dy, x, gamma, rows, x.var(axis=1, keepdims=True)), eps),
    }
    calls["dropout"] = ((x[:-1],), {"p": 0.3, "seed": 2**63 + 1, "step": 2**33 + 5, "layer": 4})
    calls["softmax_cross_entropy"] = ((x, np.arange(2051) % 520), {})
    return calls | {name: ((x, t), {}) for name in ("squared_error", "huber", "poisson", "sigmoid_cross_entropy")}


@needs_numba
@pytest.mark.parametrize("name", large_calls())
def test_large_calls_equal_the_reference_whatever_the_number_of_threads(name: str) -> None:
    from mlpx_kernels.cpu.threading.thread_count import using_threads

    args, params = large_calls()[name]
    case, results = cases_kit.Case("large", args, params, 2051 * 520), []
    with using_fused("require"):
        check_kernel(ops.ALL[name], ops.ALL[name], case)
        for n in (1, 2, 3):
            with using_threads(n):
                results.append(ops.ALL[name](*args, **params))
    for other in results[1:]:
        assert [np.array_equal(a, b) for a, b in zip(parts(results[0]), parts(other), strict=True)].count(False) == 0
