"""Networks: layers over one flat parameter buffer, their inputs, and batches of rows."""

from mlpx.network.network import (
    Network,
)
from mlpx.network.settings import (
    check_precision,
)

__all__ = [
    "Network",
    "check_precision",
]
