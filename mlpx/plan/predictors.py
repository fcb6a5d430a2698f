"""Which compiled prediction a network has, by where its weights lie."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlpx.backend import backend_of
from mlpx.layers import Buffers, Layer
from mlpx.ops.dispatch import declined
from mlpx.plan.engine import compiled_engine
from mlpx_kernels import Unsupported

if TYPE_CHECKING:
    from mlpx.plan.cpu_predictor import Predictor
    from mlpx.plan.gpu_predictor import GpuPredictor


def predictor_for(
    layers: Sequence[Layer], n_in: int | None, buffers: Buffers, dtype: str, precision: str = "float32"
) -> "Predictor | GpuPredictor | None":
    """Return the compiled prediction for the device that the buffers lie on, or None where there is none."""
    backend = backend_of(buffers.parameters).name
    try:
        if backend == "numpy":
            with compiled_engine():
                from mlpx.plan.cpu_predictor import Predictor
            return Predictor(layers, n_in, buffers, dtype)
        if backend == "cupy":
            with compiled_engine():
                from mlpx.plan.gpu_predictor import GpuPredictor
            return GpuPredictor(layers, n_in, buffers, dtype, None if precision == "float32" else precision)
    except Unsupported as reason:
        declined(reason)
    return None
