"""Copies and pickles of networks: the classes themselves, all attributes, and weights of their own."""

import copy
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from cases_kit import normal

import mlpx
from mlpx import layers, losses
from mlpx.layers import BatchNorm, Dense, Layer, TimeDistributed
from mlpx.losses import Huber, Loss

X = normal("x", 6, 4)
WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": lambda net: net.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "another dtype and back": lambda net: net.astype("float32").astype("float64"),
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@pytest.fixture(autouse=True)
def registers() -> Iterator[None]:
    """Forget the classes that a test defines."""
    before = dict(Layer.kinds), dict(Loss.kinds)
    yield
    for kinds, kept in zip((Layer.kinds, Loss.kinds), before, strict=True):
        kinds.clear()
        kinds.update(kept)


class Perceptron(mlpx.MLP):
    """A class of a user's own, with attributes and another constructor."""

    def __init__(self, n_classes: int) -> None:
        super().__init__([4, 5, n_classes], norm="batch", dtype="float64")
        self.names, self.scale = ["a"] * n_classes, np.arange(4.0)

    def predict(self, x: Any, *args: Any, **options: Any) -> Any:
        return super().predict(x / (1.0 + self.scale), *args, **options)


@dataclass
class Halved(Dense):
    """A layer of a user's own, which counts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.calls = 0

    def forward(self, x: Any, context: Any = layers.INFERENCE) -> Any:
        self.calls += 1
        y, back = super().forward(x, context)
        return y / 2, lambda dy: back(dy / 2)


def new_module(name: str, text: str, **given: Any) -> None:
    """Run the text of a module of some name."""
    exec(textwrap.dedent(text), {"__name__": name, "Layer": Layer, "layers": layers, "dataclass": dataclass, **given})


@ways
def test_class_and_attributes_are_kept(way) -> None:
    net = Perceptron(3)
    net.fit(X, np.arange(6) % 3, epochs=2, progress=False)
    made = way(net)
    assert type(made) is Perceptron
    assert (made.names, made.history) == (net.names, net.history)
    assert made.names is not net.names
    np.testing.assert_array_equal(made.scale, net.scale)
    np.testing.assert_allclose(
        made.predict(X), net.predict(X), rtol=0 if way is not WAYS["another dtype and back"] else 1e-5
    )
    kept = net.parameters.copy(), net.buffers.statistics.copy()
    made.fit(X, np.arange(6) % 3, epochs=2, progress=False)
    for array, before in zip((net.parameters, net.buffers.statistics), kept, strict=True):
        np.testing.assert_array_equal(array, before)
    assert made.plan_declined == ""
    assert all(np.shares_memory(p.value, made.parameters) for layer in made.layers for p in layer.parameters.values())


@ways
def test_layers_of_ones_own_are_kept(way) -> None:
    net = mlpx.Sequential(TimeDistributed(Halved(4, 3)), BatchNorm(3), dtype="float64")
    net.layers[0].layers[0].calls = 41
    made = way(net)
    assert type(made.layers[0].layers[0]) is Halved
    assert made.layers[0].layers[0].calls == 41
    np.testing.assert_allclose(made.predict(X), net.predict(X), rtol=1e-5)
    assert made.layers[0].layers[0].calls == 42


def test_what_refers_to_a_layer_refers_to_that_of_the_copy() -> None:
    net = mlpx.MLP([4, 5, 3])
    for made, layer in (copy.deepcopy((net, net.layers[1])), pickle.loads(pickle.dumps((net, net.layers[1])))):
        assert made.layers[1] is layer
        assert np.shares_memory(layer.value("w"), made.parameters)


def test_a_layer_copied_alone_has_weights_of_its_own(both_ways) -> None:
    layer = mlpx.MLP([4, 5, 3], dtype="float64").layers[0]
    for made in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        y, backprop = made.forward(X)
        np.testing.assert_array_equal(y, layer.forward(X)[0])
        backprop(np.ones_like(y))
        assert made.parameters["b"].grad.any()
        assert not layer.parameters["b"].grad.any()
        assert not np.shares_memory(made.value("w"), layer.value("w"))
        mlpx.Sequential(made)  # which belongs to nobody yet


def test_a_pickle_holds_the_weights_once() -> None:
    net = mlpx.MLP([300, 200, 10])
    assert len(pickle.dumps(net)) < 1.1 * net.parameters.nbytes


def test_pickles_import_the_modules_of_classes(tmp_path) -> None:
    """As joblib's, Dask's and spawned processes want."""
    (tmp_path / "mine.py").write_text(
        textwrap.dedent("""\
        from dataclasses import dataclass
        import mlpx
        from mlpx import layers
        @dataclass
        class Twice(layers.Layer):
            def __post_init__(self): self.declare({})
            def forward(self, x, context=layers.INFERENCE): return 2 * x, lambda dy: 2 * dy
        @dataclass(frozen=True)
        class Odd(mlpx.losses.Huber):
            name = "odd"
        """)
    )
    run = [sys.executable, "-c"]
    make = "import mine, mlpx, pickle, sys; pickle.dump(mlpx.Sequential(mine.Twice(), mlpx.Dense(3, 2), loss='odd'), "
    subprocess.run([*run, make + "open('net.pkl', 'wb'))"], cwd=tmp_path, check=True)
    read = "import pickle; net = pickle.load(open('net.pkl', 'rb')); print(type(net.layers[0]), type(net.loss))"
    out = subprocess.run([*run, read], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert out.strip() == "<class 'mine.Twice'> <class 'mine.Odd'>"


# --- names in files --------------------------------------------------------------------------------------------------


def test_a_built_in_name_always_means_the_built_in(tmp_path) -> None:
    net = mlpx.MLP([4, 3, 2], dropout=0.5, loss=Huber(2.0), output="linear")
    expected = net.predict(X)
    net.save(tmp_path / "net")
    new_module(
        "elsewhere",
        """
        @dataclass
        class Dropout(Layer):
            p: float
            def __post_init__(self): self.declare({})
            def forward(self, x, context=layers.INFERENCE): return x * (1 - self.p), lambda dy: dy * (1 - self.p)
        """,
    )

    @dataclass(frozen=True)
    class Own(Loss):
        name = "huber"
        delta: float = 1.0

    @dataclass(frozen=True)
    class Derived(Huber):
        """Of the same name, by inheritance."""

    assert losses.find("huber") == Huber()
    for made in (net.copy(), copy.deepcopy(net), pickle.loads(pickle.dumps(net)), mlpx.load(tmp_path / "net")):
        np.testing.assert_array_equal(made.predict(X), expected)
        assert type(made.layers[1]) is layers.Dropout
        assert type(made.loss) is Huber
    for loss in (Own(3.0), Derived(3.0)):
        own = mlpx.Sequential(Layer.kinds["elsewhere.Dropout"](0.5), Dense(4, 2), loss=loss)
        own.save(tmp_path / "own")
        again = mlpx.load(tmp_path / "own")
        assert type(again.layers[0]) is type(own.layers[0])
        assert (type(again.loss), again.loss) == (type(loss), loss)
        np.testing.assert_array_equal(again.predict(X), own.predict(X))


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_classes_of_one_name_in_two_modules(order, tmp_path) -> None:
    factor = {"one": 2, "two": 3}
    kinds: dict[str, Any] = {}
    for module in order:
        new_module(
            module,
            f"""
            @dataclass
            class Times(layers.Activation):
                def forward(self, x, context=None): return {factor[module]} * x, lambda dy: {factor[module]} * dy
            kinds["{module}"] = Times
            """,
            kinds=kinds,
        )
        if module == order[0]:
            mlpx.Sequential(kinds[module]("relu")).save(tmp_path / "of one")
    for module, kind in kinds.items():
        net = mlpx.Sequential(TimeDistributed(kind("relu")), kind("relu"))
        net.save(tmp_path / module)
        np.testing.assert_allclose(mlpx.load(tmp_path / module).predict(X), factor[module] ** 2 * X, rtol=1e-6)
    with pytest.raises(mlpx.ModelFileError, match=r"unknown name 'Times'. Did you mean '(one|two)\.Times'"):
        mlpx.load(tmp_path / "of one")  # which of them it means, nobody knows


def test_a_class_defined_again_takes_its_own_place(tmp_path) -> None:
    """As a notebook's cell does that is run twice."""
    text = """
        @dataclass
        class Cell(Layer):
            n: int = {n}
            def __post_init__(self): self.declare({{}})
            def forward(self, x, context=layers.INFERENCE): return self.n * x, lambda dy: self.n * dy
        """
    new_module("notebook", text.format(n=1))
    first = mlpx.Sequential(Layer.kinds["Cell"]())
    new_module("notebook", text.format(n=2))
    assert Layer.kinds["Cell"]().n == 2
    first.save(tmp_path / "first")
    assert mlpx.load(tmp_path / "first").layers[0].n == 1
    assert type(first.copy().layers[0]) is type(first.layers[0])


def test_a_class_whose_name_was_taken_is_not_saved_as_another(tmp_path) -> None:
    def make(n: int) -> type[Loss]:
        class Mine(Huber):
            name = "mine"

        Mine.__qualname__ = f"Mine{n}"
        return dataclass(frozen=True)(Mine)

    first, second = make(1), make(2)
    with pytest.raises(ValueError, match="Mine1 cannot be saved: another class of its module has taken its name"):
        mlpx.Sequential(Dense(4, 2), loss=first()).save(tmp_path / "net")
    mlpx.Sequential(Dense(4, 2), loss=second()).save(tmp_path / "net")
