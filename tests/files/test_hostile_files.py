"""Model files that are damaged, foreign or hostile: a ValueError that says so, and nothing executed."""

import json
import math
import os
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import save as to_bytes

import mlpx
from mlpx import layers
from mlpx.files import tensor_file

W = {"0.w": np.ones((3, 4), "f"), "0.b": np.ones(3, "f")}
DENSE = {"layer": "Dense", "n_in": 4, "n_out": 3}
GOOD = {"format": "mlpx-1", "dtype": "float32", "seed": 0, "loss": {"kind": "squared_error"}, "layers": [DENSE]}


def write(path, architecture, tensors=None) -> None:
    text = architecture if isinstance(architecture, str) else json.dumps(architecture)
    path.write_bytes(to_bytes(W if tensors is None else tensors, metadata={"mlpx": text}))


def with_layers(*some):
    return GOOD | {"layers": list(some)}


def nested(depth):
    """Return the text of a layer in so many `TimeDistributed`; json.dumps itself would give up."""
    inside = '{"layer": "TimeDistributed", "layers": [' * depth + json.dumps(DENSE) + "]}" * depth
    return json.dumps(with_layers("HERE")).replace('"HERE"', inside)


def test_the_good_file_that_the_hostile_ones_are_made_of(path) -> None:
    write(path, GOOD)
    assert mlpx.load(path).predict(np.ones(4)).tolist() == [5, 5, 5]
    write(path, nested(3), {"3.w": W["0.w"], "3.b": W["0.b"]})
    assert mlpx.load(path).predict(np.ones((1, 4))).tolist() == [[5, 5, 5]]


HOSTILE = {
    "not json": "{",
    "json of another kind": "[1, 2]",
    "null": "null",
    "deep json": "[" * 100_000,
    "no layers": {k: v for k, v in GOOD.items() if k != "layers"},
    "empty layers": with_layers(),
    "layers no list": GOOD | {"layers": {"0": DENSE}},
    "layer no mapping": with_layers(3),
    "layer without a name": with_layers({"n_in": 4, "n_out": 3}),
    "another format": GOOD | {"format": "mlpx-2"},
    "no format": {k: v for k, v in GOOD.items() if k != "format"},
    "unknown layer": with_layers({"layer": "Dens", "n_in": 4, "n_out": 3}),
    "code for a layer": with_layers({"layer": "__import__('os').system('true')"}),
    "dotted layer": with_layers({"layer": "os.system", "command": "true"}),
    "base class": with_layers({"layer": "Layer"}),
    "dunder option": with_layers(DENSE | {"__class__": "int"}),
    "private option": with_layers(DENSE | {"forward": "x"}),
    "layer name of another type": with_layers(DENSE | {"layer": ["Dense"]}),
    "option of another type": with_layers(DENSE | {"n_in": "4"}),
    "float size": with_layers(DENSE | {"n_in": 4.0}),
    "negative size": with_layers(DENSE | {"n_in": -4}),
    "list for activation": with_layers(DENSE | {"activation": ["relu"]}),
    "unknown activation": with_layers(DENSE | {"activation": "eval"}),
    "mapping for activation": with_layers(DENSE | {"activation": {"uniform": [0, 1]}}),
    "bad uniform": with_layers(DENSE | {"init": {"uniform": [1, 0]}}),
    "short uniform": with_layers(DENSE | {"init": {"uniform": [1]}}),
    "nan uniform": with_layers(DENSE | {"init": {"uniform": [float("nan"), 1]}}),
    "list for init": with_layers(DENSE | {"init": [1, 2]}),
    "bias of another type": with_layers(DENSE | {"bias": "yes"}, {"layer": "Dense", "n_in": 3, "n_out": 2}),
    "huge": with_layers(DENSE | {"n_in": 10**9, "n_out": 10**9}),
    "huger": with_layers(DENSE | {"n_in": 10**40, "n_out": 10**40}),
    "layers that do not fit": with_layers(DENSE, DENSE),
    "too many layers": with_layers(*[DENSE] * 3),
    "nested without the tensors": nested(100),
    "deep nesting": nested(400),
    "deeper nesting": nested(5000),
    "empty nesting": with_layers({"layer": "TimeDistributed", "layers": []}),
    "nesting of no list": with_layers({"layer": "TimeDistributed", "layers": "Dense"}),
    "unknown loss": GOOD | {"loss": {"kind": "mse"}},
    "custom loss": GOOD | {"loss": {"kind": "custom", "function": "print"}},
    "loss option": GOOD | {"loss": {"kind": "huber", "delta": "1"}},
    "unknown loss option": GOOD | {"loss": {"kind": "huber", "gamma": 1}},
    "loss no mapping": GOOD | {"loss": "huber"},
    "loss list": GOOD | {"loss": {"kind": ["huber"]}},
    "unknown dtype": GOOD | {"dtype": "float16"},
    "dtype of another type": GOOD | {"dtype": ["float32"]},
    "no dtype": {k: v for k, v in GOOD.items() if k != "dtype"},
    "seed of another type": GOOD | {"seed": "x"},
    "negative seed": GOOD | {"seed": -1},
    "infinite seed": json.dumps(GOOD).replace('"seed": 0', '"seed": Infinity'),
    "dropout axes": with_layers(DENSE, {"layer": "Dropout", "p": 0.5, "shared_axes": 7}),
    "dropout axes of another type": with_layers(DENSE, {"layer": "Dropout", "p": 0.5, "shared_axes": ["x"]}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_architectures(name, path) -> None:
    write(path, HOSTILE[name])
    with pytest.raises(ValueError, match=r"path: .*is not a usable mlpx model file \(.+\)"):
        mlpx.load(path)


TENSORS = {
    "missing": {"0.w": W["0.w"]},
    "left over": W | {"0.v": W["0.b"]},
    "wrong shape": W | {"0.w": np.ones((4, 3), "f")},
    "more axes": W | {"0.b": np.ones((1, 3), "f")},
    "integers": W | {"0.b": np.ones(3, "i4")},
    "bools": W | {"0.b": np.ones(3, bool)},
    "none": {},
    "nan": W | {"0.w": np.full((3, 4), np.nan, "f")},
    "infinity": W | {"0.b": np.array([0, -np.inf, 0], "f")},
    "beyond float32": W | {"0.b": np.full(3, 1e300)},
    "names of attributes": {"layers.0": W["0.w"], "__class__": W["0.b"]},
}


@pytest.mark.parametrize("name", TENSORS)
def test_hostile_tensors(name, path) -> None:
    write(path, GOOD, TENSORS[name])
    with pytest.raises(ValueError, match=r"path: .*is not a usable mlpx model file"):
        mlpx.load(path)


def test_errors_stay_short(path) -> None:
    write(path, with_layers(*[DENSE] * 1000))
    with pytest.raises(ValueError, match=r"tensors '1\.b', .* and 1993 more are missing or left over") as caught:
        mlpx.load(path)
    assert len(str(caught.value)) < 400


def test_layers_that_do_not_fit_with_all_their_tensors(path) -> None:
    write(path, with_layers(DENSE, DENSE), W | {"1.w": W["0.w"], "1.b": W["0.b"]})
    with pytest.raises(ValueError, match=r"path: .*is not a usable mlpx model file .*layers\[1\] Dense"):
        mlpx.load(path)


@pytest.mark.parametrize("depth", [50, 300, 450, 600, 900])
def test_nesting_either_loads_or_is_refused(depth, path) -> None:
    write(path, nested(depth), {f"{depth}.w": W["0.w"], f"{depth}.b": W["0.b"]})
    try:
        net = mlpx.load(path)
    except ValueError as error:
        assert "RecursionError" in str(error)  # noqa: PT017
    else:
        assert net.n_parameters == 15


def test_huge_sizes_are_refused_before_anything_is_made(path, monkeypatch) -> None:
    """There are no tensors for them, and that is seen first."""
    monkeypatch.setattr(layers.base, "bind", None)
    monkeypatch.setattr(mlpx.Sequential, "undrawn", None)
    for size in (40_000, 10**6, 10**12, 10**30):
        write(path, with_layers(DENSE | {"n_in": size, "n_out": size}))
        with pytest.raises(mlpx.ModelFileError, match=r"of shape|at most 2147483647"):
            mlpx.load(path)


SPARSE = {
    "another program's": ({"format": "pt"}, {"a": (10**9,)}),
    "other names": ({"mlpx": json.dumps(GOOD)}, {"a": (10**9,)}),
    "another shape": ({"mlpx": json.dumps(GOOD)}, {"0.w": (3, 10**9), "0.b": (3,)}),
    "more tensors": ({"mlpx": json.dumps(GOOD)}, {"0.w": (3, 4), "0.b": (3,), "1.w": (10**9,)}),
}


@pytest.mark.parametrize("name", SPARSE)
def test_a_file_is_refused_by_its_header_before_its_tensors_are_read(name, path) -> None:
    metadata, shapes = SPARSE[name]
    header, end = {"__metadata__": metadata}, 0
    for key, shape in shapes.items():
        start, end = end, end + 4 * math.prod(shape)
        header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    assert peak_of_refusal(path) < 10**6


HEAVY = {
    "a header beyond the limit": lambda: b"[]," * (tensor_file.MAX_HEADER // 3 + 1),
    "a header that is said to be huge": lambda: None,
    "a layer's name": lambda: json.dumps(with_layers({"layer": "x" * 8_000_000})),
    "an option's name": lambda: json.dumps(with_layers(DENSE | {"x" * 8_000_000: 1})),
    "a dtype": lambda: json.dumps(GOOD | {"dtype": "x" * 8_000_000}),
    "a format": lambda: json.dumps(GOOD | {"format": "x" * 8_000_000}),
}


@pytest.mark.parametrize("name", HEAVY)
def test_errors_and_memory_stay_small_whatever_is_in_a_header(name, path) -> None:
    made = HEAVY[name]()
    if made is None:
        path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    elif isinstance(made, bytes):
        path.write_bytes(len(made).to_bytes(8, "little") + made)
    else:
        write(path, made)
    assert peak_of_refusal(path) < 10**5 + 8 * path.stat().st_size


def test_a_tensor_with_a_long_name(path) -> None:
    write(path, GOOD, W | {"x" * 1_000_000: W["0.b"]})
    peak_of_refusal(path)


def peak_of_refusal(path) -> int:
    """Return the bytes that refusing a file took at most; the error is checked to be short."""
    tracemalloc.start()
    with pytest.raises(mlpx.ModelFileError, match="is not a usable mlpx model file") as caught:
        mlpx.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(str(caught.value)) < 2000
    return peak


@pytest.mark.parametrize(("dtype", "size"), [("BF16", 2), ("F8_E4M3", 1), ("F8_E5M2", 1), ("U64", 8), ("C64", 8)])
def test_dtypes_that_no_network_has(dtype, size, path) -> None:
    tensors = {"0.w": {"dtype": dtype, "shape": [3, 4], "data_offsets": [0, 12 * size]}}
    tensors["0.b"] = {"dtype": "F32", "shape": [3], "data_offsets": [12 * size, 12 * size + 12]}
    header = json.dumps({"__metadata__": {"mlpx": json.dumps(GOOD)}, **tensors}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(12 * size + 12))
    with pytest.raises(ValueError, match="is not a usable mlpx model file"):
        mlpx.load(path)


def test_halves_and_doubles_become_the_dtype_of_the_network(path) -> None:
    write(path, GOOD, {"0.w": W["0.w"].astype("f2"), "0.b": W["0.b"].astype("f8")})
    assert mlpx.load(path).predict(np.ones(4)).tolist() == [5, 5, 5]


def test_files_of_other_programs(path) -> None:
    for data in (b"", b"\0" * 8, b"\xff" * 100, b"PK\x03\x04", os.urandom(1000), to_bytes(W), to_bytes(W, {"a": "b"})):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="is not a usable mlpx model file"):
            mlpx.load(path)


def test_truncated_files(path) -> None:
    write(path, GOOD)
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="is not a usable mlpx model file"):
            mlpx.load(path)


# --- files that were changed since they were saved -------------------------------------------------------------------


def test_every_byte_counts(path) -> None:
    """Of weights, of the header, of the checksums themselves: one bit of each is changed."""
    mlpx.MLP([2, 2], norm="batch", seed=1).save(path)
    data = path.read_bytes()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        with path.open("r+b") as file:  # some file systems flush a file that is cut to nothing first
            file.write(changed)
        with pytest.raises(mlpx.ModelFileError, match="is not a usable mlpx model file"):
            mlpx.load(path)
    path.write_bytes(data)
    mlpx.load(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"relu", b"selu", r"the header, bytes 0 to \d+, is not what was written"),
        (b'"sha256"', b'"sha257"', "the checksums are missing"),
        (b'"sha256_tensors"', b'"sha256_tensers"', "is not what was written"),
    ],
)
def test_what_was_changed_is_named(old, new, message, path) -> None:
    mlpx.MLP([3, 8, 2]).save(path)
    data = path.read_bytes()
    path.write_bytes(data.replace(old, new, 1))
    with pytest.raises(mlpx.ModelFileError, match=message):
        mlpx.load(path)
    path.write_bytes(data[:-3] + b"\1" + data[-2:])
    with pytest.raises(mlpx.ModelFileError, match=r"tensor '1\.b', bytes \d+ to \d+, is not what was written"):
        mlpx.load(path)


def test_checksums_that_fit_do_not_help_an_architecture_that_does_not(path) -> None:
    for name, architecture in HOSTILE.items():
        if isinstance(architecture, dict):
            text = json.dumps({"format": "mlpx-2"} | {k: v for k, v in architecture.items() if k != "format"})
            path.write_bytes(b"".join(tensor_file.chunks(W, {"mlpx": text})))
            if name in ("another format", "no format"):
                mlpx.load(path)
                continue
            with pytest.raises(mlpx.ModelFileError, match="is not a usable mlpx model file"):
                mlpx.load(path)
