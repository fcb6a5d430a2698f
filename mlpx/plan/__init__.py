"""Plans: a network as plain records for compiled code, and its compiled predictions."""

from mlpx.plan.description import describe
from mlpx.plan.engine import compiled_engine

__all__ = ["compiled_engine", "describe"]
