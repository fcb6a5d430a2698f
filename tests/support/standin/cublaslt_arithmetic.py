"""What cuBLASLt computes beside the product: rounding to TF32 and bfloat16, and epilogues."""

from typing import Any

import numpy as np

from standin.cublaslt_names import Epilogue


def rounded_to_tf32(x: Any) -> Any:
    """Return float32 numbers with ten bits of mantissa, ties away from zero."""
    return ((x.view(np.uint32) + 0x1000) & 0xFFFFE000).view(np.float32)


def numbers(x: Any) -> Any:
    """Return numbers to calculate with: bfloat16 as float32, all others as they are."""
    return (x.astype(np.uint32) << 16).view(np.float32) if x.dtype == np.uint16 else x


def rounded_to_bf16(x: Any) -> Any:
    """Return the bits of finite float32 numbers rounded to bfloat16, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def put(to: Any, x: Any) -> None:
    """Store numbers, rounded where they are kept as bfloat16."""
    to[...] = rounded_to_bf16(x) if to.dtype == np.uint16 else x


def apply(epilogue: Epilogue, z: Any, a: Any, b: Any, bias: Any, aux: Any) -> Any:
    """Return what an epilogue makes of a product; gradients go to the bias, what is kept to aux."""
    name, m = epilogue.name, z.shape[0]
    if "BIAS" in name:
        z = z + numbers(bias)[:, None]
    if name.startswith("DRELU"):
        z = np.where(np.unpackbits(aux, axis=0, bitorder="little")[:m].astype(bool), z, 0)
    elif name.startswith("DGELU"):
        z = z * _gelu_slope(numbers(aux[:m]))
    elif "RELU" in name:
        if aux is not None:
            bits = np.zeros((8 * aux.shape[0], z.shape[1]), bool)
            bits[:m] = z > 0
            aux[...] = np.packbits(bits, axis=0, bitorder="little")
        z = np.maximum(z, 0)
    elif "GELU" in name:
        if aux is not None:
            put(aux[:m], z)
        z = 0.5 * z * (1 + np.tanh(_inner(z)))
    if epilogue == Epilogue.BGRADA:
        put(bias, a.sum(axis=1))
    elif epilogue == Epilogue.BGRADB:
        put(bias, b.sum(axis=0))
    elif "BGRAD" in name:
        put(bias, z.sum(axis=1))
    return z


def _inner(z: Any) -> Any:
    return np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)


def _gelu_slope(z: Any) -> Any:
    t = np.tanh(_inner(z))
    return 0.5 * (1 + t) + 0.5 * z * (1 - t**2) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * z**2)
