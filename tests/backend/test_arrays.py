"""Arrays in and out: without a copy where that can be, converted where it must be, or refused by name."""

from typing import Any

import numpy as np
import pytest
from strict import STRICT, to_strict

import mlpx
from mlpx.backend import NUMPY, backend_name, dtype_name
from mlpx.backend.conversion import as_float_array


class Interface:
    """Shows an array through ``__array_interface__`` alone."""

    def __init__(self, array: Any) -> None:
        self.held = array
        self.__array_interface__ = array.__array_interface__


class DLPack:
    """Shows an array through DLPack alone."""

    def __init__(self, array: Any) -> None:
        self.held = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.held.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.held.__dlpack_device__()


class Convertible:
    """Knows ``__array__`` alone."""

    def __init__(self, array: Any) -> None:
        self.held = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.held if dtype is None else self.held.astype(dtype)


def read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("wrap", [lambda a: a, Interface, DLPack, Convertible, read_only])
@pytest.mark.parametrize("layout", ["C", "F"])
def test_asarray_takes_no_copy(wrap: Any, layout: str) -> None:
    held = np.arange(12.0).reshape(3, 4, order=layout)
    came = mlpx.asarray(wrap(held))
    assert isinstance(came, np.ndarray)
    assert np.shares_memory(came, held)
    np.testing.assert_array_equal(came, held)


@pytest.mark.parametrize("wrap", [lambda a: a, Interface, DLPack, Convertible])
def test_asarray_converts_the_dtype(wrap: Any) -> None:
    held = np.arange(12.0).reshape(3, 4)
    came = mlpx.asarray(wrap(held), "float32")
    assert came.dtype == np.float32
    assert not np.shares_memory(came, held)


@pytest.mark.parametrize("given", [[[1, 2], [3, 4]], ((1, 2), (3, 4)), np.array([[1, 2], [3, 4]])])
def test_asarray_of_sequences(given: Any) -> None:
    np.testing.assert_array_equal(mlpx.asarray(given, "float64"), [[1.0, 2.0], [3.0, 4.0]])


def test_layer_takes_what_shows_itself_by_dlpack() -> None:
    x = np.arange(6.0, dtype="float32").reshape(3, 2)
    net = mlpx.MLP([2, 3, 2])
    expected = net.predict(x)
    for wrap in (Interface, DLPack, Convertible):
        np.testing.assert_array_equal(net.predict(wrap(x)), expected)


def test_to_numpy_is_a_view_on_the_host() -> None:
    x = np.arange(3.0)
    assert mlpx.to_numpy(x) is x
    np.testing.assert_array_equal(mlpx.to_numpy(to_strict(x)), x)
    np.testing.assert_array_equal(mlpx.to_numpy(DLPack(x)), x)
    np.testing.assert_array_equal(mlpx.to_numpy([1, 2]), [1, 2])


def test_there_and_back_on_another_backend() -> None:
    x = np.arange(6.0).reshape(2, 3)
    with mlpx.using_backend(STRICT):
        there = mlpx.asarray(read_only(x.copy()), "float32")
    assert there.device == STRICT.device
    assert dtype_name(there) == "float32"
    np.testing.assert_array_equal(mlpx.to_numpy(there), x)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (np.array(["a"]), "<U1"),
        (np.array([1j]), "complex128"),
        (np.array([None]), "object"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "datetime64"),
    ],
)
def test_what_holds_no_real_numbers_is_refused(given: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"x: expected real numbers .*{kind}"):
        as_float_array("x", given, "float32", NUMPY)


@pytest.mark.parametrize("given", [np.array([True, False]), np.array([1, 0], dtype="uint8"), [1, 0], [True, False]])
def test_integers_and_bools_become_floats(given: Any) -> None:
    came = as_float_array("x", given, "float32", NUMPY)
    assert came.dtype == np.float32
    np.testing.assert_array_equal(came, [1.0, 0.0])


def test_ragged_sequences_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^x: its rows differ in length"):
        as_float_array("x", [[1.0], [1.0, 2.0]], "float32", NUMPY)


def test_array_of_another_backend_is_refused() -> None:
    with pytest.raises(TypeError, match=r"x: lies on the backend array_api_strict, the network on numpy.*net.to"):
        mlpx.MLP([2, 3, 2]).predict(to_strict(np.ones((1, 2))))


@pytest.mark.gpu
def test_gpu_takes_arrays_in_and_out() -> None:
    x = np.arange(6.0).reshape(2, 3)
    with mlpx.using_backend("cupy"):
        there = mlpx.asarray(x)
        assert backend_name(there) == "cupy"
        np.testing.assert_array_equal(mlpx.to_numpy(there), x)
        assert mlpx.asarray(there) is there or mlpx.asarray(there).data.ptr == there.data.ptr
