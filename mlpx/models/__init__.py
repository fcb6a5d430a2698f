"""Models that users build: `Sequential` and `MLP`."""

from mlpx.models.mlp import MLP
from mlpx.models.sequential import Sequential

__all__ = ["MLP", "Sequential"]
