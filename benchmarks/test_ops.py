"""Every op of the library: its reference, its fused kernel, the peers, and the bound."""

import numpy as np
import pytest

from benchmarks import op_peers
from benchmarks.measure import same
from benchmarks.op_cases import Lazy, OpCase, everything
from benchmarks.peers import Calls
from mlpx import ops
from mlpx.ops.dispatch import using_fused

UNLIKE = {"dropout": "its random numbers are its own"}
"""Ops whose peers cannot give equal results."""


def _copied(case: OpCase) -> tuple[object, ...]:
    """Return the arguments, copied where the op writes to them."""
    if not case.op.endswith("_inplace"):
        return case.args
    return tuple(v.copy() if isinstance(v, np.ndarray) else v for v in case.args)


def _in_mode(case: OpCase, mode: str):
    op, args = ops.ALL[case.op], _copied(case)

    def call() -> object:
        with using_fused(mode):
            result = op(*args, **case.params)
        return args if result is None else result

    return call


def _own_call(case: OpCase):
    """Return mlpx's call: through the kernel where one is declared, which then must take it."""
    return _in_mode(case, "require" if "numpy" in ops.ALL[case.op].kernels else "off")


def _shared(case: OpCase, result: object) -> object:
    """Return the part of an mlpx result that peers give too."""
    if case.op in ("dense", "activation") or (case.op.endswith("_norm")):
        return result[0]  # type: ignore[index]  # what is saved for the gradient is our own affair
    return result[:1] if case.op.endswith("_inplace") else result  # type: ignore[index]


@pytest.mark.parametrize("lazy", [pytest.param(lazy, id=lazy.name) for lazy in everything()])
def test_op(lazy: Lazy, compare) -> None:
    """One call of one op."""
    case = lazy.make()
    wanted = _in_mode(case, "off")()
    same("mlpx", _own_call(case)(), wanted)
    calls = Calls(mlpx=_own_call(case), reference=_in_mode(case, "off"))
    calls.add("torch", lambda: op_peers.pytorch(case))
    calls.add("jax", lambda: op_peers.jax_jit(case))
    if case.op in ("softmax", "log_softmax"):
        calls.add("scipy", lambda: op_peers.scipy(case))
    if case.op == "dense" and case.params["activation"] == "identity":
        calls["numpy"] = op_peers.numpy(case)
    for name in ("torch", "jax", "scipy", "numpy"):
        if name in calls and case.op not in UNLIKE:
            got = calls[name]()
            whole = name == "jax" and case.op != "softmax_cross_entropy"
            same(name, got, wanted if whole else _shared(case, wanted))
    name, bound = op_peers.bound(case)
    calls[name] = bound
    compare(lazy.name, calls)
