"""`load`: whatever was saved, back from its file."""

import os
from typing import Any

from mlpx.callbacks.history import History
from mlpx.errors import shown
from mlpx.files import model_file
from mlpx.files.records import RECORDS
from mlpx.models.sequential import Sequential

ESTIMATORS = ("MLPClassifier", "MLPRegressor")


def load(path: str | os.PathLike[str]) -> Any:
    """Return what was saved: a network, or an estimator.

    A network comes on the backend in force; a model saved on a GPU loads without one. Of a fit's checkpoint comes the
    network as it was then.

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
        if file.kind in ESTIMATORS:
            from mlpx import estimators  # which bring scikit-learn with them

            kind: Any = getattr(estimators, file.kind)
            return kind._from_file(file)
        if file.kind not in ("network", "checkpoint"):
            raise ValueError(f"a model of the kind {shown(file.kind)}, which this version of mlpx does not know")
        net = file.network(Sequential.undrawn)
        net.history = file.state(RECORDS).get("history")
        if not isinstance(net.history, History | None):
            raise TypeError("the history is none")
    return net
