"""Ops by their CUDA kernels on the stand-in for CuPy, compared with their references."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from cases_kit import Case
from compare import check_close, exact_result
from standin.install import to_device
from standin.kernels import RawModule

from mlpx import ops


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


def check(cupy_standin: Any, name: str, case: Case) -> None:
    """Raise unless the op's kernel is as good as its reference on a case."""
    result = run(cupy_standin, name, case)
    reference, true = expected(name, case)
    check_close(f"{name}[{case.id}]", result if len(result) > 1 else result[0], reference, true, case.k)


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


def few_blocks(monkeypatch: pytest.MonkeyPatch, most: int = 2) -> None:
    """Give grids so few blocks that every block takes several turns, as it does for arrays too large for tests."""
    changed = [m for n, m in sys.modules.items() if n.startswith("mlpx_kernels.cuda.") and hasattr(m, "MOST_BLOCKS")]
    assert changed
    for module in changed:
        monkeypatch.setattr(module, "MOST_BLOCKS", most)


@contextmanager
def recording() -> Iterator[set[tuple[str, str]]]:
    """Have kernels neither compiled nor launched, and yield (source, instance) of all that are asked for."""
    asked: set[tuple[str, str]] = set()

    def get_function(module: RawModule, name: str) -> Any:
        asked.add((module.code, name))
        return lambda *args, **kwargs: None

    real, RawModule.get_function = RawModule.get_function, get_function  # type: ignore[method-assign]
    try:
        yield asked
    finally:
        RawModule.get_function = real  # type: ignore[method-assign]
