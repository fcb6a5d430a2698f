"""Which compiled prediction a network has, by where its weights lie."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlpx.backend import backend_of
from mlpx.layers import Buffers, Layer
from mlpx.plan import Predictor
from mlpx_kernels import Unsupported

if TYPE_CHECKING:
    from mlpx.plan.gpu_predictor import GpuPredictor


def predictor_for(
    layers: Sequence[Layer], n_in: int | None, buffers: Buffers, dtype: str, precision: str = "float32"
) -> "Predictor | GpuPredictor | None":
    """Return the compiled prediction for the device that the buffers lie on, or None where there is none."""
    backend = backend_of(buffers.parameters).name
    try:
        if backend == "numpy":
            return Predictor(layers, n_in, buffers, dtype)
        if backend == "cupy":
            from mlpx.plan.gpu_predictor import GpuPredictor  # only a GPU needs it

            return GpuPredictor(layers, n_in, buffers, dtype, None if precision == "float32" else precision)
    except Unsupported:
        pass
    return None
