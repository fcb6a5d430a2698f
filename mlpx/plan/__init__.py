"""Plans: a network as plain records for compiled code, and its compiled predictions."""

from mlpx.plan.plan import (
    Predictor,
    describe,
    kernels,
)

__all__ = [
    "Predictor",
    "describe",
    "kernels",
]
