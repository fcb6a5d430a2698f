"""`load`: whatever was saved, back from its file."""

import os
from typing import Any

from mlpx import model_file
from mlpx.history import History
from mlpx.model import Sequential
from mlpx.records import RECORDS


def load(path: str | os.PathLike[str]) -> Any:
    """Return the network of a model file, on the backend in force; a model saved on a GPU loads without one.

    Raises
    ------
    ModelFileError
        If the file is no usable model, or was changed since it was saved; the message says what and where. It is a
        ValueError. Nothing in a file is ever executed.
    TypeError, ValueError
        If ``path`` is no name of a file.
    OSError
        If it cannot be read.
    """
    with model_file.opened(path) as file:
        if file.kind != "network":
            raise ValueError(f"a model of the kind {file.kind!r}, which this version of mlpx does not know")
        net = file.network(Sequential.undrawn)
        net.history = file.state(RECORDS).get("history")
        if not isinstance(net.history, History | None):
            raise TypeError("the history is none")
    return net
