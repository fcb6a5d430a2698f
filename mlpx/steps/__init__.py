"""Training steps: layer by layer, by the compiled plan, and as CUDA graphs."""

from mlpx.steps.base import (
    AfterSteps,
    FitSteps,
    GradientHook,
    LayerSteps,
)
from mlpx.steps.fused import (
    fused_steps,
)

__all__ = [
    "AfterSteps",
    "FitSteps",
    "GradientHook",
    "LayerSteps",
    "fused_steps",
]
