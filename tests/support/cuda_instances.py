"""All instances of the CUDA kernels that the wrappers can ask for, family by family.

Compiled together for the emulator, since g++ spends most of its time on what they share, and one by one by NVRTC. That
wrappers ask for nothing else is tested.
"""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import product

from emulator.build import kernels
from standin.kernels import GROUPS

from mlpx_kernels.activations import CODES
from mlpx_kernels.cuda.loss import CLIPPED_BINARY
from mlpx_kernels.cuda.runtime.compile import source
from mlpx_kernels.updates import RPROP

REALS = ("float", "double")
BF16 = "__nv_bfloat16"
STORED = (*REALS, BF16)


def _held(real: str, plain: bool) -> tuple[str, ...]:
    """Return GROUP and ITEMS of rows.cuh: see held_rows in arrays.py, and cross_entropy in loss.py."""
    return ("8, 4", "32, 8", "256, 8", "1024, 8" if plain or real == "float" else "1024, 4")


INSTANCES: dict[str, tuple[str, ...]] = {
    "dense": tuple(
        f"{kernel}<{real}, {code}>"
        for kernel, real, code in product(("bias_activate", "activation_grad_bias_grad"), STORED, CODES.values())
    ),
    "loss": (
        *(f"total_weight<{real}>" for real in REALS),
        *(
            f"softmax_cross_entropy<{real}, {held}, {str(plain).lower()}>"
            for real, plain in product(REALS, (True, False))
            for held in _held(real, plain)
        ),
        *(f"softmax_cross_entropy_long<{real}, 1024>" for real in REALS),
    ),
    "element_loss": tuple(
        f"element_losses<{real}, {code}>" for real, code in product(REALS, (*range(1, 10), CLIPPED_BINARY))
    ),
    "cast": (f"cast<float, {BF16}>",),
    "margin": tuple(
        name
        for real in REALS
        for name in (
            *(f"softmax_focal<{real}, {held}>" for held in _held(real, True)[: 4 if real == "float" else 3]),
            f"softmax_focal_long<{real}, 1024>",
        )
    ),
    "gather": tuple(f"gather<{real}>" for real in REALS),
    "update": (
        *(f"{kernel}<{real}>" for kernel, real in product(("squared_norm", "penalty"), REALS)),
        *(f"update<{real}, {kind}>" for real, kind in product(REALS, range(RPROP + 1))),
    ),
    "softmax": tuple(
        name
        for kernel, real, kind in product(("softmax", "softmax_grad"), REALS, range(3))
        for name in (
            *(f"{kernel}<{real}, {kind}, {held}>" for held in _held(real, True)),
            f"{kernel}_long<{real}, {kind}, 1024>",
        )
    ),
    "dropout": (
        *(f"{kernel}<{real}>" for kernel, real in product(("dropout", "dropout_shared"), REALS)),
        f"dropout<{BF16}>",
    ),
    "norm": (
        *(
            f"{kernel}<{real}, {held}>"
            for kernel, real in product(("layer_norm", "layer_norm_grad"), REALS)
            for held in _held(real, kernel == "layer_norm")
        ),
        *(f"{kernel}_long<{real}, 1024>" for kernel, real in product(("layer_norm", "layer_norm_grad"), REALS)),
        *(f"norm_gain_grad<{real}, {of_rows}>" for real, of_rows in product(REALS, ("true", "false"))),
        *(
            f"{kernel}<{real}>"
            for kernel, real in product(("batch_statistics", "batch_normalise", "batch_norm_dx"), REALS)
        ),
    ),
    "network": tuple(f"network<{real}>" for real in REALS),
    "network_tensor": ("network_tensor<Tf32>", "network_tensor<Bf16>"),
    "product": tuple(
        f"product<{factors}, {result}, {transposed}>"
        for factors, result in (*zip(STORED, STORED, strict=True), (BF16, "float"))
        for transposed in ("false, true", "false, false", "true, false")
    ),
}


def groups(family: str) -> list[tuple[str, ...]]:
    """Return the instances of a family in groups that are compiled together: by the type of their numbers."""
    kinds = sorted({kind_of(name) for name in INSTANCES[family]})
    return [tuple(name for name in INSTANCES[family] if kind_of(name) == kind) for kind in kinds]


def kind_of(name: str) -> str:
    """Return the type of an instance's numbers, its first argument."""
    return re.split("[<,>]", name + ",")[1]


def build() -> None:
    """Compile everything for the emulator, two at a time.

    The checked build takes long to compile, so it is made for float alone; what is wrong there is the same for others.
    """
    compile_all(
        (text, group, kind)
        for text, known in GROUPS.items()
        for group in known
        for kind in ("fast", "checked")
        if kind == "fast" or kind_of(group[0]) == "float"
    )


def compile_all(wanted: Iterable[tuple[str, tuple[str, ...], str]]) -> None:
    """Compile (source, instances, build), two at a time."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: kernels("kernels", *job), wanted))


for _family in INSTANCES:
    GROUPS[source(_family)] = groups(_family)
