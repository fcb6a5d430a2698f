"""What compilation must not do: lift float32 to float64, lose digits, need a home, or get in the way of threads."""

import math
import os
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import mlpx
from mlpx.op import using_fused

pytest.importorskip("numba", reason="Numba is not installed: there is nothing compiled")

from mlpx_kernels import updates
from mlpx_kernels.cpu import activation, compile, dense, mathematics, softmax, threads, update
from mlpx_kernels.cpu.compile import inlined, kernel

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
    for name in ("exp", "expm1", "log1p_unit", "tanh", "sigmoid", "softplus", "erf")
}


def softplus(x):
    return np.logaddexp(x, np.zeros(1, x.dtype))


ORACLES = {
    "exp": (np.exp, (-87.0, 88.0), (-700.0, 709.0), 2),
    "expm1": (np.expm1, (-20.0, 40.0), (-40.0, 40.0), 4),
    "log1p_unit": (np.log1p, (0.0, 1.0), (0.0, 1.0), 3),
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
    if name == "log1p_unit":
        x[1:] = 0
    y = np.empty_like(x)
    LOOPS[name](x, y)
    limits = {"exp": (np.inf, 0), "tanh": (1, -1), "sigmoid": (1, 0), "softplus": (np.inf, 0), "erf": (1, -1)}
    assert np.isnan(y[0])
    if name in limits:
        assert tuple(y[1:]) == pytest.approx(limits[name], rel=1e-6)


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
        fresh = inlined(loop.py_func)
        fresh(*[x.copy() for _ in range(arrays)])
        assert len(vectors_of(kind, fresh)) > 20, loop


def test_float32_stays_float32() -> None:
    """Scalars outside the loops may be float64 (sums of losses, learning rates); no vector may be."""
    x, y, z = (np.ones(640, SINGLE) for _ in range(3))
    for code in range(len(activation.NAMES)):
        for loop in (dense.epilogue_loop(code), dense.gradient_loop(code)):
            fresh = inlined(loop.py_func)
            args = (x, y[:64], z, 10, 64) if loop is dense.epilogue_loop(code) else (x, y, z, x[:64].copy(), 10, 64)
            fresh(*args)
            assert vectors_of_double(fresh) == [], activation.NAMES[code]
    for kind in range(len(update.LOOPS)):
        fresh = inlined(update.update_loop(kind).py_func)
        fresh(x, y, z, z.copy(), np.ones(updates.N_NUMBERS))
        assert vectors_of_double(fresh) == []
    for compiled in (softmax.run_softmax, softmax.run_log_softmax):
        fresh = inlined(compiled.py_func)
        fresh(x, y, 10, 64)
        assert vectors_of_double(fresh) == []


def test_the_check_for_float64_can_fail() -> None:
    @inlined
    def lifted(x, y):
        for i in range(x.size):
            y[i] = x[i] * 1.5 + 0.1

    lifted(np.ones(64, SINGLE), np.ones(64, SINGLE))
    assert vectors_of_double(lifted)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MLPX", "XDG", "HOME"))}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=env | environment
    )


PLACE = "from mlpx_kernels.cpu.compile import cache_directory; print(cache_directory())"


def test_cache_goes_where_it_is_told(tmp_path) -> None:
    assert run_python(PLACE, MLPX_CACHE_DIR=str(tmp_path)).stdout.startswith(str(tmp_path))
    assert run_python(PLACE, XDG_CACHE_HOME=str(tmp_path)).stdout.startswith(str(tmp_path / "mlpx"))
    assert run_python(PLACE, HOME=str(tmp_path)).stdout.startswith(str(tmp_path / ".cache" / "mlpx"))


def test_without_a_home_kernels_still_run(tmp_path) -> None:
    done = run_python(
        "import numpy as np\nfrom mlpx import ops\nprint(ops.softmax(np.zeros((1, 2), 'f'))[0, 0])",
        HOME="/nonexistent/nobody",
        TMPDIR=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "0.5"


def test_where_nothing_can_be_written_kernels_compile_in_memory() -> None:
    done = run_python(
        "import numpy as np\nfrom mlpx import ops\nfrom mlpx_kernels.cpu.compile import cache_directory\n"
        "print(cache_directory(), ops.softmax(np.zeros((1, 2), 'f'))[0, 0])",
        MLPX_CACHE_DIR="/proc/no/such/place",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["None", "0.5"]


def test_a_folder_of_somebody_else_is_not_trusted(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLPX_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    assert compile.cache_directory.__wrapped__() is None


def test_cgroup_quotas(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(threads, "Path", lambda _: tmp_path)
    assert threads._quota() is None
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert threads._quota() is None
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert threads._quota() == 2
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert threads._quota() == 1
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("300000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert threads._quota() == 3


def test_number_of_threads(monkeypatch) -> None:
    monkeypatch.setenv("MLPX_NUM_THREADS", "3")
    assert threads.n_threads() == 3
    with threads.using_threads(1):
        assert threads.n_threads() == 1
    monkeypatch.setenv("MLPX_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="MLPX_NUM_THREADS"):
        threads.n_threads()
    monkeypatch.delenv("MLPX_NUM_THREADS")
    assert threads.n_threads() == threads.usable_cores() >= 1


def test_rows_are_shared_without_gap_or_overlap() -> None:
    for n in (1, 2, 3, 5):
        seen = []
        with threads.using_threads(n):
            threads.share_rows(lambda a, b, seen=seen: seen.append((a, b)), 101, 10 * threads.WORTH_A_THREAD)
        assert sorted(seen)[0][0] == 0
        assert sorted(seen)[-1][1] == 101
        assert sum(b - a for a, b in seen) == 101
        assert len(seen) >= n


def test_a_helper_that_never_comes_holds_up_nobody() -> None:
    released, seen = threading.Event(), []
    busy = threads.pool(1).submit(released.wait, 30)
    with threads.using_threads(2):
        threads.share_rows(lambda a, b: seen.append((a, b)), 100, 10 * threads.WORTH_A_THREAD)
    assert sum(b - a for a, b in seen) == 100
    assert not busy.done()
    released.set()


def test_errors_in_a_thread_come_out() -> None:
    def fail(a, b):
        if a:
            raise KeyError("from the thread")

    with threads.using_threads(2), pytest.raises(KeyError, match="from the thread"):
        threads.share_rows(fail, 100, 10 * threads.WORTH_A_THREAD)


def test_blas_gets_its_threads_back() -> None:
    def counts():
        return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    before = counts()
    rng = np.random.default_rng(0)
    net = mlpx.MLP([20, 30, 3])
    net.fit(rng.standard_normal((50, 20)), rng.integers(0, 3, 50), epochs=2, progress=False)
    net.predict(rng.standard_normal((5000, 20)))
    assert {path: counts()[path] for path in before} == before


def test_several_threads_fit_and_predict_at_once() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((600, 64)).astype("f"), rng.integers(0, 10, 600)

    def work(seed: int, results: dict) -> None:
        net = mlpx.MLP([64, 256, 10], seed=seed)
        net.fit(x, y, epochs=3, batch_size=200, n_threads=2, progress=False)
        results[seed] = net.predict(x)

    alone: dict[int, np.ndarray] = {}
    together: dict[int, np.ndarray] = {}
    for seed in range(4):
        work(seed, alone)
    workers = [threading.Thread(target=work, args=(seed, together)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    for seed in range(4):
        assert np.array_equal(alone[seed], together[seed])


def test_the_plan_returns_at_least_every_tenth_of_a_second() -> None:
    """Callbacks of the plan's own clock: no call may take long, so that Ctrl-C and progress bars work."""
    from mlpx.plan_steps import PlanSteps

    rng = np.random.default_rng(0)
    net = mlpx.MLP([64, 256, 256, 10])
    optimizer = mlpx.optimizers.Adam()
    optimizer.start(net)
    batch = net.batch(rng.standard_normal((20_000, 64)), rng.integers(0, 10, 20_000))
    steps = PlanSteps(net, batch, 32, optimizer, seed=0, n_steps=1, n_threads=1, deterministic=False)
    calls: list[int] = []
    steps.epoch(0, np.arange(20_000), 0, calls.append)
    calls.clear()
    began = time.perf_counter()
    steps.epoch(0, np.arange(20_000), 625, calls.append)
    seconds = time.perf_counter() - began
    assert sum(calls) == 625
    assert seconds / len(calls) < 0.1


def test_plan_and_kernels_can_be_switched_off() -> None:
    net = mlpx.MLP([4, 5, 2])
    with using_fused("off"):
        assert net.predictor() is None
    assert net.predictor() is not None
