"""Models that users build: `Sequential`, `MLP`, and their files."""

from mlpx.models.loading import (
    load,
)
from mlpx.models.mlp import (
    MLP,
)
from mlpx.models.sequential import (
    Sequential,
)

__all__ = [
    "MLP",
    "Sequential",
    "load",
]
