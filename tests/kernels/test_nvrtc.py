"""Every CUDA source compiles for every GPU there is, without a GPU: nothing spills, and registers are few enough to
fill a multiprocessor, or the diary says why not."""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import nvrtc
import pytest
from cuda_instances import INSTANCES, kind_of

from mlpx_kernels.cuda.runtime.compile import FOLDER, source

ARCHITECTURES = {13: ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"), 12: ("sm_70",)}
"""By the major version of CUDA that still compiles for them."""
TARGETS = [(major, name) for major, names in ARCHITECTURES.items() for name in names]


class Budget(NamedTuple):
    """What the float instances of a kernel may use on sm_90, at most, and how much they fill, at least.

    Attributes
    ----------
    registers : int
        Of a thread.
    full : float
        The share of a multiprocessor's threads. Below 1, kernels/mlpx_kernels/DIARY.md says why.
    """

    registers: int
    full: float


BUDGETS = {
    "activation_grad_bias_grad": Budget(48, 0.625),
    "batch_norm_dx": Budget(40, 0.75),
    "batch_normalise": Budget(32, 1.0),
    "batch_statistics": Budget(40, 0.75),
    "bias_activate": Budget(48, 0.625),
    "cast": Budget(32, 1.0),
    "dropout": Budget(32, 1.0),
    "dropout_shared": Budget(32, 1.0),
    "element_losses": Budget(40, 0.75),
    "gather": Budget(40, 0.75),
    "layer_norm": Budget(32, 1.0),
    "layer_norm_grad": Budget(56, 0.5),
    "layer_norm_grad_long": Budget(32, 1.0),
    "layer_norm_long": Budget(32, 1.0),
    "network": Budget(128, 0.25),
    "network_tensor": Budget(128, 0.25),
    "norm_gain_grad": Budget(48, 0.625),
    "penalty": Budget(32, 1.0),
    "product": Budget(64, 0.5),
    "softmax": Budget(32, 1.0),
    "softmax_cross_entropy": Budget(56, 0.5),
    "softmax_cross_entropy_long": Budget(48, 0.5),
    "softmax_focal": Budget(56, 0.5),
    "softmax_focal_long": Budget(48, 0.5),
    "softmax_grad": Budget(32, 1.0),
    "softmax_grad_long": Budget(32, 1.0),
    "softmax_long": Budget(32, 1.0),
    "squared_norm": Budget(32, 1.0),
    "total_weight": Budget(40, 0.75),
    "update": Budget(64, 0.5),
}


def threads(name: str) -> int:
    """Return the threads of a block of an instance: ROW_THREADS of rows.cuh, else those of all other kernels."""
    kind, *numbers = re.split(r"[<>,\s]+", name.strip(">"))
    groups = [int(n) for n in numbers if n.isdigit() and int(n) in (8, 32, 256, 1024)]
    return max(256, *groups) if kind.startswith(("softmax", "layer_norm")) else 256


def families(architecture: str) -> dict[str, tuple[str, ...]]:
    """Return the instances that an architecture can run: tensor cores take TF32 and bfloat16 from sm_80 on."""
    old = int(architecture[3:]) < 80
    return {family: names for family, names in INSTANCES.items() if not (old and family == "network_tensor")}


def kernel(name: str) -> str:
    """Return an instance's kernel."""
    return name.partition("<")[0]


def some(names: Sequence[str]) -> list[str]:
    """Return all instances for float, and one of each kernel for every other type of numbers.

    The fused network takes seconds, since it holds every activation: only slow tests compile it for double.
    """
    others = {(kernel(name), kind_of(name)): name for name in names if kernel(name) != "network"}
    return [name for name in names if kind_of(name) == "float" or name in others.values()]


def one_each(names: Sequence[str]) -> list[str]:
    """Return one instance of each kernel, for float where there is one."""
    return list({kernel(name): name for name in sorted(names, key=lambda name: kind_of(name) == "float")}.values())


@cache
def compiled(architecture: str) -> list[nvrtc.Compiled]:
    """Return what came out for an architecture: many instances for sm_90, else one of each kernel.

    The first call compiles for all of them, on all cores.
    """
    if architecture not in _results():
        raise AssertionError(f"{architecture} was not compiled for")
    return _results()[architecture]


@cache
def _results() -> dict[str, list[nvrtc.Compiled]]:
    jobs = []
    for major, architecture in TARGETS:
        if nvrtc.missing(major) is None:
            for family, names in families(architecture).items():
                wanted = some(names) if architecture == "sm_90" else one_each(names)
                pieces = -(-len(wanted) // 12)  # so that no core waits for another's long job
                jobs += [(major, architecture, source(family), wanted[i::pieces]) for i in range(pieces)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda job: nvrtc.compile_for(*job), jobs))
    return {a: [c for job, r in zip(jobs, results, strict=True) if job[1] == a for c in r] for _, a in TARGETS}


def needs(major: int) -> pytest.MarkDecorator:
    """Return the mark of tests of a version of CUDA."""
    return pytest.mark.skipif(nvrtc.missing(major) is not None, reason=nvrtc.missing(major) or "")


@needs(13)
@pytest.mark.parametrize("name", sorted({kernel(name) for names in INSTANCES.values() for name in names}))
def test_registers_and_occupancy(name: str) -> None:
    assert name in BUDGETS, f"{name} has no budget in BUDGETS"
    budget, diary = BUDGETS[name], (FOLDER.parent / "DIARY.md").read_text(encoding="utf-8")
    found = [c for c in compiled("sm_90") if kernel(c.name) == name and kind_of(c.name) in ("float", "Tf32")]
    assert found
    for one in found:
        assert one.registers <= budget.registers, one
        share = nvrtc.occupancy(one.registers, threads(one.name), one.shared)
        assert share >= budget.full, f"{one}: {share:.0%}"
    assert budget.full == 1.0 or f"`{name}`" in diary, (
        f"kernels/mlpx_kernels/DIARY.md does not say why {name} fills less"
    )


@pytest.mark.parametrize(("major", "architecture"), TARGETS)
def test_kernels_compile_and_spill_nothing(major: int, architecture: str) -> None:
    """All instances are compiled for all architectures by the slow test below."""
    if problem := nvrtc.missing(major):
        pytest.skip(problem)
    assert len(compiled(architecture)) >= len(
        {kernel(name) for names in families(architecture).values() for name in names}
    )
    assert not [c for c in compiled(architecture) if c.spilled]


@pytest.mark.slow
@pytest.mark.parametrize("family", list(INSTANCES))
@pytest.mark.parametrize(("major", "architecture"), TARGETS)
def test_every_instance_compiles_for(major: int, architecture: str, family: str) -> None:
    if problem := nvrtc.missing(major):
        pytest.skip(problem)
    if family not in families(architecture):
        pytest.skip(f"{family} needs sm_80")
    assert not [c for c in nvrtc.compile_for(major, architecture, source(family), INSTANCES[family]) if c.spilled]


@pytest.mark.parametrize(
    ("registers", "block", "shared", "share"),
    [
        *((32, 256, 0, 1.0), (33, 256, 0, 0.75), (40, 256, 0, 0.75), (64, 1024, 0, 0.5), (33, 1024, 0, 0.5)),
        *((32, 1024, 0, 1.0), (16, 32, 0, 0.5), (32, 256, 60_000, 0.375), (255, 256, 0, 0.125)),
    ],
)
def test_occupancy_as_nvidias_calculator_has_it(registers: int, block: int, shared: int, share: float) -> None:
    assert nvrtc.occupancy(registers, block, shared) == share
