"""What compilation must not do: lift float32 to float64, lose digits, or leave a loop scalar."""

import math
import re

import numpy as np
import pytest

import mlpx
from mlpx.ops.dispatch import using_fused

pytest.importorskip("numba", reason="Numba is not installed: there is nothing compiled")

import numba

from mlpx_kernels import updates
from mlpx_kernels.cpu import activation, dense, softmax, update
from mlpx_kernels.cpu.gemm import register_tiles
from mlpx_kernels.cpu.lowlevel import erf, mathematics
from mlpx_kernels.cpu.lowlevel.compile import FASTMATH, inlined, kernel

SINGLE = np.float32


def loop_of(function):
    """Return a compiled loop over a scalar function."""

    @kernel
    def run(x, y):
        for i in range(x.size):
            y[i] = function(x[i])

    return run


LOOPS = {
    name: loop_of(getattr(mathematics, name))
    for name in ("exp", "expm1", "log", "log1p_unit", "tanh", "sigmoid", "softplus")
} | {"erf": loop_of(erf.erf)}


def softplus(x):
    return np.logaddexp(x, np.zeros(1, x.dtype))


ORACLES = {
    "exp": (np.exp, (-87.0, 88.0), (-700.0, 709.0), 2),
    "expm1": (np.expm1, (-20.0, 40.0), (-40.0, 40.0), 4),
    "log1p_unit": (np.log1p, (-0.3, 1.0), (-0.3, 1.0), 3),
    "tanh": (np.tanh, (-12.0, 12.0), (-25.0, 25.0), 4),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), (-87.0, 87.0), (-700.0, 700.0), 4),
    "softplus": (softplus, (-80.0, 80.0), (-700.0, 700.0), 4),
    "erf": (np.vectorize(math.erf, otypes=[np.float64]), (-5.0, 5.0), (-6.5, 6.5), 6),
}
CLOSER = {("erf", np.float64): 2}
"""Where the stated error is another one in float64."""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ORACLES)
def test_relative_errors(name, dtype) -> None:
    true, single, double, units = ORACLES[name]
    low, high = single if dtype is np.float32 else double
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(low, high, 20_001), rng.uniform(max(low, -1e-3), 1e-3, 2001)]).astype(dtype)
    y = np.empty_like(x)
    LOOPS[name](x, y)
    wide = x.astype(np.float64 if dtype is np.float32 or name == "erf" else np.longdouble)
    exact = true(wide)
    nonzero = exact != 0
    error = np.abs(y[nonzero] - exact[nonzero]) / np.abs(exact[nonzero])
    assert float(error.max()) <= CLOSER.get((name, dtype), units) * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_near_one_and_over_its_whole_range(dtype) -> None:
    low, high = np.log2(np.finfo(dtype).tiny), np.log2(np.finfo(dtype).max)
    x = np.concatenate([np.linspace(0.4, 3.0, 20_001), 2.0 ** np.linspace(low + 1, high - 1, 3001)]).astype(dtype)
    y = np.empty_like(x)
    LOOPS["log"](x, y)
    exact = np.log(x.astype(np.float64 if dtype is np.float32 else np.longdouble))
    assert np.all(np.abs(y - exact) <= 3 * np.finfo(dtype).eps * np.abs(exact))


def test_erf_over_its_whole_range() -> None:
    x = np.concatenate([np.linspace(0.99, 1.01, 2001), 10.0 ** np.linspace(-300.0, 3.0, 3001)])
    x, y = np.concatenate([x, -x]), np.empty(2 * x.size)
    LOOPS["erf"](x, y)
    exact = np.array([math.erf(v) for v in x])
    assert np.all(np.abs(y - exact) <= 2 * np.finfo(np.float64).eps * np.abs(exact))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LOOPS)
def test_nan_stays_and_limits_hold(name, dtype) -> None:
    x = np.array([np.nan, np.inf, -np.inf], dtype)
    if name in ("log", "log1p_unit"):
        x[1:] = 1  # they are made for less than all numbers
    y = np.empty_like(x)
    LOOPS[name](x, y)
    limits = {"exp": (np.inf, 0), "tanh": (1, -1), "sigmoid": (1, 0), "softplus": (np.inf, 0), "erf": (1, -1)}
    assert np.isnan(y[0])
    if name in limits:
        assert tuple(y[1:]) == pytest.approx(limits[name], rel=1e-6)


def compiled_here(function):
    """Return a kernel's function compiled as kernels are, but not read from disk: what was read shows no code."""
    return numba.njit(nogil=True, error_model="numpy", fastmath=FASTMATH)(function)


def vectors_of(kind: str, compiled) -> list[str]:
    """Return the vectors of "float" or "double" that a function was compiled to."""
    return re.findall(rf"<\d+ x {kind}>", "".join(compiled.inspect_llvm().values()))


def vectors_of_double(compiled) -> list[str]:
    """Return the vectors of float64 in the code compiled for float32."""
    return vectors_of("double", compiled)


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu", "softplus", "mish", "selu"])
@pytest.mark.parametrize(("dtype", "kind"), [(np.float32, "float"), (np.float64, "double")])
def test_loops_over_several_functions_are_vectors(name, dtype, kind) -> None:
    """LLVM left the call of a long polynomial in them once, and the loop scalar."""
    x = np.ones(64, dtype)
    code = activation.CODES[name]
    for loop, arrays in ((activation.activation_loop(code), 2), (activation.gradient_loop(code), 3)):
        fresh = compiled_here(loop.py_func)
        fresh(*[x.copy() for _ in range(arrays)])
        assert len(vectors_of(kind, fresh)) > 20, loop


@pytest.mark.parametrize(("dtype", "kind"), [(np.float32, "float"), (np.float64, "double")])
def test_rows_are_vectors_to_their_ends(dtype, kind) -> None:
    """Masked rows, and logarithms of narrow ones, once ran number by number for the better part."""
    x, mask = np.ones(640, dtype), np.ones(640, np.bool_)
    for least, run, args in (
        (300, softmax.run_masked_softmax, (x, mask, x.copy(), 10, 64)),
        (400, softmax.run_log_softmax, (x, x.copy(), 10, 64)),
        (190, softmax.run_masked_softmax_grad, (x, x.copy(), mask, x.copy(), 10, 64)),
    ):
        fresh = compiled_here(run.py_func)
        fresh(*args)
        assert len(vectors_of(kind, fresh)) > least


def test_float32_stays_float32() -> None:
    """Scalars outside the loops may be float64 (sums of losses, learning rates); no vector may be."""
    x, y, z = (np.ones(640, SINGLE) for _ in range(3))
    for code in range(len(activation.NAMES)):
        for loop in (dense.epilogue_loop(code), dense.gradient_loop(code)):
            fresh = compiled_here(loop.py_func)
            args = (x, y[:64], z, 10, 64) if loop is dense.epilogue_loop(code) else (x, y, z, x[:64].copy(), 10, 64)
            fresh(*args)
            assert vectors_of_double(fresh) == [], activation.NAMES[code]
    for kind in range(len(update.RULES)):
        fresh = compiled_here(update.update_loop(kind).py_func)
        fresh(x, y, z, z.copy(), np.ones(updates.N_NUMBERS))
        assert vectors_of_double(fresh) == []
    for compiled in (softmax.run_softmax, softmax.run_log_softmax):
        fresh = compiled_here(compiled.py_func)
        fresh(x, y, 10, 64)
        assert vectors_of_double(fresh) == []


@pytest.mark.parametrize(("dtype", "kind"), [(np.float32, "float"), (np.float64, "double")])
@pytest.mark.parametrize("code", range(len(update.RULES)))
def test_updates_that_keep_the_weights_are_vectors(code, dtype, kind) -> None:
    """Five arrays have ten overlaps, each of which must be ruled out before a loop may be one of vectors."""

    @compiled_here
    def run(w, g, s1, s2, kept, numbers):
        return update.update(code, w, g, s1, s2, kept, numbers)

    arrays = [np.ones(64, dtype) for _ in range(5)]
    run(*arrays, np.ones(updates.N_NUMBERS))
    assert len(vectors_of(kind, run)) > 10


def test_the_check_for_float64_can_fail() -> None:
    @compiled_here
    def lifted(x, y):
        for i in range(x.size):
            y[i] = x[i] * 1.5 + 0.1

    lifted(np.ones(64, SINGLE), np.ones(64, SINGLE))
    assert vectors_of_double(lifted)


def test_python_runs_inlined_functions_as_python() -> None:
    """They are compiled without what lets Python call them; it must not end the process."""

    @inlined
    def doubled(x):
        return x + x

    @numba.njit
    def run(x):
        return doubled(x)

    assert doubled("ab") == "abab"
    assert run(2) == doubled(2) == 4
    assert register_tiles.padded(9, 8) == 16


def test_plan_and_kernels_can_be_switched_off() -> None:
    net = mlpx.MLP([4, 5, 2])
    with using_fused("off"):
        assert net.predictor() is None
    assert net.predictor() is not None
