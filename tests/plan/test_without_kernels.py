"""Where kernels cannot be had, references run: silently if nobody wants them to be, else with one warning."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpx.ops import dispatch
from mlpx.ops.dispatch import Op, using_fused
from mlpx_kernels import CannotCompile, Unsupported

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed: there is no compiler")

EVERYTHING = """
import numpy as np, mlpx
from mlpx import ops
def everything():
    x, y = np.random.default_rng(0).standard_normal((64, 4)), np.arange(64) % 3
    net = mlpx.MLP([4, 5, 3], seed=0, dtype="float64")
    history = net.fit(x, y, epochs=2, batch_size=16, validation=0.25, progress=False)
    full = mlpx.MLP([4, 5, 3], seed=0, dtype="float64")
    full.fit(x, y, epochs=2, optimizer="lbfgs", progress=False)
    model = mlpx.MLPClassifier((5,), max_iter=9, tol=10, n_iter_no_change=2, random_state=0).fit(x, y)
    results = [history.loss, history.validation_loss, net.predict(x), net.predict(x[0]), full.predict(x[:1])]
    results += [model.predict_proba(x), model.predict_proba(x, mask=np.ones((64, 3), bool)), ops.softmax(x)]
    return net.plan_declined, np.concatenate([np.ravel(result) for result in results])
def reference():
    with mlpx.ops.dispatch.using_fused("off"):
        return everything()[1]
"""


def run_python(code: str, *options: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", EVERYTHING + code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


DOCTOR = """
declined, results = everything()
np.testing.assert_array_equal(results, reference())
from mlpx.cli import doctor, warmup
print(declined)
print(doctor.main(), warmup.main(("float32",)))
"""


def test_without_numba() -> None:
    printed = run_python("import sys; sys.modules['numba'] = None\n" + DOCTOR, "-W", "error", COLUMNS="1000")
    assert "numba" in printed.splitlines()[0]
    assert "Numba is not installed: references only" in printed
    assert printed.splitlines()[-1] == "0 1"


@needs_numba
def test_with_its_compiler_switched_off() -> None:
    printed = run_python(DOCTOR, "-W", "error", NUMBA_DISABLE_JIT="1", COLUMNS="1000")
    assert printed.splitlines()[0] == "Numba's compiler is switched off (NUMBA_DISABLE_JIT)"
    assert "Numba's compiler is switched off (NUMBA_DISABLE_JIT): references only" in printed
    assert printed.splitlines()[-1] == "0 1"


FAILING = """
import sys, time, warnings
from mlpx_kernels import CannotCompile
from mlpx_kernels.cpu.lowlevel import store
asked, load = [], store.KernelCache.load_overload
def fail(cache, *given):
    name = cache._function.__name__
    found = load(cache, *given)
    if len(sys.argv) == 1 or name in sys.argv[1:]:
        asked.append(cache._wanted)
        raise RuntimeError(f"this test lets nobody compile {name}\\nand more")
    return found
store.KernelCache.load_overload = fail
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    declined, results = everything()
    assert everything()[0] == declined
    ops.log_softmax(np.zeros((2, 3)))
np.testing.assert_allclose(results, reference(), rtol=1e-12)
assert len(asked) == len(set(asked)), asked
assert [warning.category for warning in caught] == [RuntimeWarning], [str(warning.message) for warning in caught]
print(declined)
print(caught[0].message)
with mlpx.ops.dispatch.using_fused("require"):
    for call in (everything, lambda: mlpx.MLP([4, 3]).predict(np.zeros((1, 4), "f"))):
        try:
            call()
        except CannotCompile as reason:
            print(reason)
"""


@needs_numba
@pytest.mark.parametrize("functions", [[], ["train", "predict", "shuffle"]], ids=["all", "some"])
def test_with_a_compiler_that_fails(functions, tmp_path) -> None:
    """All functions, or those that are compiled when a network is called, its pieces being there."""
    code = FAILING.replace("sys.argv", repr(["", *functions]))
    declined, warning, *required = run_python(code).splitlines()
    reason = "cannot be compiled (RuntimeError: this test lets nobody compile"
    assert reason in declined
    assert reason in warning
    assert "References run instead" in warning
    assert len(required) == 2
    assert reason in required[0]


# --- modules of kernels that cannot be imported


@pytest.fixture
def kernel_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function that makes an op, whose reference adds one, with a kernel in a module of a text."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("mlpx_kernels.cache._warned", set())

    def make(text: str | None, name: str = "mlpx_test_broken") -> Op[..., Any]:
        if text is not None:
            (tmp_path / f"{name}.py").write_text(text)
        return Op(lambda xp, x: x + 1.0, {"numpy": f"{name}:kernel"}, None, None)

    yield make
    dispatch._imported.cache_clear()
    sys.modules.pop("mlpx_test_broken", None)


X = np.ones(2)


def test_a_package_that_is_not_installed_is_no_reason_to_warn(kernel_of) -> None:
    op = kernel_of("import mlpx_test_nowhere.inner")
    np.testing.assert_array_equal(op(X), X + 1)
    assert op.declined["numpy"] == "mlpx_test_broken cannot be imported: No module named 'mlpx_test_nowhere'"


@pytest.mark.parametrize("text", ["raise RuntimeError('out of order')", "import numba.nothing", "kernel = (", None])
def test_a_module_that_is_out_of_order_is_warned_of_once(text, kernel_of) -> None:
    op = kernel_of(text, "mlpx_test_broken" if text else "mlpx_kernels.left_out")
    with pytest.warns(RuntimeWarning, match="cannot be imported.*References run instead"):
        np.testing.assert_array_equal(op(X), X + 1)
    np.testing.assert_array_equal(op(X), X + 1)  # a second warning would be an error
    with using_fused("require"), pytest.raises(CannotCompile, match="cannot be imported"):
        op(X)


def test_a_setting_that_cannot_be_is_an_error(kernel_of) -> None:
    op = kernel_of("import mlpx_kernels\nraise mlpx_kernels.BadSetting('MLPX_SOMETHING: expected this, got that')")
    for _ in range(2):
        with pytest.raises(ValueError, match="MLPX_SOMETHING: expected this"):
            op(X)


def test_a_warning_that_is_an_error_leaves_all_as_it_was(kernel_of) -> None:
    op = kernel_of("raise RuntimeError('out of order')")
    with pytest.raises(RuntimeWarning):
        op(X)
    np.testing.assert_array_equal(op(X), X + 1)
    assert isinstance(dispatch._imported("mlpx_test_broken"), Unsupported)
