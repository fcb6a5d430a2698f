"""What every reference keeps: inputs unchanged, results of its own, one dtype throughout, and a true gradient."""

import cases_kit
import numpy as np
import pytest
from cases import as_params, cases
from compare import as_float64, check_kernel, parts

from mlpx import check_gradients, ops
from mlpx.ops.dispatch import using_fused

# At these points there is no derivative, or the case is about something else than smooth numbers.
NO_DERIVATIVE = ("special", "huge", "nan", "inf", "values", "constant", "zeros")
WITH_GRADIENT = [name for name, op in ops.ALL.items() if op.vjp is not None]
GRADIENT_OF = {f"{name}_grad" for name in WITH_GRADIENT} | {"dense_grad_rows"}


@pytest.mark.parametrize(("name", "case"), as_params(ops.ALL))
def test_reference_keeps_the_rules(name: str, case: cases_kit.Case) -> None:
    op = ops.ALL[name]
    with using_fused("off"):
        check_kernel(op, op, case)


@pytest.mark.parametrize("name", list(ops.ALL))
def test_float32_stays_float32(name: str) -> None:
    for case in cases(name):
        dtype = case.args[0].dtype
        with using_fused("off"):
            result = ops.ALL[name](*(a.copy() if isinstance(a, np.ndarray) else a for a in case.args), **case.params)
        assert {str(part.dtype) for part in parts(result) if part is not None} <= {str(dtype)}, case.id


def test_every_op_but_updates_has_a_gradient_or_is_one() -> None:
    rest = set(ops.ALL) - set(WITH_GRADIENT) - GRADIENT_OF
    assert rest == {name for name in ops.ALL if name.endswith("_inplace")}


def _smooth(case: cases_kit.Case) -> bool:
    first = case.args[0]
    return not any(word in case.id for word in NO_DERIVATIVE) and first.dtype == np.float64 and first.size < 600


@pytest.mark.parametrize(
    ("name", "case"),
    [pytest.param(n, c, id=f"{n}-{c.id}") for n in WITH_GRADIENT for c in cases(n) if _smooth(c)],
)
def test_gradient_equals_central_differences(name: str, case: cases_kit.Case) -> None:
    args = [as_float64(a) for a in case.args]
    with using_fused("off"):
        check_gradients(ops.ALL[name], *args, tol=1e-6, directions=3, **case.params)
