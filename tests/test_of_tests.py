"""The tests are tested: kernels broken on purpose must not get past `compare.check_kernel`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import cases
from cases_kit import Case, normal
from compare import check_close, check_kernel, check_no_alias, check_same_places, check_unchanged, snapshot

from mlpx import ops
from mlpx.ops._activation import find

Kernel = Callable[..., Any]


def right_dense(x: Any, w: Any, b: Any, *, activation: str = "identity") -> tuple[Any, Any]:
    """An independent dense layer, written apart from the reference."""
    z = np.einsum("...i,oi->...o", x, w, dtype=x.dtype)
    z = z if b is None else z + b.reshape(-1)
    with np.errstate(all="ignore"):
        return (y := find(activation).function(z, np)), (z if find(activation).saves == "z" else y)


def lost_tail(x: Any, w: Any, b: Any, **params: Any) -> Any:
    """Works in blocks of four rows and forgets what is left over."""
    y, saved = right_dense(x, w, b, **params)
    y[len(y) // 4 * 4 :] = 0
    return y, saved


def nan_result(x: Any, w: Any, b: Any, **params: Any) -> Any:
    return tuple(np.full_like(part, np.nan) for part in right_dense(x, w, b, **params))


def one_nan(x: Any, w: Any, b: Any, **params: Any) -> Any:
    y, saved = right_dense(x, w, b, **params)
    y[-1, -1:] = np.nan
    return y, saved


def dropped_bias(x: Any, w: Any, b: Any, **params: Any) -> Any:
    return right_dense(x, w, None, **params)


def lost_activation(x: Any, w: Any, b: Any, *, activation: str) -> Any:
    return right_dense(x, w, b, activation="identity")


def wrong_dtype(x: Any, w: Any, b: Any, **params: Any) -> Any:
    return tuple(part.astype(np.float64) for part in right_dense(x, w, b, **params))


def half_precision(x: Any, w: Any, b: Any, **params: Any) -> Any:
    return tuple(part.astype(x.dtype) for part in right_dense(*(a.astype(np.float16) for a in (x, w, b)), **params))


def wrong_shape(x: Any, w: Any, b: Any, **params: Any) -> Any:
    return tuple(part.T for part in right_dense(x, w, b, **params))


def lost_result(x: Any, w: Any, b: Any, **params: Any) -> Any:
    return right_dense(x, w, b, **params)[0]


def none_result(x: Any, w: Any, b: Any, **params: Any) -> Any:
    return right_dense(x, w, b, **params)[0], None


def written_input(x: Any, w: Any, b: Any, **params: Any) -> Any:
    result = right_dense(x, w, b, **params)
    x *= -1
    return result


def written_zero_sign(x: Any, w: Any, b: Any, **params: Any) -> Any:
    result = right_dense(x, w, b, **params)
    b[0] = -b[0]
    return result


def aliased_output(x: Any, w: Any, b: Any, **params: Any) -> Any:
    """Gives back its own input's memory, with the right numbers in it: x is square here."""
    y, saved = right_dense(x, w, b, **params)
    x[...] = y
    return x, saved


BROKEN: dict[Kernel, str] = {
    lost_tail: "off by",
    nan_result: "NaN in other places",
    one_nan: "NaN in other places",
    dropped_bias: "off by",
    lost_activation: "off by",
    wrong_dtype: "dtype",
    half_precision: "off by",
    wrong_shape: "shape",
    lost_result: "1 results",
    none_result: "NoneType",
    written_input: "wrote to its argument 0",
    written_zero_sign: "wrote to its argument 2",
    aliased_output: "argument 0",
}


def dense_case() -> Case:
    shapes = {"x": (7, 6), "w": (6, 6), "b": (6,)}
    x, w, b = (normal(name, *shape, dtype=np.dtype("float32")) for name, shape in shapes.items())
    return Case("planted", (x, w, b), {"activation": "relu"}, 22)


def test_a_right_kernel_passes_every_case() -> None:
    for case in cases("dense"):
        check_kernel(ops.dense, right_dense, case)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda kernel: kernel.__name__)
def test_broken_kernel_is_caught(broken: Kernel) -> None:
    with pytest.raises(AssertionError, match=BROKEN[broken]):
        check_kernel(ops.dense, broken, dense_case())


def test_aliasing_alone_is_caught() -> None:
    x = np.arange(6.0)
    with pytest.raises(AssertionError, match="result 1 shares memory with argument 0"):
        check_no_alias("identity", (x.copy(), x[::2]), (x,))


# --- special values ---------------------------------------------------------------------------------------------------


def inf_elsewhere(x: Any) -> Any:
    y = ops.softmax.reference(np, x)
    return np.where(np.isnan(y), np.inf, y)


def nan_as_zero(x: Any) -> Any:
    return np.nan_to_num(ops.softmax.reference(np, x))


def unstable(x: Any) -> Any:
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def wrong_axis(x: Any) -> Any:
    return ops.softmax.reference(np, x.T).T


@pytest.mark.parametrize(
    ("broken", "case_id", "message"),
    [
        (inf_elsewhere, "f32-special", "NaN in other places"),
        (nan_as_zero, "f32-special", "NaN in other places"),
        (unstable, "f32-huge", "NaN in other places"),
        (wrong_axis, "f32-7x3", "off by"),
    ],
)
def test_broken_softmax_is_caught(broken: Kernel, case_id: str, message: str) -> None:
    (case,) = (case for case in cases("softmax") if case.id == case_id)
    with np.errstate(all="ignore"), pytest.raises(AssertionError, match=message):
        check_kernel(ops.softmax, broken, case)


def test_infinities_of_the_other_sign_are_caught() -> None:
    with pytest.raises(AssertionError, match="inf in other places"):
        check_same_places("sign", np.array([1.0, -np.inf]), np.array([1.0, np.inf]))


def test_nan_error_does_not_slip_through_a_comparison() -> None:
    """A reference that is itself NaN where the truth is finite must not make the allowance NaN."""
    with pytest.raises(AssertionError, match="NaN in other places"):
        check_close("nan", np.array([np.nan]), np.array([1.0]), np.array([1.0]), 1)
    with pytest.raises(AssertionError, match="off by"):
        check_close("one place", np.array([np.nan, 2.0]), np.array([np.nan, 1.0]), np.array([1.0, 1.0]), 1)


# --- updates ----------------------------------------------------------------------------------------------------------


def right_sgd(w: Any, g: Any, **params: Any) -> None:
    ops.sgd_inplace.reference(np, w, g, **params)


def written_gradient(w: Any, g: Any, **params: Any) -> None:
    right_sgd(w, g, **params)
    g *= 0


def lost_last(w: Any, g: Any, **params: Any) -> None:
    right_sgd(w[:-1], g[:-1], **params)


def past_the_end(w: Any, g: Any, **params: Any) -> None:
    right_sgd(w, g, **params)
    beyond = np.lib.stride_tricks.as_strided(w, shape=(w.size + 1,))
    beyond[-1] = 0


def untouched(w: Any, g: Any, **params: Any) -> None:
    pass


def returned(w: Any, g: Any, **params: Any) -> Any:
    right_sgd(w, g, **params)
    return w


UPDATES = {
    written_gradient: "wrote to its argument 0",
    lost_last: "off by",
    past_the_end: "wrote outside its argument 0",
    untouched: "off by",
    returned: "returned ndarray",
}


def update_case() -> Case:
    w, g = (normal(name, 33, dtype=np.dtype("float32")) for name in "wg")
    return Case("planted", (w, g), {"lr": 0.1}, 16)


def test_a_right_update_passes() -> None:
    check_kernel(ops.sgd_inplace, right_sgd, update_case())


@pytest.mark.parametrize("broken", UPDATES, ids=lambda kernel: kernel.__name__)
def test_broken_update_is_caught(broken: Kernel) -> None:
    with pytest.raises(AssertionError, match=UPDATES[broken]):
        check_kernel(ops.sgd_inplace, broken, update_case())


# --- the tolerance is neither loose nor blind -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_error_of_a_few_hundred_roundings_is_caught(dtype: str) -> None:
    true = normal("t", 50)
    reference = true.astype(dtype)
    fused = reference * (1 + 300 * np.finfo(dtype).eps)
    with pytest.raises(AssertionError, match="off by"):
        check_close("loose", fused.astype(dtype), reference, true, 100)


def test_a_change_of_zero_to_minus_zero_is_a_change() -> None:
    a = np.zeros(3)
    before = snapshot([a])
    a[1] = -0.0
    with pytest.raises(AssertionError, match="wrote"):
        check_unchanged("zero", [a], before)
