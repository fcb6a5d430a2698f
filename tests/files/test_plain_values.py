"""Values as JSON and tensors: types, dtypes and every bit come back, and what is no such thing is refused."""

import json
from collections import OrderedDict

import numpy as np
import pytest

from mlpx.files.plain_values import Reader, Record, Writer

RECORDS = {
    "Point": Record(complex, lambda z: {"x": z.real, "y": z.imag}, lambda state: complex(state["x"], state["y"]))
}


def there_and_back(value):
    writer = Writer(RECORDS, "state.")
    data = json.loads(json.dumps(writer(value, "v")))
    return Reader(RECORDS, writer.tensors.__getitem__)(data)


PLAIN = [
    None, True, 0, -1, 10**30, 0.1, 1e-320, float("inf"), float("-inf"), "", "größer \ud800 \0", [], (), {},
    [1, [2.5, "x"], (None, True)], (1,), {"a": {"b": [0.1] * 9}, "a.b": [0.2] * 9},
    {"a": 1, 2: "b", 0.5: None, (1, "x"): [3], True and "t": False},
    [0.1] * 100, [1.0, 2] * 50, [0.1, float("inf")] * 10, complex(1, 2), {"deep": {"deeper": [complex(0, -1.5)]}},
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_built_in_types(value) -> None:
    again = there_and_back(value)
    assert again == value
    assert repr(again) == repr(value)


def test_nan() -> None:
    assert np.isnan(there_and_back(float("nan")))
    assert np.isnan(there_and_back([float("nan")] * 20)[7])


ARRAYS = [
    np.arange(6).reshape(2, 3), np.arange(6.0)[::-2], np.array(3.5), np.zeros((0, 3), np.float32),
    np.array([True, False]),
    np.arange(3, dtype=np.uint8), np.arange(3, dtype=">i4"), np.arange(3, dtype=np.float16), np.array([1, 2], "M8[D]"),
    np.array([1, 2], ">m8[25s]"), np.array(["ant", "größe", ""]), np.array([["a"], ["bc"]]),
    np.array(["ab", "c"], ">U2"),
    np.array(["", ""]), np.array(["ant", "größe", ""], object), np.array([["a"], ["b"]], object), np.zeros(0, object),
    np.array([1, "a", None, 2.5, (1, 2), [3, 4], True], object), np.array([np.int8(3), np.float32(0.1)], object),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
]  # fmt: skip


@pytest.mark.parametrize("value", ARRAYS, ids=lambda a: f"{a.dtype} {a.shape}")
def test_arrays(value) -> None:
    again = there_and_back(value)
    assert type(again) is np.ndarray
    assert again.dtype == value.dtype.newbyteorder("=")
    assert again.shape == value.shape
    assert again.tolist() == value.tolist()
    assert [type(each) for each in again.ravel().tolist()] == [type(each) for each in value.ravel().tolist()]


SCALARS = [
    np.float32(0.1), np.float64(0.1), np.float64(np.inf), np.int8(-3), np.uint64(2**64 - 1), np.bool_(True),
    np.str_("größe"), np.float16(0.1), np.datetime64("2020-01-01"), np.timedelta64(3, "h"), np.datetime64("NaT"),
]  # fmt: skip


@pytest.mark.parametrize("value", SCALARS, ids=repr)
def test_numbers_of_numpy(value) -> None:
    again = there_and_back(value)
    assert type(again) is type(value)
    assert repr(again) == repr(value)
    assert again.dtype == value.dtype


def test_long_doubles_become_doubles() -> None:
    assert repr(there_and_back(np.longdouble("0.1"))) == repr(np.float64(np.longdouble("0.1")))


def test_random_states() -> None:
    state = np.random.RandomState(3)
    state.standard_normal(3)
    again = there_and_back([state])[0]
    assert state.standard_normal(2000).tolist() == again.standard_normal(2000).tolist()


@pytest.mark.parametrize(
    "value",
    [
        print, lambda: 0, object(), np.complex64(1), np.zeros(3, np.longdouble), np.zeros(2, complex), b"bytes",
        {1, 2},
        np.zeros(2, "S3"), np.ma.masked_array([1, 2]), OrderedDict(), np.random.default_rng(0), np.zeros(2, "i4,i4"),
        np.random.RandomState(np.random.PCG64(0)), type("Mine", (int,), {})(3), np.array([print], object),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_no_file_holds(value) -> None:
    with pytest.raises(TypeError, match=r"(?s)v\.0\.1.*cannot be saved"):
        Writer(RECORDS)(([1, value],), "v")


TENSORS = {
    "f8": np.zeros(3), "f4": np.zeros(3, "f4"), "i8": np.array([1, 2, 3]), "u1": np.zeros(6, np.uint8),
    "neg": np.array([-1, 7]),
    "u4": np.array([97, 0x110000], np.uint32), "key": np.zeros(624, np.uint32), "matrix": np.zeros((2, 2)),
}  # fmt: skip
HOSTILE = [
    {}, {"a": 1, "b": 2}, {"os.system": "true"}, {"record": ["os.system", {}]}, {"record": ["Point", {}]},
    {"record": ["Point", 3]},
    {"record": 3}, {"record": [["Point"], {}]}, {"tuple": 3}, {"tuple": {"a": 1}}, {"dict": [[1]]},
    {"dict": [[[], 1]]}, {"dict": 5},
    {"float": "1e5"}, {"float": 3}, {"array": "gone"}, {"array": 3}, {"array": ["f8"]}, {"floats": "f4"},
    {"floats": "matrix"},
    {"dated": ["M8[D]", "f8"]}, {"dated": ["O", "i8"]}, {"dated": ["M8[D],O", "i8"]}, {"dated": [3, "i8"]},
    {"text": [1, [2], "u4"]}, {"text": [0, [0], "u4"]}, {"text": [3, [1], "u4"]}, {"text": [True, [2], "key"]},
    {"text": [1, [3], "key"]}, {"text": [1, [-1], "key"]}, {"text": [1, "x", "key"]}, {"text": [1, [624], "f8"]},
    {"strings": [[3], "u1", "f8"]}, {"strings": [[2], "u1", "neg"]}, {"strings": [[2], "u1", "i8"]},
    {"strings": [[3], "f4", "i8"]},
    {"objects": [[3], [1, 2]]}, {"objects": [[2], 3]}, {"scalar": ["float64", "x"]}, {"scalar": ["object", 1]},
    {"scalar": ["int8", 1000]}, {"scalar": ["M8[D]", "x"]}, {"scalar": ["M8[D]", 2**70]}, {"scalar": ["str", 3]},
    {"scalar": [["f8"], 1]},
    {"random_state": 3}, {"random_state": [{"array": "key"}, 625, 0, 0.0]},
    {"random_state": [{"array": "key"}, -1, 0, 0.0]},
    {"random_state": [{"array": "u4"}, 3, 0, 0.0]}, {"random_state": [{"array": "f8"}, 3, 0, 0.0]},
    {"random_state": [[0] * 624, 3, 0, 0.0]},
]  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE, ids=str)
def test_what_no_writer_makes(data) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, OverflowError)):
        Reader(RECORDS, TENSORS.__getitem__)([data])
