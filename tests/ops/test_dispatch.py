"""The dispatch rule: the backend follows the arrays, a kernel may decline, ``MLPX_FUSED`` decides what that means."""

import inspect
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cases import cases
from strict import STRICT, to_strict

import mlpx
from mlpx import ops
from mlpx.ops import dispatch as op_module
from mlpx.ops.dispatch import Op, fused_mode, op, using_fused
from mlpx_kernels import Unsupported

MODULE = "mlpx_test_kernels"
CALLS: list[str] = []
X = np.array([1.0, 2.0])


def double(x: Any) -> Any:
    """A kernel that gives itself away: the reference adds one."""
    CALLS.append("double")
    return 2.0 * x


def declining(x: Any) -> Any:
    CALLS.append("declining")
    raise Unsupported("declining: has no time today")


def failing(x: Any) -> Any:
    raise ZeroDivisionError("a bug is no reason to fall back")


@pytest.fixture(autouse=True)
def _kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = types.ModuleType(MODULE)
    module.double, module.declining, module.failing = double, declining, failing  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, MODULE, module)
    CALLS.clear()
    with using_fused("auto"):
        yield


def make(where: str | None, **options: Any) -> Op[..., Any]:
    """Return an op whose reference adds one; it is taken off the list of ops again."""

    def successor(xp: Any, x: Any) -> Any:
        """Return x + 1."""
        return x + 1.0

    made = op(numpy=where, **options)(successor)
    del ops.ALL["successor"]
    return made


# --- which backend


@pytest.mark.parametrize("name", [n for n in ops.ALL if sum(isinstance(a, np.ndarray) for a in cases(n)[8].args) > 1])
def test_mixing_backends_names_both(name: str) -> None:
    case = next(case for case in cases(name) if case.args[0].size)
    first, *rest = case.args
    with pytest.raises(TypeError, match="numpy and array_api_strict") as raised:
        ops.ALL[name](first, *(to_strict(a) for a in rest), **case.params)
    assert name in str(raised.value)


def test_result_follows_the_arrays_not_the_backend_in_force() -> None:
    with mlpx.using_backend(STRICT):
        assert isinstance(ops.softmax(X), np.ndarray)
    with mlpx.using_backend("numpy"):
        y = ops.softmax(to_strict(X))
    assert type(y).__module__.startswith("array_api_strict")
    assert y.device == STRICT.device


@pytest.mark.parametrize("name", list(ops.ALL))
def test_lists_are_no_arrays(name: str) -> None:
    case = next(case for case in cases(name) if case.args[0].size)
    with pytest.raises(TypeError, match=name):
        ops.ALL[name](*(a.tolist() if isinstance(a, np.ndarray) else a for a in case.args), **case.params)


@pytest.mark.parametrize("other", [[[1.0, 2.0, 3.0]], ((1.0, 2.0, 3.0),), 1.0, "w"])
def test_what_is_no_array_beside_an_array_is_refused(other: Any) -> None:
    with pytest.raises(TypeError, match=f"dense: w: expected an array, got {type(other).__name__}"):
        ops.dense(np.ones((2, 3)), other, None)


# --- kernels


def test_kernel_runs_where_there_is_one() -> None:
    np.testing.assert_array_equal(make(f"{MODULE}:double")(X), [2.0, 4.0])
    assert CALLS == ["double"]


def test_kernel_of_another_backend_is_left_alone() -> None:
    y = make(f"{MODULE}:double")(to_strict(X))
    np.testing.assert_array_equal(mlpx.to_numpy(y), [2.0, 3.0])
    assert not CALLS


def test_declining_kernel_falls_back_and_says_why() -> None:
    made = make(f"{MODULE}:declining")
    np.testing.assert_array_equal(made(X), [2.0, 3.0])
    assert CALLS == ["declining"]
    assert made.declined == {"numpy": "declining: has no time today"}


def test_error_in_a_kernel_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        make(f"{MODULE}:failing")(X)


@pytest.mark.parametrize("where", ["mlpx_test_nowhere:double", f"{MODULE}.nowhere:double"])
def test_module_that_cannot_be_imported_falls_back_and_says_why(where: str) -> None:
    made = make(where)
    for _ in range(2):
        np.testing.assert_array_equal(made(X), [2.0, 3.0])
    assert "cannot be imported" in made.declined["numpy"]
    with pytest.raises(Unsupported, match="cannot be imported"):
        made.kernel("numpy")


def test_op_without_a_kernel_is_no_failure_under_require() -> None:
    made = make(None)
    with using_fused("require"):
        np.testing.assert_array_equal(made(X), [2.0, 3.0])
    with pytest.raises(Unsupported, match="successor has no kernel for numpy"):
        made.kernel("numpy")


@pytest.mark.parametrize(
    ("where", "reason"), [(f"{MODULE}:declining", "no time"), ("mlpx_test_nowhere:double", "cannot be imported")]
)
def test_require_raises(where: str, reason: str) -> None:
    with using_fused("require"), pytest.raises(Unsupported, match=reason):
        make(where)(X)


def test_off_never_calls_a_kernel() -> None:
    with using_fused("off"):
        np.testing.assert_array_equal(make(f"{MODULE}:double")(X), [2.0, 3.0])
        np.testing.assert_array_equal(make("mlpx_test_nowhere:double")(X), [2.0, 3.0])
    assert not CALLS


def test_check_comes_before_kernel_and_reference() -> None:
    def check(x: Any) -> None:
        raise ValueError("successor: x is not to my taste")

    with pytest.raises(ValueError, match="taste"):
        make(f"{MODULE}:double", check=check)(X)
    assert not CALLS


def test_reference_warns_of_nothing() -> None:
    assert np.isinf(ops.activation(np.array([1e4]), kind="exp")[0]).all()
    assert np.isnan(ops.softmax(np.array([np.inf, np.nan]))).all()


# --- modes


def test_mode_is_restored_after_an_error() -> None:
    with pytest.raises(Unsupported, match="no time"), using_fused("require"):
        make(f"{MODULE}:declining")(X)
    assert fused_mode() == "auto"


def test_unknown_mode_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'require'"), using_fused("requires"):
        pass


@pytest.mark.parametrize(("value", "shown"), [("off", "off"), ("require", "require"), (None, "auto"), ("", "auto")])
def test_environment_variable(value: str | None, shown: str) -> None:
    environment = {key: v for key, v in os.environ.items() if key != "MLPX_FUSED"}
    environment |= {} if value is None else {"MLPX_FUSED": value}
    code = "from mlpx.ops.dispatch import fused_mode; print(fused_mode())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [shown]


def test_environment_variable_is_read_at_the_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a program may set it after its imports; an error for a misspelt one ends when it is set right."""
    monkeypatch.setattr(op_module, "_mode", "")
    monkeypatch.setenv("MLPX_FUSED", "of")
    with pytest.raises(ValueError, match="Did you mean 'off'"):
        make(f"{MODULE}:double")(X)
    monkeypatch.setenv("MLPX_FUSED", "off")
    make(f"{MODULE}:double")(X)
    assert not CALLS
    monkeypatch.setenv("MLPX_FUSED", "auto")
    assert fused_mode() == "off"


def test_unknown_environment_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op_module, "_mode", "of")
    with pytest.raises(ValueError, match=r"MLPX_FUSED: unknown name 'of'\. Did you mean 'off'"):
        make(f"{MODULE}:double")(X)


# --- what an op shows of itself


@pytest.mark.parametrize("name", list(ops.ALL))
def test_signature_and_help_hide_xp(name: str) -> None:
    made = ops.ALL[name]
    assert "xp" not in inspect.signature(made).parameters
    assert next(iter(inspect.signature(made.reference).parameters)) == "xp"
    assert "xp" not in inspect.getdoc(made).split()  # type: ignore[union-attr]
    assert made.__name__ == made.name == name
    assert name in repr(made)
    assert getattr(ops, name) is made


def test_reference_without_xp_is_refused() -> None:
    with pytest.raises(TypeError, match="the first parameter of a reference is xp"):
        op()(lambda x: x)


def test_all_holds_every_op_of_the_module() -> None:
    assert {n for n in ops.__all__ if isinstance(getattr(ops, n), Op)} == set(ops.ALL)
