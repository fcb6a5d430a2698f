"""``nvmath.bindings.cublasLt`` on NumPy: products of column-major matrices with epilogues, and what cuBLASLt refuses.

Names, numbers and signatures are those of nvmath-python 1.0. Source of the semantics: cuBLAS documentation,
cublasLtMatmul, cublasLtEpilogue_t and cublasLtMatmulDescAttributes_t.
"""

import ctypes
import types
from typing import Any

import numpy as np

from standin.cublaslt_arithmetic import apply, numbers, put, rounded_to_tf32
from standin.cublaslt_names import (
    COMPUTE,
    DTYPES,
    TF32,
    Epilogue,
    MatmulDescAttribute,
    MatmulPreferenceAttribute,
    cuBLASLtError,
)
from standin.device import Memory, StandInError, device, live
from standin.streams import current, with_pointer

_ATTRIBUTE_DTYPES = {"TRANSA": np.int32, "TRANSB": np.int32, "EPILOGUE": np.uint32, "BIAS_DATA_TYPE": np.int32}
_objects: dict[int, dict[str, Any]] = {}


def _new(**what: Any) -> int:
    number = len(_objects) + 1
    _objects[number] = what
    return number


def create() -> int:
    """Return a handle."""
    device.check_driver()
    return _new()


def get_matmul_desc_attribute_dtype(attribute: int) -> type:
    """Return the NumPy type of an attribute."""
    return _ATTRIBUTE_DTYPES.get(MatmulDescAttribute(attribute).name, np.int64)


def get_matmul_preference_attribute_dtype(attribute: int) -> type:
    """Return the NumPy type of a preference."""
    return np.uint64 if attribute == MatmulPreferenceAttribute.MAX_WORKSPACE_BYTES else np.uint32


def matmul_desc_create(compute_type: int, scale_type: int) -> int:
    """Return a description of a product."""
    if COMPUTE[compute_type] != DTYPES[scale_type]:
        raise cuBLASLtError("CUBLAS_STATUS_INVALID_VALUE (7)")
    return _new(compute=compute_type, TRANSA=0, TRANSB=0, EPILOGUE=1)


def matmul_desc_set_attribute(description: int, attribute: int, buffer: int, size: int) -> None:
    """Set an attribute from a buffer on the host, of exactly its size."""
    value = _number(buffer, size, get_matmul_desc_attribute_dtype(attribute))
    _objects[description][MatmulDescAttribute(attribute).name] = value


def _number(buffer: int, size: int, kind: Any) -> int:
    if size != np.dtype(kind).itemsize:
        raise cuBLASLtError("CUBLAS_STATUS_INVALID_VALUE (7)")
    return int(np.frombuffer(ctypes.string_at(buffer, size), kind)[0])


def matrix_layout_create(dtype: int, rows: int, cols: int, ld: int) -> int:
    """Return the layout of a column-major matrix."""
    if ld < rows or min(rows, cols) < 1:
        raise cuBLASLtError("CUBLAS_STATUS_INVALID_VALUE (7)")
    return _new(dtype=DTYPES[dtype], rows=rows, cols=cols, ld=ld)


def matmul_preference_create() -> int:
    """Return preferences of a search."""
    return _new()


def matmul_preference_set_attribute(preference: int, attribute: int, buffer: int, size: int) -> None:
    """Set the room for scratch, or how matrices are aligned."""
    _objects[preference][MatmulPreferenceAttribute(attribute).name] = _number(
        buffer, size, get_matmul_preference_attribute_dtype(attribute)
    )


def destroy(number: int) -> None:
    """Forget an object."""
    _objects[number].clear()


class MatmulHeuristicResult:
    """An array of results, whose memory begins with an algorithm."""

    def __init__(self, size: int = 1) -> None:
        self._room = np.zeros(88 * size, np.uint8)
        self.ptr = self._room.ctypes.data


def matmul_algo_get_heuristic(
    handle: int, description: int, a: int, b: int, c: int, d: int, preference: int, wanted: int, out: int, count: int
) -> None:
    """Write an algorithm, or raise where cuBLASLt has none: no epilogues in float64, layouts that do not fit."""
    _sizes(description, a, b, d)
    found = _objects[description]
    if DTYPES[1] == COMPUTE[found["compute"]] and found["EPILOGUE"] != Epilogue.DEFAULT:
        raise cuBLASLtError("CUBLAS_STATUS_NOT_SUPPORTED (15)")
    # The algorithm remembers what it was promised; cuBLASLt itself would take 256 bytes for granted.
    wishes = _objects[preference]
    promised = [wishes.get(f"MIN_ALIGNMENT_{name}_BYTES", 256) for name in "ABCD"]
    ctypes.memmove(out, np.array([1, wishes.get("MAX_WORKSPACE_BYTES", 0), *promised]).ctypes.data, 48)
    ctypes.memmove(count, np.ones(1, np.int32).ctypes.data, 4)


def _sizes(description: int, a: int, b: int, d: int) -> tuple[int, int, int]:
    """Return m, n, k of ``D (m x n) = op(A) (m x k) op(B) (k x n)``."""
    found, la, lb, ld = _objects[description], _objects[a], _objects[b], _objects[d]
    m, k = (la["rows"], la["cols"])[:: -1 if found["TRANSA"] else 1]
    k_too, n = (lb["rows"], lb["cols"])[:: -1 if found["TRANSB"] else 1]
    if (k, m, n) != (k_too, ld["rows"], ld["cols"]):
        raise cuBLASLtError("CUBLAS_STATUS_INVALID_VALUE (7)")
    return m, n, k


def _memory(pointer: int, nbytes: int, what: str) -> Memory:
    """Return the allocation that holds so many bytes from an address on."""
    for memory in live():
        start = memory.bytes.ctypes.data
        if start <= pointer and pointer + nbytes <= start + memory.nbytes:
            return memory
    raise StandInError(f"cublasLtMatmul: {what} reaches outside of every array")


def _matrix(pointer: int, layout: int, what: str) -> tuple[Any, Memory]:
    """Return a column-major matrix in device memory as NumPy sees it, and its allocation."""
    found = _objects[layout]
    size = found["dtype"].itemsize
    memory = _memory(pointer, ((found["cols"] - 1) * found["ld"] + found["rows"]) * size, what)
    offset = pointer - memory.bytes.ctypes.data
    strides = (size, found["ld"] * size)
    return np.ndarray((found["rows"], found["cols"]), found["dtype"], memory.bytes, offset, strides), memory


def _vector(pointer: int, count: int, dtype: Any, what: str) -> tuple[Any, Memory]:
    memory = _memory(pointer, count * np.dtype(dtype).itemsize, what)
    return np.ndarray((count,), dtype, memory.bytes, pointer - memory.bytes.ctypes.data), memory


def matmul(
    handle: int, description: int, alpha: int, a: int, a_layout: int, b: int, b_layout: int, beta: int, c: int,
    c_layout: int, d: int, d_layout: int, algorithm: int, workspace: int, workspace_bytes: int, stream: int,
) -> None:  # fmt: skip
    """Launch ``D = epilogue(alpha op(A) op(B))`` on a stream."""
    m, n, _ = _sizes(description, a_layout, b_layout, d_layout)
    found = _objects[description]
    epilogue = Epilogue(found["EPILOGUE"])
    one = np.frombuffer(
        ctypes.string_at(alpha, np.dtype(COMPUTE[found["compute"]]).itemsize), COMPUTE[found["compute"]]
    )
    zero = np.frombuffer(ctypes.string_at(beta, one.itemsize), one.dtype)
    if one[0] != 1 or zero[0] != 0 or c != d:
        raise NotImplementedError("the stand-in knows alpha 1, beta 0 and C = D alone")
    known, room, *promised = np.frombuffer(ctypes.string_at(algorithm, 48), np.int64).tolist()
    if not known or workspace_bytes < room or any(p % n for p, n in zip((a, b, c, d), promised, strict=True)):
        raise cuBLASLtError("CUBLAS_STATUS_INVALID_VALUE (7)")
    (a_, a_memory), (b_, b_memory), (d_, d_memory) = (
        _matrix(p, layout, name) for p, layout, name in ((a, a_layout, "A"), (b, b_layout, "B"), (d, d_layout, "D"))
    )
    reads, writes = [a_memory, b_memory], [d_memory]
    if workspace_bytes:
        writes.append(_memory(workspace, workspace_bytes, "the workspace"))
    bias = aux = None
    if "BIAS" in epilogue.name or "BGRAD" in epilogue.name:
        length = n if epilogue == Epilogue.BGRADB else m
        kind = DTYPES[found["BIAS_DATA_TYPE"]] if "BIAS_DATA_TYPE" in found else d_.dtype
        bias, memory = _vector(found["BIAS_POINTER"], length, kind, "the bias")
        (reads if "BIAS" in epilogue.name else writes).append(memory)
    if "AUX" in epilogue.name or (epilogue.name.startswith("D") and epilogue != Epilogue.DEFAULT):
        aux, memory = _aux(found, epilogue, m, n, d_.dtype)
        (writes if "AUX" in epilogue.name else reads).append(memory)
    device.counters.products += 1
    device.names.append(f"cublasLtMatmul {epilogue.name}")
    op_a, op_b = (x.T if found[t] else x for x, t in ((a_, "TRANSA"), (b_, "TRANSB")))
    tf32 = found["compute"] == TF32

    def work() -> None:
        left, right = (numbers(np.ascontiguousarray(x)) for x in (op_a, op_b))
        z = rounded_to_tf32(left) @ rounded_to_tf32(right) if tf32 else left @ right
        put(d_, apply(epilogue, z, left, right, bias, aux))

    stream_object = current() if current().ptr == stream else with_pointer(stream)
    stream_object.run(work, reads, writes)


def _aux(found: dict[str, Any], epilogue: Epilogue, m: int, n: int, dtype: Any) -> tuple[Any, Memory]:
    """Return what a forward epilogue keeps: a bit or a number for every element, column-major."""
    ld, pointer, bits = found["EPILOGUE_AUX_LD"], found["EPILOGUE_AUX_POINTER"], "RELU" in epilogue.name
    if ld < m or ld % (128 if bits else 8) or pointer % 16:
        raise cuBLASLtError("CUBLAS_STATUS_INVALID_VALUE (7)")
    rows, dtype = (ld // 8, np.dtype(np.uint8)) if bits else (ld, dtype)
    flat, memory = _vector(pointer, rows * n, dtype, "the epilogue's auxiliary array")
    return flat.reshape(n, rows).T, memory


def modules() -> dict[str, types.ModuleType]:
    """Return nvmath and its bindings by name."""
    functions = (
        *(create, destroy, get_matmul_desc_attribute_dtype, get_matmul_preference_attribute_dtype, matmul),
        *(matmul_algo_get_heuristic, matmul_desc_create),
        *(matmul_desc_set_attribute, matmul_preference_create, matmul_preference_set_attribute, matrix_layout_create),
        *(Epilogue, MatmulDescAttribute, MatmulPreferenceAttribute, MatmulHeuristicResult, cuBLASLtError),
    )
    names: dict[str, Any] = {f.__name__: f for f in functions}
    names |= {f"{kind}_destroy": destroy for kind in ("matmul_desc", "matrix_layout", "matmul_preference")}
    lt = types.ModuleType("nvmath.bindings.cublasLt")
    lt.__dict__.update(names)
    bindings = types.ModuleType("nvmath.bindings")
    bindings.cublasLt = lt  # type: ignore[attr-defined]
    nvmath = types.ModuleType("nvmath")
    nvmath.bindings = bindings  # type: ignore[attr-defined]
    nvmath.__path__ = bindings.__path__ = []
    return {m.__name__: m for m in (nvmath, bindings, lt)}
