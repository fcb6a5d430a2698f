"""What a GPU is asked before it is trusted: every kernel against its reference, a captured step, a short training.

`mlpx doctor` prints it on a machine with a GPU. Each finding carries the device's time and the share of its bound.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mlpx import ops
from mlpx.backend import Backend, resolve, to_numpy, using_backend
from mlpx.cli import samples
from mlpx.models.mlp import MLP
from mlpx.ops.dispatch import Op, using_fused
from mlpx.optimizers import Adam
from mlpx.steps.gpu import GraphSteps
from mlpx_kernels.cuda.gemm import autotune

SHAPES = ((4096, 1000), (517, 33))
"""Rows and columns: one size that fills a GPU, for the clock, and one with a ragged edge everywhere."""
REPEATED = 8
"""How often the rows of the first shape are repeated under the clock."""
STEPS = 20
BATCH = 64
CAPTURED = "captured step against launched one by one"
COPIED = 1 << 26
"""Numbers whose copy tells the device's bandwidth."""


@dataclass(frozen=True)
class Finding:
    """One answer.

    Attributes
    ----------
    name : str
    passed : bool
    microseconds : float
        Of the device, for one call; NaN where it was not timed.
    rate : float
        Bytes a second that the arrays given and returned come to, or for products floating-point operations.
    share : float
        Of what a copy on this device reaches; NaN for products.
    note : str
        What is wrong, or why something is switched off.
    """

    name: str
    passed: bool
    microseconds: float = math.nan
    rate: float = math.nan
    share: float = math.nan
    note: str = ""

    def line(self) -> str:
        """Return the finding as a line: verdict, name, time, rate, share, note."""
        parts = [f"{'pass' if self.passed else 'FAIL'}  {self.name:32}"]
        if not math.isnan(self.microseconds):
            product = math.isnan(self.share)
            rate = f"{self.rate / 1e12:8.2f} TFLOP/s" if product else f"{self.rate / 1e9:8.0f} GB/s"
            parts.append(f"{self.microseconds:10.1f} us {rate}")
            parts.append("" if product else f"{self.share:4.0%} of a copy")
        return "  ".join([*parts, self.note]).rstrip()


def findings() -> Iterator[Finding]:
    """Yield the findings on the GPU at hand, in the order of the checks; a check that raises is a finding."""
    backend = resolve("cupy")
    bandwidth = copy_bandwidth(backend)
    for name, op in ops.ALL.items():
        if "cupy" in op.kernels:
            yield _guarded(name, partial(kernel_finding, op, backend, bandwidth))
    yield _guarded(CAPTURED, lambda: captured_finding(backend))
    yield _guarded(f"{STEPS} steps against the CPU", lambda: training_finding(backend))


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # whatever a driver throws is what is asked for here
        return Finding(name, False, note=f"{type(error).__name__}: {error}")


def _parts(result: Any) -> list[Any]:
    return [part for part in (result if isinstance(result, tuple) else (result,)) if part is not None]


def kernel_finding(op: Op[..., Any], backend: Backend, bandwidth: float) -> Finding:
    """Return whether a kernel agrees with its reference in float64, by the rule that the tests go by, and its speed."""
    for n, c in SHAPES:
        args, params = samples.call(op.name, n, c)
        exact = [a.astype(np.float64) if a.dtype.kind == "f" else a.copy() for a in args]
        plain = [a.copy() for a in args]
        device = [backend.asarray(a.copy()) for a in args]
        with np.errstate(all="ignore"):
            true, reference = (op.reference(np, *arrays, **params) for arrays in (exact, plain))
        with using_fused("require"):
            result = op(*device, **params)
        if op.name.endswith("_inplace"):
            true, reference, result = tuple(exact), tuple(plain), tuple(device)
        for number, (t, r, f) in enumerate(zip(_parts(true), _parts(reference), _parts(result), strict=True)):
            problem = _disagreement(t, r, to_numpy(f), n + c)
            if problem:
                return Finding(op.name, False, note=f"({n}, {c}), result {number}: {problem}")
    n, c = SHAPES[0]
    args, params = samples.call(op.name, n, c)
    device = [_repeated(backend.asarray(a), n, backend.xp) for a in args]
    seconds = 1e-6 * microseconds(partial(op, *device, **params))
    result = op(*device, **params)
    if op.name in ("dense", "dense_grad"):
        products = 2 if op.name == "dense_grad" else 1
        return Finding(op.name, True, 1e6 * seconds, 2.0 * REPEATED * n * c * c * products / seconds)
    traffic = sum(a.nbytes for a in device) + sum(part.nbytes for part in _parts(result))
    if op.name.endswith("_inplace"):
        traffic += sum(a.nbytes for a in (device[0], *device[2:]))  # all but the gradient are written too
    return Finding(op.name, True, 1e6 * seconds, traffic / seconds, traffic / seconds / bandwidth)


def _repeated(array: Any, n: int, xp: Any) -> Any:
    """Return an array with its rows repeated, if it has a row for each of n: a launch must not outlast the kernel."""
    return xp.concatenate([array] * REPEATED) if array.shape[0] % n == 0 else array


def _disagreement(true: Any, reference: Any, fused: Any, k: int) -> str:
    """Return how far a result is off, or nothing; see tests/compare.py for the rule."""
    if fused.shape != np.shape(reference) or fused.dtype != np.asarray(reference).dtype:
        return f"is {fused.dtype} {fused.shape}, the reference {np.asarray(reference).dtype} {np.shape(reference)}"
    if not np.array_equal(np.isfinite(fused), np.isfinite(reference)):
        return "NaN or infinity in other places than the reference"
    finite = np.isfinite(reference) & np.isfinite(true)
    if not np.any(finite):
        return ""
    error, own = (float(np.max(np.abs(np.asarray(a)[finite] - true[finite]))) for a in (fused, reference))
    eps = float(np.finfo(np.asarray(reference).dtype).eps)
    allowed = 2.0 * own + math.sqrt(k) * eps * float(np.max(np.abs(true[finite])))
    return "" if error <= allowed else f"off by {error:.3g}, allowed {allowed:.3g}"


def microseconds(call: Callable[[], Any]) -> float:
    """Return the device's time for a call that takes it longer than the host needs to launch it."""
    return float(autotune.microseconds([call]))


def copy_bandwidth(backend: Backend) -> float:
    """Return the bytes a second, read and written, of a copy on the device."""
    source, target = backend.zeros(COPIED, "float32"), backend.zeros(COPIED, "float32")

    def copy() -> None:
        target[...] = source

    return float(2.0 * source.nbytes / (1e-6 * microseconds(copy)))


def _problem() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((STEPS * BATCH, 32)).astype(np.float32)
    return x, (x[:, :4].argmax(axis=1)).astype(np.int64)


def _network() -> MLP:
    return MLP([32, 64, 48, 4], activation="relu", output="softmax", dropout=0.1, seed=0)


def _trained(backend: str | Backend) -> Any:
    x, y = _problem()
    with using_backend(backend):
        net = _network()
        net.fit(x, y, epochs=1, batch_size=BATCH, optimizer=Adam(lr=1e-3), progress=False)
    return to_numpy(net.parameters)


def _stepped(backend: Backend, *, captured: bool) -> tuple[Any, str]:
    """Return the weights after steps that are graphs, or launched one by one, and why they could not be graphs."""
    with using_backend(backend):
        net, optimizer = _network(), Adam(lr=1e-3)
        optimizer.start(net)
        x, y = _problem()
        batch = net.batch(backend.asarray(x), backend.asarray(y))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            steps = GraphSteps(net, batch, BATCH, optimizer, seed=0, n_steps=STEPS)
            for graphs in (graphs for sources in steps.runs.values() for parts in sources for graphs in parts):
                graphs.captured &= captured
            list(steps.epochs(0, np.arange(len(x))[None], 0, lambda taken: None))
    return to_numpy(net.parameters), "; ".join(str(w.message) for w in told)


def captured_finding(backend: Backend) -> Finding:
    """Return whether steps that are graphs lead to the very weights of the same kernels launched one by one."""
    (captured, note), (launched, _) = (_stepped(backend, captured=flag) for flag in (True, False))
    off = float(np.max(np.abs(captured - launched)))
    return Finding(CAPTURED, off == 0.0, note="; ".join(filter(None, (note, f"off by {off:.3g}" if off else ""))))


def training_finding(backend: Backend) -> Finding:
    """Return whether some steps on the GPU lead where they lead on the CPU."""
    gpu, cpu = _trained(backend), _trained("numpy")
    off, size = float(np.max(np.abs(gpu - cpu))), float(np.max(np.abs(cpu)))
    passed = bool(off <= 1e-3 * size)
    return Finding(f"{STEPS} steps against the CPU", passed, note=f"weights differ by {off:.2g} of {size:.2g}")
