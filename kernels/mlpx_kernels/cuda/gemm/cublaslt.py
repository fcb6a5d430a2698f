"""Products by cuBLASLt, with bias, activation and bias gradients taken along, prepared once for fixed arrays.

cuBLASLt thinks in columns. A C-contiguous array (rows, columns) is its column-major matrix (columns x rows), the
transpose; so each product is asked for transposed, and nothing is copied:

===============  =========================  ==============  ===========================================
product          asked for                  m, n, k         epilogue
===============  =========================  ==============  ===========================================
y = x w^T        y^T = (w^T)^T x^T          o, rows, i      bias (o) + ReLU or tanh-GELU, aux kept
dx = d w         dx^T = w^T d^T             i, rows, o      ReLU' or GELU' by aux; bias gradient (i)
dw = d^T x       dw^T = x^T (d^T)^T         i, o, rows      bias gradient (o): the sum of d over rows
===============  =========================  ==============  ===========================================

Needs nvmath-python (extras ``cuda12``, ``cuda13``). Source: cuBLAS documentation, cublasLtMatmul and
cublasLtEpilogue_t.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any
from weakref import finalize

import numpy as np

from mlpx_kernels import Unsupported
from mlpx_kernels.cuda.runtime.arrays import Launch, summed

WORKSPACE = 32 << 20
"""Bytes of scratch; cuBLAS recommends so much for the newest cards."""
REALS = {"float32": 0, "float64": 1, "uint16": 14}
"""cudaDataType_t of what the arrays hold: CUDA_R_32F, CUDA_R_64F, CUDA_R_16BF."""
COMPUTE = {"float32": 68, "tf32": 77, "float64": 70}
"""cublasComputeType_t: CUBLAS_COMPUTE_32F, _32F_FAST_TF32, _64F."""
FORWARD = {"identity": "BIAS", "relu": "RELU_BIAS", "gelu_tanh": "GELU_BIAS"}
KEEPING = {"relu": "RELU_AUX_BIAS", "gelu_tanh": "GELU_AUX_BIAS"}
BACKWARD = {"relu": "DRELU_BGRAD", "gelu_tanh": "DGELU_BGRAD"}
"""The epilogues of the activations that cuBLASLt knows."""


def aux_layout(kind: str, rows: int, width: int) -> tuple[int, int]:
    """Return the leading dimension of what the backward epilogue needs, in its own unit, and its elements of uint8.

    ReLU keeps a bit per output, 128 of them or a multiple to each row; GELU keeps the pre-activation, float32.
    """
    if kind == "relu":
        ld = -(-width // 128) * 128
        return ld, ld // 8 * rows
    ld = -(-width // 8) * 8
    return ld, ld * rows * 4


@cache
def _handle(device: int) -> int:
    """Return the handle of a device, which lives as long as the process: cuBLASLt keeps its own caches by it."""
    from nvmath.bindings import cublasLt

    return int(cublasLt.create())


def _destroy(lt: Any, description: int, layouts: Sequence[int]) -> None:
    lt.matmul_desc_destroy(description)
    for layout in layouts:
        lt.matrix_layout_destroy(layout)


class LtProducts:
    """cuBLASLt with one plan per product.

    Parameters
    ----------
    tf32 : bool
        Round float32 operands to TF32 (10 bits of mantissa) for the tensor cores.
    """

    name, captured = "cuBLASLt", True

    def __init__(self, *, tf32: bool = False) -> None:
        import cupy

        try:
            from nvmath.bindings import cublasLt
        except ImportError as error:
            raise Unsupported(f"nvmath-python cannot be imported: {error}") from error
        self.lt, self.tf32 = cublasLt, tf32
        try:
            self.handle = _handle(cupy.cuda.Device().id)
        except Exception as error:  # a library or driver that does not fit
            raise Unsupported(f"cuBLASLt does not start: {type(error).__name__}: {error}") from error
        # Our own: two fits that run at once on two streams must not share it.
        self.workspace = cupy.empty(WORKSPACE, np.uint8)

    def forward(self, x: Any, w: Any, y: Any, *, bias: Any = None, kind: str = "identity", aux: Any = None) -> Launch:
        """Return the launch of ``y = f(x @ w.T + bias)``; with ``aux`` it keeps what `input_grad` needs."""
        epilogue: dict[str, Any] = {}
        if aux is not None:
            epilogue = {"EPILOGUE": KEEPING[kind], "BIAS_POINTER": bias, **self._aux(kind, aux, *y.shape)}
        elif bias is not None:
            epilogue = {"EPILOGUE": FORWARD[kind], "BIAS_POINTER": bias}
        return self._prepare(w, True, x, False, y, x.shape[1], epilogue)

    def input_grad(
        self, d: Any, w: Any, dx: Any, *, kind: str = "identity", aux: Any = None, bias_grad: Any = None
    ) -> Launch:
        """Return the launch of ``dx = (d @ w) * f'``, f being the activation below, with its bias gradient."""
        epilogue: dict[str, Any] = {}
        if aux is not None:
            epilogue = {"EPILOGUE": BACKWARD[kind], "BIAS_POINTER": bias_grad, **self._aux(kind, aux, *dx.shape)}
        return self._prepare(w, False, d, False, dx, d.shape[1], epilogue)

    def weight_grad(self, d: Any, x: Any, dw: Any, *, bias_grad: Any = None) -> Launch:
        """Return the launch of ``dw = d.T @ x`` and, where wanted, of ``bias_grad = d.sum(axis=0)``."""
        epilogue = {} if bias_grad is None else {"EPILOGUE": "BGRADB", "BIAS_POINTER": bias_grad}
        return self._prepare(x, False, d, True, dw, d.shape[0], epilogue)

    @staticmethod
    def _aux(kind: str, aux: Any, rows: int, width: int) -> dict[str, Any]:
        return {"EPILOGUE_AUX_POINTER": aux, "EPILOGUE_AUX_LD": aux_layout(kind, rows, width)[0]}

    def _prepare(self, a: Any, a_t: bool, b: Any, b_t: bool, out: Any, k: int, epilogue: dict[str, Any]) -> Launch:
        """Return the launch of the column-major product ``out^T (m x n) = op(a) op(b)`` with sums over k.

        Raises
        ------
        Unsupported
            If cuBLASLt knows no way for these shapes, dtypes and epilogue.
        """
        import cupy

        lt, sums = self.lt, summed(out)
        compute = COMPUTE["tf32" if self.tf32 and a.dtype.name == "float32" else sums]
        description = int(lt.matmul_desc_create(compute, REALS[sums]))
        attributes = {"TRANSA": int(a_t), "TRANSB": int(b_t)}
        for name, value in epilogue.items():
            value = int(lt.Epilogue[value]) if name == "EPILOGUE" else value
            attributes[name] = value if isinstance(value, int) else value.data.ptr
        for name, value in attributes.items():
            attribute = lt.MatmulDescAttribute[name]
            number = np.array([value]).astype(lt.get_matmul_desc_attribute_dtype(attribute))
            lt.matmul_desc_set_attribute(description, attribute, number.ctypes.data, number.nbytes)
        # Every array is C-contiguous: in columns, its last axis is the rows and the leading dimension.
        layouts = [
            int(lt.matrix_layout_create(REALS[array.dtype.name], array.shape[1], array.shape[0], array.shape[1]))
            for array in (a, b, out, out)
        ]
        algorithm = self._algorithm(description, layouts, (a, b, out, out))
        one, zero = np.ones(1, sums), np.zeros(1, sums)
        held = (a, b, out, *epilogue.values())  # the description holds their addresses

        def launch() -> None:
            lt.matmul(
                self.handle,
                description,
                one.ctypes.data,
                held[0].data.ptr,
                layouts[0],
                held[1].data.ptr,
                layouts[1],
                zero.ctypes.data,
                out.data.ptr,
                layouts[2],
                out.data.ptr,
                layouts[3],
                algorithm.ptr,
                self.workspace.data.ptr,
                WORKSPACE,
                cupy.cuda.get_current_stream().ptr,
            )

        finalize(launch, _destroy, lt, description, layouts).atexit = False  # the library may be gone by then
        return launch

    def _algorithm(self, description: int, layouts: list[int], arrays: Sequence[Any]) -> Any:
        """Return what cuBLASLt's heuristic thinks best; the result begins with the algorithm."""
        lt = self.lt
        preference = int(lt.matmul_preference_create())
        wishes = {"MAX_WORKSPACE_BYTES": WORKSPACE}
        for name, array in zip("ABCD", arrays, strict=True):  # views into flat buffers begin on 64 bytes, not on 256
            wishes[f"MIN_ALIGNMENT_{name}_BYTES"] = min(256, array.data.ptr & -array.data.ptr)
        for name, value in wishes.items():
            attribute = lt.MatmulPreferenceAttribute[name]
            number = np.array([value]).astype(lt.get_matmul_preference_attribute_dtype(attribute))
            lt.matmul_preference_set_attribute(preference, attribute, number.ctypes.data, number.nbytes)
        found, count = lt.MatmulHeuristicResult(1), np.zeros(1, np.int32)
        try:
            lt.matmul_algo_get_heuristic(
                self.handle, description, *layouts, preference, 1, found.ptr, count.ctypes.data
            )
        except lt.cuBLASLtError as error:
            raise Unsupported(f"cuBLASLt: {error}") from error
        finally:
            lt.matmul_preference_destroy(preference)
        if count[0] == 0:
            raise Unsupported("cuBLASLt knows no algorithm for this product")
        return found
