"""Every CUDA kernel with AddressSanitizer: a program of its own, which test_cuda_address.py starts with the sanitizer's
library loaded. Two cases of each op, entries with arrays that do not fit, then products, a small network's prediction,
and steps of a fit."""

from contextlib import suppress
from typing import Any

import numpy as np
from cases import Case, cases
from cuda_instances import compile_all
from cuda_kit import check, recording
from odd_arguments import REFUSED, odd_arrays, on_a_device
from standin import installed
from standin.install import to_device
from standin.kernels import GROUPS

import mlpx
from mlpx import layers, ops
from mlpx.ops.dispatch import using_fused
from mlpx_kernels import Unsupported


def chosen(name: str) -> list[Case]:
    """Return an op's first case and its largest, in float32."""
    every = [case for case in cases(name) if case.args[0].size and case.args[0].dtype == np.float32]
    return [every[0], max(every, key=lambda case: case.args[0].size)]


def run_ops(device: Any, judge: Any) -> None:
    """Hand every op's chosen cases to ``judge``."""
    for name, op in ops.ALL.items():
        if "cupy" in op.kernels:
            for case in chosen(name):
                judge(device, name, case)
            print(name, flush=True)


def run_odd() -> None:
    """Hand every kernel's entry arrays of other sizes than the rest's, which it refuses or stays inside."""
    for name, op in ops.ALL.items():
        if "cupy" not in op.kernels:
            continue
        case = max(chosen(name), key=lambda case: sum(a is not None for a in case.args))
        for _, _, args in odd_arrays(case.args):
            if on_a_device(args):
                with suppress(*REFUSED, Unsupported, AttributeError, LookupError):
                    op.kernel("cupy")(*map(to_device, args), **case.params)


def run_networks(device: Any) -> None:
    """Predict and fit."""
    x = np.random.default_rng(0).standard_normal((70, 20)).astype(np.float32)
    net = mlpx.Sequential(
        *(
            layers.Dense(20, 30, "relu"),
            layers.Dropout(0.2),
            layers.BatchNorm(30),
            layers.Dense(30, 3),
            layers.Softmax(),
        ),
        seed=0,
    )
    net.fit(to_device(x), to_device(np.arange(70) % 3), epochs=1, batch_size=16, progress=False)
    mlpx.MLP([20, 30, 3], output="softmax", seed=0).predict(to_device(x))


def instances() -> dict[str, tuple[str, ...]]:
    """Return by source what all of this asks for."""
    with recording() as asked, installed() as device, mlpx.using_backend("cupy"), using_fused("require"):
        for name, op in ops.ALL.items():
            for case in chosen(name) if "cupy" in op.kernels else ():
                op(*map(to_device, case.args), **{k: to_device(v) for k, v in case.params.items()})
        run_odd()
        with suppress(mlpx.DivergenceError):  # memory that nobody wrote holds NaN
            run_networks(device)
    return {code: tuple(sorted(n for c, n in asked if c == code)) for code in {code for code, _ in asked}}


def main() -> None:
    """Run them all; the sanitizer ends the process at the first stray access."""
    found = instances()
    GROUPS.clear()
    GROUPS.update({code: [names] for code, names in found.items()})
    compile_all((code, names, "address") for code, names in found.items())
    with installed() as device, mlpx.using_backend("cupy"), using_fused("require"):
        run_ops(device, check)
        run_odd()
        print("odd", flush=True)
        run_networks(device)
        assert {"gather", "product", "network"} <= {name.partition("<")[0] for name in device.names}
    print("all", flush=True)


if __name__ == "__main__":
    main()
