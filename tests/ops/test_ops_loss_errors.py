"""What bad arguments of a loss get: an error that names the argument, what came and what is accepted."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlpx import ops

Z, Y, T = np.zeros((4, 3)), np.array([0, 1, 2, 0]), np.zeros((4, 3))
ELEMENTWISE = [
    "squared_error", "absolute_error", "huber", "quantile", "poisson", "sigmoid_cross_entropy", "gamma", "hinge",
    "sigmoid_focal",
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.softmax_cross_entropy(Z, Y[:3]), ValueError, r"target has shape \(3,\) and dtype int64"),
        (lambda: ops.softmax_cross_entropy(Z, Y[:, None]), ValueError, r"target has shape \(4, 1\).*integers \(4,\)"),
        (lambda: ops.softmax_cross_entropy(Z, T[:, :2]), ValueError, r"target has shape \(4, 2\).*float64 \(4, 3\)"),
        (lambda: ops.softmax_cross_entropy(Z, Y.astype(float)), ValueError, r"dtype float64"),
        (lambda: ops.softmax_cross_entropy(np.zeros((4, 0)), Y), ValueError, r"z has shape \(4, 0\)"),
        (lambda: ops.softmax_cross_entropy(Z, Y + 1), ValueError, "from 1 to 3; expected 0 to 2 for z with 3 classes"),
        (lambda: ops.softmax_cross_entropy(Z, Y - 1), ValueError, "from -1 to 1; expected 0 to 2"),
        (lambda: ops.softmax_cross_entropy(Z, Y, np.ones(3)), ValueError, r"sample_weight has shape \(3,\)"),
        (lambda: ops.softmax_cross_entropy(Z, Y, None, np.ones(4)), ValueError, r"class_weight has shape \(4,\)"),
        (lambda: ops.softmax_cross_entropy(Z, Y, None, None, np.ones(3, bool)), ValueError, r"mask has shape \(3,\)"),
        (lambda: ops.softmax_cross_entropy(Z, Y, None, None, np.ones((4, 3))), TypeError, "mask has dtype float64"),
        (
            lambda: ops.softmax_cross_entropy(Z, Y, label_smoothing=1.5),
            ValueError,
            r"label_smoothing: .* got 1\.5",
        ),
        (lambda: ops.sigmoid_cross_entropy(Z, T, label_smoothing=-0.1), ValueError, "label_smoothing"),
        (lambda: ops.sigmoid_cross_entropy(Z, T, None, np.ones(2)), ValueError, r"pos_weight has shape \(2,\)"),
        (lambda: ops.huber(Z, T, delta=0.0), ValueError, "delta: expected"),
        (lambda: ops.huber(Z, T, delta=np.inf), ValueError, "delta: expected a finite number"),
        (lambda: ops.quantile(Z, T, q=(0.1, 0.9)), ValueError, "q has 2 entries; expected 1 or 3"),
        (lambda: ops.softmax_focal(Z, Y + 1), ValueError, "softmax_focal: target holds class numbers from 1 to 3"),
        (lambda: ops.softmax_focal(Z, T[:, :2]), ValueError, r"softmax_focal: target has shape \(4, 2\)"),
        (lambda: ops.softmax_focal(Z, Y, focus=-1.0), ValueError, "focus: expected"),
        (lambda: ops.sigmoid_focal(Z, T, focus=np.nan), ValueError, "focus: expected"),
        (lambda: ops.quantile(Z, T, q=(1.0,)), ValueError, r"q: expected .*\(0, 1\), got 1.0"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((T[:, :2],), ValueError, r"target has shape \(4, 2\); expected \(4, 3\), to match [yz] \(4, 3\)"),
        ((T, np.ones((4, 1))), ValueError, r"sample_weight has shape \(4, 1\); expected \(4,\)"),
    ],
)
def test_bad_input_of_a_single_output_loss(name: str, args: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ops.ALL[name](Z, *args)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_bad_mask_of_a_single_output_loss(name: str) -> None:
    rest = (None, None) if name == "sigmoid_cross_entropy" else (None,)
    with pytest.raises(ValueError, match=r"mask has shape \(4,\); expected \(4, 3\)"):
        ops.ALL[name](Z, T, *rest, np.ones(4, bool))
    with pytest.raises(TypeError, match="mask has dtype int64"):
        ops.ALL[name](Z, T, *rest, np.ones((4, 3), "int64"))
