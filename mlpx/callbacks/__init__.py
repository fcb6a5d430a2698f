"""Callbacks of a fit: early stopping, history, progress bar."""

from mlpx.callbacks.early_stopping import (
    Callback,
    EarlyStopping,
    Run,
    as_callback,
)
from mlpx.callbacks.history import (
    History,
)

__all__ = [
    "Callback",
    "EarlyStopping",
    "History",
    "Run",
    "as_callback",
]
