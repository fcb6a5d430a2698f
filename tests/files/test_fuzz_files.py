"""Model files, changed at random: every change is noticed, and nothing but `ModelFileError` comes.

Two thousand of them in an ordinary run, twenty thousand with ``-m slow``.
"""

import hashlib
import json
import random

import numpy as np
import pytest

import mlpx
from mlpx.files.tensor_file import ZEROS


def network(path) -> None:
    """Save a network with a history, which every kind of layer is in."""
    net = mlpx.Sequential(
        mlpx.Dense(4, 6, "gelu", bias_init=mlpx.Uniform(-0.5, 0.5)),
        mlpx.BatchNorm(6),
        mlpx.Activation("tanh"),
        mlpx.Dropout(0.25),
        mlpx.TimeDistributed(mlpx.LayerNorm(6), mlpx.Dense(6, 3, lr_factor=0.5)),
        mlpx.Softmax(),
        loss=mlpx.losses.CrossEntropy(0.1, (1.0, 2.0, 0.5)),
    )
    net.fit(np.eye(4), [0, 1, 2, 0], epochs=12, progress=False)
    net.save(path)


def classifier(path) -> None:
    """Save a classifier with everything that one can remember."""
    rng = np.random.default_rng(0)
    names = np.array(["ant", "bee", "größe"])
    model = mlpx.MLPClassifier((3,), solver="adam", early_stopping=True, batch_norm=True, random_state=0)
    model.set_params(
        learning_rate=mlpx.schedules.ReduceOnPlateau(), class_weight={"ant": 2.0, "bee": 1.0, "größe": 0.5}
    )
    for _ in range(10):
        model.partial_fit(rng.normal(size=(30, 2)), names[rng.integers(0, 3, 30)], classes=names)
    model.save(path)


MODELS = {"network": network, "classifier": classifier}


def put(path, data: bytes) -> None:
    """Change a file's content; some file systems flush a file to the disk that is cut to nothing first."""
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()


def changed(data: bytes, rng: random.Random) -> bytes:
    """Return a file with one to three changes: bits, bytes, pieces cut, doubled, moved or put in, a header's length."""
    new = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        place, length = rng.randrange(len(new)), rng.choice((1, 1, 2, 4, 8, 64))
        match rng.randrange(8):
            case 0:
                new[place] ^= 1 << rng.randrange(8)
            case 1:
                new[place : place + length] = rng.randbytes(length)
            case 2:
                del new[place : place + length]
            case 3:
                new[place:place] = new[place : place + length]
            case 4:
                new[place:place] = rng.choice((b"[", b"]", b"{", b'"', b"\\", b"9" * length, b"null", b"NaN", b"\0"))
            case 5:
                del new[place:]
            case 6:
                other = rng.randrange(len(new))
                new[place : place + length], new[other : other + length] = (
                    new[other : other + length],
                    new[place : place + length],
                )
            case 7:
                new[:8] = rng.choice((rng.randrange(len(new)), rng.getrandbits(64), 0)).to_bytes(8, "little")
        if not new:
            return b""
    return bytes(new)


ODD = (None, True, -1, 0, 1, 3, 2**31, 2**63, 10**30, 0.5, float("nan"), "", "relu", "x", [], {}, [[]], {"a": 1})


def edited(value, rng: random.Random):
    """Return some JSON with one change somewhere inside: another value, an entry gone, doubled or renamed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        match rng.randrange(6):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return value | {rng.choice((key + "x", "layer", "kind", "dtype", "record", "array")): rng.choice(ODD)}
            case _:
                return value | {key: edited(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        i = rng.randrange(len(value))
        match rng.randrange(6):
            case 0:
                return value[:i] + value[i + 1 :]
            case 1:
                return value[: i + 1] + value[i:]
            case _:
                return [*value[:i], edited(value[i], rng), *value[i + 1 :]]
    return rng.choice(ODD)


def forged(data: bytes, rng: random.Random) -> bytes:
    """Return a file whose header was edited and whose checksum fits again, as an attacker would make it."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if rng.random() < 0.2:
        header = edited(header, rng)
    else:
        inside = edited(json.loads(header["__metadata__"]["mlpx"]), rng)
        header["__metadata__"]["mlpx"] = json.dumps(inside)
    text = json.dumps(header)
    if isinstance(header, dict) and isinstance(header.get("__metadata__"), dict):
        old = header["__metadata__"].get("sha256")
        start = (
            json.dumps(header, separators=(",", ":")).replace(f'"sha256":"{old}"', f'"sha256":"{ZEROS}"', 1).encode()
        )
        whole = len(start).to_bytes(8, "little") + start
        text = start.replace(ZEROS.encode(), hashlib.sha256(whole).hexdigest().encode(), 1).decode()
    return len(text.encode()).to_bytes(8, "little") + text.encode() + data[8 + length :]


RUNS = [pytest.param(1, id="few"), pytest.param(10, id="many", marks=pytest.mark.slow)]


@pytest.mark.parametrize("times", RUNS)
@pytest.mark.parametrize("model", MODELS)
def test_no_change_is_accepted(model, times, path) -> None:
    MODELS[model](path)
    data, rng = path.read_bytes(), random.Random(0)
    for _ in range(1500 * times // len(MODELS)):
        new = changed(data, rng)
        put(path, new)
        if new == data:
            mlpx.load(path)
            continue
        with pytest.raises(mlpx.ModelFileError, match="is not a usable mlpx model file") as caught:
            mlpx.load(path)
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("times", RUNS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.filterwarnings("ignore:load. tensor")
def test_what_an_attacker_seals_loads_or_is_refused(model, times, path) -> None:
    MODELS[model](path)
    data, rng = path.read_bytes(), random.Random(1)
    loaded = 0
    for _ in range(500 * times // len(MODELS)):
        put(path, forged(data, rng))
        try:
            mlpx.load(path)
            loaded += 1
        except mlpx.ModelFileError as error:
            assert len(str(error)) < 1000  # noqa: PT017
            assert "SHA-256" not in str(error)  # noqa: PT017  (the seal itself was right)
    assert loaded
