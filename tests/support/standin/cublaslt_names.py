"""The names and numbers of cuBLASLt that the library uses. Source: cuBLAS documentation."""

from enum import IntEnum

import numpy as np

DTYPES = {0: np.dtype(np.float32), 1: np.dtype(np.float64), 14: np.dtype(np.uint16)}
"""cudaDataType_t: CUDA_R_32F, CUDA_R_64F, CUDA_R_16BF; bfloat16 lies in arrays of 16-bit numbers."""
COMPUTE = {68: np.float32, 77: np.float32, 70: np.float64}
"""cublasComputeType_t: 32F, 32F_FAST_TF32, 64F."""
TF32 = 77


class Epilogue(IntEnum):
    """cublasLtEpilogue_t."""

    DEFAULT = 1
    RELU = 2
    RELU_AUX = 130
    BIAS = 4
    RELU_BIAS = 6
    RELU_AUX_BIAS = 134
    DRELU = 136
    DRELU_BGRAD = 152
    GELU = 32
    GELU_AUX = 160
    GELU_BIAS = 36
    GELU_AUX_BIAS = 164
    DGELU = 192
    DGELU_BGRAD = 208
    BGRADA = 256
    BGRADB = 512


class MatmulDescAttribute(IntEnum):
    """cublasLtMatmulDescAttributes_t."""

    TRANSA = 3
    TRANSB = 4
    EPILOGUE = 7
    BIAS_POINTER = 8
    EPILOGUE_AUX_POINTER = 11
    EPILOGUE_AUX_LD = 12
    BIAS_DATA_TYPE = 26


class MatmulPreferenceAttribute(IntEnum):
    """cublasLtMatmulPreferenceAttributes_t."""

    MAX_WORKSPACE_BYTES = 1
    MIN_ALIGNMENT_A_BYTES = 5
    MIN_ALIGNMENT_B_BYTES = 6
    MIN_ALIGNMENT_C_BYTES = 7
    MIN_ALIGNMENT_D_BYTES = 8


class cuBLASLtError(Exception):
    """A status that is not success."""
