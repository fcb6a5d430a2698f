"""What a network cannot be trained on is refused on a GPU in the words that a CPU uses, and nothing has changed."""

from typing import Any

import numpy as np
import pytest

import mlpx

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 4)).astype(np.float32)
Y = np.arange(20) % 3
MASK = np.ones((20, 3), bool)


def changed(array: np.ndarray, place: Any, value: Any) -> np.ndarray:
    copy = array.copy()
    copy[place] = value
    return copy


CALLS: dict[str, dict[str, Any]] = {
    "width of x": {"x": X[:, :3]},
    "rows of y": {"y": Y[:19]},
    "NaN in x": {"x": changed(X, (3, 1), np.nan)},
    "infinity in x": {"x": changed(X, (19, 3), np.inf)},
    "no rows": {"x": X[:0], "y": Y[:0]},
    "a label too large": {"y": changed(Y, 5, 3)},
    "a negative label": {"y": changed(Y, 5, -1)},
    "labels that are no numbers": {"y": np.array(["a", "b"] * 10)},
    "objects": {"x": X.astype(object)},
    "complex numbers": {"x": X.astype(complex)},
    "shape of the weights": {"sample_weight": np.ones(3)},
    "a negative weight": {"sample_weight": changed(np.ones(20), 2, -1.0)},
    "weights of zero": {"sample_weight": np.zeros(20)},
    "shape of the mask": {"mask": MASK[:, :2]},
    "values of the mask": {"mask": changed(MASK.astype(float), (0, 0), 0.5)},
    "a mask that forbids the target": {"mask": changed(MASK, (4, 1), False)},
    "a share of validation": {"validation": 1.5},
    "too much validation": {"validation": 0.99},
    "validation of another width": {"validation": (X[:, :2], Y)},
    "epochs": {"epochs": -1},
    "batch size": {"batch_size": 0},
    "optimiser": {"optimizer": "adamm"},
}


def refusal(backend: str, call: dict[str, Any]) -> tuple[type, str]:
    """Return the exception and its text, having seen that the weights stayed."""
    with mlpx.using_backend(backend):
        masked = "mask" in call
        net = mlpx.MLP([4, 5, 3], output="masked_softmax" if masked else "softmax", seed=0)
        before = mlpx.to_numpy(net.parameters).copy()
        given = {"x": X, "y": Y, "epochs": 1, "progress": False} | call
        with pytest.raises((ValueError, TypeError)) as raised:
            net.fit(given.pop("x"), given.pop("y"), **given)
        assert np.array_equal(mlpx.to_numpy(net.parameters), before)
    return raised.type, str(raised.value)


@pytest.mark.parametrize("name", CALLS)
def test_the_words_are_those_of_the_cpu(cupy_standin: Any, name: str) -> None:
    assert refusal("cupy", CALLS[name]) == refusal("numpy", CALLS[name])
