"""Files of estimators whose parts do not fit each other, with checksums that do: refused, each for what it is."""

import numpy as np
import pytest
from estimators_kit import fitted

import mlpx
from mlpx import schedules
from mlpx.estimators import saving


def wrong(change, path) -> None:
    """Write a file of a classifier whose state was changed, with checksums that fit."""
    saved = saving.model_file.save

    def save(path, kind, net, state, records):
        state = {name: dict(value) if isinstance(value, dict) else value for name, value in state.items()}
        change(state)
        saved(path, kind, net, state, records)

    saving.model_file.save = save
    try:
        fitted(early_stopping=True).save(path)
    finally:
        saving.model_file.save = saved


WRONG = {
    "no architecture": lambda s: s.pop("architecture"),
    "architecture of another kind": lambda s: s.update(architecture=3),
    "another architecture": lambda s: s.update(architecture=fitted(activation="tanh")._fitted.architecture),
    "unknown parameter": lambda s: s["parameters"].update(gamma=1),
    "parameter of another kind": lambda s: s["parameters"].update(alpha="x"),
    "unknown attribute": lambda s: s["attributes"].update(_net=1),
    "method": lambda s: s["attributes"].update(predict=1),
    "count": lambda s: s["attributes"].update(n_features_in_=7),
    "outputs": lambda s: s["attributes"].update(n_outputs_=1),
    "count of another kind": lambda s: s["attributes"].update(n_iter_="x"),
    "number of another kind": lambda s: s["attributes"].update(loss_="x"),
    "names": lambda s: s["attributes"].update(feature_names_in_=np.array(["a"], object)),
    "too few classes": lambda s: s.update(classes=np.array([1, 2])),
    "classes in disorder": lambda s: s.update(classes=np.array([2, 1, 3])),
    "no classes": lambda s: s.pop("classes"),
    "classes of another kind": lambda s: s.update(classes=[0, 1, 2]),
    "labels of another kind": lambda s: s.update(labels=["continuous", False]),
    "binary": lambda s: s.update(labels=["binary", False]),
    "progress": lambda s: s["training"].update(progress=(1,)),
    "moments": lambda s: s["training"].update(moments=[]),
    "moments of another shape": lambda s: s["training"]["moments"][0].update({"0.w": np.zeros(3)}),
    "moments of another dtype": lambda s: s["training"]["moments"][0].update({"0.b": np.zeros(8, "f4")}),
    "moments left out": lambda s: s["training"]["moments"][0].pop("0.b"),
    "steps": lambda s: s["training"].update(steps=-1),
    "optimiser of another kind": lambda s: s["training"].update(optimizer=schedules.Cosine()),
    "curve": lambda s: s["training"]["watch"].update(losses=["x"]),
    "watch": lambda s: s["training"]["watch"].update(best_score="x"),
    "best": lambda s: s["training"].update(best={}),
    "requests": lambda s: s.update(requests={"fit": {"nothing": True}}),
    "left over": lambda s: s.update(more=np.zeros(3)) or s["attributes"].update(more=1),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_do_not_fit_themselves(name, path) -> None:
    wrong(WRONG[name], path)
    with pytest.raises(mlpx.ModelFileError, match="is not a usable mlpx model file"):
        mlpx.load(path)


def test_kinds_that_are_unknown(path) -> None:
    mlpx.files.model_file.save(path, "MLPTransformer", mlpx.MLP([4, 3]), {}, {})
    with pytest.raises(mlpx.ModelFileError, match="kind 'MLPTransformer', which this version of mlpx does not know"):
        mlpx.load(path)
