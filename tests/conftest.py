"""What all tests share: which are left out and why, and a house where each test finds the defaults it expects."""

import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from mlpx.backend import selection
from mlpx.ops import dispatch

# Derandomized: the same examples on every run. No deadline: the first call of a kernel may compile it. No database:
# a test run leaves nothing behind.
settings.register_profile("house", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("house")

TESTS = Path(__file__).parent
QUICK = ("test_house.py", "test_readme.py", "backend", "layers", "network", "optimizers", "models", "files")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    problem = selection.gpu_problem() if any("gpu" in item.keywords for item in items) else None
    for item in items:
        if item.path.relative_to(TESTS).parts[0] in QUICK:
            item.add_marker(pytest.mark.quick)
        if "gpu" in item.keywords and problem:
            item.add_marker(pytest.mark.skip(reason=problem))
        if "slow" in item.keywords and "slow" not in (config.option.markexpr or ""):
            item.add_marker(pytest.mark.skip(reason="slow: run with -m slow"))


@pytest.fixture(autouse=True, scope="session")
def _heard() -> Iterator[None]:
    """Let Ctrl-C be heard, which a shell that starts tests in the background switches off."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a test does to the process: the chosen backend and the rule for fused kernels."""
    # On a machine with a GPU "auto" would be that; the tests mean the CPU unless they say otherwise.
    monkeypatch.setattr(selection, "_default", selection.NUMPY)
    monkeypatch.setattr(dispatch, "_mode", dispatch._mode)


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fits have as many threads as they ask for, whatever the machine has."""
    if find_spec("numba") is None:
        return
    from mlpx_kernels.cpu.threading import thread_count

    usable = thread_count.usable_cores()
    monkeypatch.setattr(thread_count, "cores", lambda: 64)
    monkeypatch.setattr(thread_count, "usable_cores", lambda: usable)


INTERRUPTING = ("interrupt", "pool", "blas_threads", "checkpoints", "epochs_together", "again", "divergence")


@pytest.fixture(autouse=True)
def _fresh_workers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave no pool behind whose executor an exception at any line of it may have left locked."""
    yield
    pools = sys.modules.get("mlpx_kernels.cpu.threading.parallel_rows")
    if pools is not None and any(word in request.path.stem for word in INTERRUPTING):
        pools._pools.clear()


@pytest.fixture(params=["off", "auto"], ids=["reference", "fused"])
def both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a test twice: by the references, and by the kernels where there are some."""
    with dispatch.using_fused(request.param):
        yield


@pytest.fixture
def cupy_standin() -> Iterator[Any]:
    """Have ``import cupy`` find the stand-in, where kernels can run on the CPU; its device, with its counters."""
    import cuda_instances  # noqa: F401  (which kernels are compiled together)
    from emulator import no_compiler
    from standin import installed

    if problem := no_compiler():
        pytest.skip(problem)
    with installed() as device:
        yield device


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a model may be saved."""
    return tmp_path / "model.safetensors"
