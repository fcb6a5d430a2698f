"""Constructors with odd values for each option: an error that names the option, or plain numbers that work."""

import copy
import dataclasses
import inspect
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import mlpx
from mlpx import callbacks, layers, losses, optimizers, schedules
from mlpx.ops.dispatch import using_fused
from mlpx.optimizers import full_batch


class Broken:
    """Raises wherever it is looked at."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __float__(self) -> float:
        raise RuntimeError("no float")

    def __index__(self) -> int:
        raise RuntimeError("no index")


ODD: dict[str, Any] = {
    **{f"{kind.__name__}({n})": kind(n) for kind in (np.int8, np.uint8, np.int64, np.float16) for n in (0, 1, 3, 100)},
    **{f"{kind.__name__}(0.5)": kind(0.5) for kind in (np.float16, np.float32, np.float64, np.longdouble, np.array)},
    "bool": True,
    "np.bool": np.True_,
    "Decimal": Decimal("0.5"),
    "Decimal(1)": Decimal(1),
    "Decimal NaN": Decimal("sNaN"),
    "Fraction": Fraction(1, 2),
    "Fraction(3)": Fraction(3),
    "complex": 0.5 + 0j,
    "complex64": np.complex64(0.5),
    "huge": 10**400,
    "more digits than Python writes": 10**5000,
    "longdouble beyond floats": np.longdouble("1e4000"),
    "negative": -1,
    "NaN": float("nan"),
    "inf": np.float32(np.inf),
    "string": "0.5",
    "bytes": b"abc",
    "np.str": np.str_("relu"),
    "np.void": np.void(b"abc"),
    "datetime": np.datetime64("2020-01-01"),
    "timedelta": np.timedelta64(3),
    "None": None,
    "array of one": np.array([1]),
    "array of two": np.array([0.5, 0.25]),
    "object array": np.array(Decimal("0.5")),
    "masked": np.ma.masked,
    "list": [1, 2],
    "set": {1, 2},
    "dict": {1: 0.5},
    "class": int,
    "broken": Broken(),
}  # fmt: skip

ARGUMENTS: dict[str, dict[str, Any]] = {
    "Dense": {"n_in": 4, "n_out": 3},
    "Activation": {"kind": "relu"},
    "Dropout": {"p": 0.5},
    "BatchNorm": {"n": 4},
    "LayerNorm": {"n": 4},
    "Uniform": {"low": -0.5, "high": 0.75},
    "MLP": {"sizes": [4, 5, 3]},
    "CustomLoss": {"function": lambda y, t: (float(((y - t) ** 2).mean()), 2 * (y - t) / y.size)},
}
"""What a constructor cannot do without."""
INSIDE = {"TimeDistributed": "layers", "Sequential": "layers"}
"""Constructors of other objects alone, whose errors have tests of their own."""
X = np.random.default_rng(0).standard_normal((12, 4))
Y = np.arange(12) % 3


def constructors() -> Iterator[type]:
    """Yield every public class that a user constructs from options."""
    yield from (kind for kind in layers.Layer.kinds.values() if kind.__module__.startswith("mlpx."))
    yield from losses.Loss.kinds.values()
    for table in (optimizers.OPTIMIZERS, full_batch.FULL_BATCH, schedules.SCHEDULES):
        yield from table.values()
    yield from (callbacks.EarlyStopping, mlpx.Uniform, mlpx.MLP, mlpx.Sequential)


CALLS = [
    (kind, name)
    for kind in dict.fromkeys(constructors())
    if kind.__name__ not in INSIDE
    for name in inspect.signature(kind).parameters
]


ALSO = {"then": "schedule", "kind": "activation", "low": "high", "smallest": "largest"}
"""What an error may name in place of an option."""


def made(kind: type, name: str, value: Any) -> Any:
    return kind(**(ARGUMENTS.get(kind.__name__, {}) | {name: value}))


def network(thing: Any) -> tuple[mlpx.Sequential, dict[str, Any]]:
    """Return a network and options of fit that an object has its part in; its configuration is data that JSON holds."""
    net: mlpx.Sequential = mlpx.MLP([4, 3], dtype="float64")
    if isinstance(thing, mlpx.Sequential):
        net = thing
    elif isinstance(thing, layers.Layer):
        width = thing.input_size() or 4
        net = mlpx.Sequential(layers.Dense(4, width), thing, layers.Dense(thing.output_size(width), 3))
        json.dumps(thing.config())
    elif isinstance(thing, mlpx.Uniform):
        net = mlpx.Sequential(layers.Dense(4, 3, init=thing))
    elif isinstance(thing, losses.Loss):
        net.loss = thing
        if not isinstance(thing, losses.CustomLoss):
            json.dumps(thing.config())
    elif isinstance(thing, optimizers.Optimizer | full_batch.FullBatch):
        net = mlpx.MLP([4, 3], output="linear", loss="squared_error", dtype="float64")
        return net, {"optimizer": thing}
    elif isinstance(thing, schedules.Schedule):
        for epoch in (0, 1, 7, 130, 70_000):
            assert type(thing.factor(10 * epoch, 400, epoch)) is float
        return net, {"optimizer": optimizers.SGD(lr=1e-3, schedule=thing)}
    else:
        return net, {"callbacks": [thing]}
    return net, {}


def unsuited(thing: Any) -> bool:
    """Return whether an option is for other than three outputs, or for other than inputs of two axes."""
    rows = [getattr(thing, name, None) for name in ("class_weight", "pos_weight", "q")]
    axes = getattr(thing, "shared_axes", ())
    return any(row is not None and len(row) != 3 for row in rows) or any(not -2 <= axis < 2 for axis in axes)


def use(thing: Any, mode: str) -> None:
    """Train with an object."""
    net, options = network(thing)
    x = np.ones((12, net.n_in or 4)) * X[:, :1]
    target = np.arange(12) % (net.n_out or 3)
    if not isinstance(net.loss, losses.ClassLoss):
        target = np.abs(np.ones((12, net.n_out or 3)) * X[:, :1]) % 1 + 1e-3
    refused = pytest.raises(ValueError, match=r"outputs|axes") if unsuited(thing) else nullcontext()
    with using_fused(mode), suppress(mlpx.DivergenceError), refused:
        net.fit(x, target, epochs=3, batch_size=5, progress=False, **options)


def plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(plain, value))
    ours = isinstance(value, schedules.Schedule | mlpx.Uniform) or callable(value)
    return type(value) in (int, float, bool, str, type(None)) or ours


@pytest.mark.parametrize(("kind", "name"), CALLS, ids=[f"{kind.__name__}-{name}" for kind, name in CALLS])
def test_odd_values_are_refused_by_name_or_become_plain_numbers(kind: type, name: str) -> None:
    for label, value in ODD.items():
        try:
            thing = made(kind, name, value)
        except (TypeError, ValueError) as error:
            words = str(error)
            assert name in words or ALSO.get(name, name) in words, (label, words)
            assert len(words) < 600, label
            continue
        fields = (
            ["seed", "dtype"] if isinstance(thing, mlpx.Sequential) else [f.name for f in dataclasses.fields(thing)]
        )
        for field in fields:
            assert field.startswith(("_", "state")) or plain(getattr(thing, field)), (label, field, thing)
        for mode in ("auto", "off"):
            use(copy.deepcopy(thing), mode)


NUMBERS = [
    (np.int8(3), 3), (np.uint8(100), 100), (np.float16(0.5), 0.5), (np.longdouble(0.25), 0.25), (Decimal("0.1"), 0.1),
    (Fraction(1, 4), 0.25), (np.array(2.0), 2.0), (np.float32(0.1), float(np.float32(0.1))), (7, 7.0),
]  # fmt: skip


@pytest.mark.parametrize(("value", "number"), NUMBERS, ids=[repr(value) for value, _ in NUMBERS])
def test_checks_return_plain_numbers(value: Any, number: float) -> None:
    from mlpx.errors import check_count, check_number

    assert check_number("x", value) == number
    assert type(check_number("x", value)) is float
    if isinstance(value, int | np.integer):
        assert (type(check_count("x", value)), check_count("x", value)) == (int, number)


def test_checks_return_plain_names_and_flags() -> None:
    from mlpx.errors import check_flag, check_name

    assert check_flag("x", np.True_) is True
    assert type(check_name("x", np.str_("a"), ["a", "b"])) is str


@pytest.mark.parametrize("count", [np.int8(3), np.int16(10), np.uint8(200)], ids=repr)
def test_lbfgs_with_a_small_integer_of_numpy(count: Any) -> None:
    results = []
    for memory in (count, int(count)):
        net = mlpx.MLP([4, 2, 3], output="linear", dtype="float64")
        net.fit(X, X[:, :3], epochs=8, optimizer=full_batch.LBFGS(memory=memory), progress=False)
        results.append(net.parameters.copy())
    np.testing.assert_array_equal(*results)


SCHEDULES: list[tuple[Callable[[], schedules.Schedule], int]] = [
    (lambda: schedules.WarmUp(np.uint8(100)), 400),
    (lambda: schedules.Step(np.int8(3), 0.999), 200),
    (lambda: schedules.InverseScaling(power=np.int64(1)), 20),
]


@pytest.mark.parametrize(("make", "epochs"), SCHEDULES)
@pytest.mark.parametrize("mode", ["auto", "off"])
def test_small_integers_of_numpy_do_not_overflow_in_schedules(make: Any, epochs: int, mode: str) -> None:
    with using_fused(mode):
        history = mlpx.MLP([4, 3]).fit(
            X, Y, epochs=epochs, batch_size=12, optimizer=optimizers.SGD(lr=0.01, schedule=make()), progress=False
        )
    assert history.epochs == epochs


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_a_learning_rate_beyond_floats_ends_a_fit_with_the_schedule_named(mode: str) -> None:
    net = mlpx.MLP([4, 3])
    optimizer = optimizers.SGD(lr=1e-300, schedule=schedules.Exponential(gamma=1e100))
    with (
        using_fused(mode),
        pytest.raises(mlpx.DivergenceError, match=r"learning rate of step 4 .*Exponential") as caught,
    ):
        net.fit(X, Y, epochs=9, batch_size=12, optimizer=optimizer, callbacks=[lambda run: None], progress=False)
    assert caught.value.epoch == 4
    assert caught.value.history.epochs == 4
    assert np.isfinite(net.parameters).all()


def test_a_schedule_that_gives_no_number_is_named() -> None:
    class Names(schedules.Schedule):
        def factor(self, step: int, n_steps: int, epoch: int) -> Any:
            return "half"

    with pytest.raises(TypeError, match=r"schedule: .*gives the factor 'half'"):
        mlpx.MLP([4, 3]).fit(X, Y, epochs=1, optimizer=optimizers.SGD(schedule=Names()), progress=False)


def test_no_number_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in ODD.values():
            try:
                optimizers.Adam(lr=value)
            except (TypeError, ValueError) as error:
                assert str(error).startswith("lr: ")  # noqa: PT017
