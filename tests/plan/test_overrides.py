"""What subclasses and single objects compute in their own way: no fused code passes over it."""

from dataclasses import dataclass

import numpy as np
import pytest

import mlpx
from mlpx import layers, losses, optimizers
from mlpx.layers import INFERENCE
from mlpx.ops.dispatch import using_fused
from mlpx.overrides import overridden

N, N_IN, C = 40, 4, 3
RNG = np.random.default_rng(3)
X, Y = RNG.standard_normal((N, N_IN)), RNG.integers(0, C, N)

REGISTERS = [(kinds, dict(kinds)) for kinds in (layers.Layer.kinds, losses.Loss.kinds)]


@dataclass
class Doubled(layers.Dense):
    """y = 2 f(x w + b)."""

    def forward(self, x, context=INFERENCE):
        y, back = super().forward(x, context)
        return 2 * y, lambda dy: back(2 * dy)


@dataclass
class Halved(layers.Dense):
    """Weights that count for half of what they are."""

    def value(self, name):
        return super().value(name) / 2


class Mixin:
    """A forward from beside."""

    def forward(self, x, context=INFERENCE):
        y, back = super().forward(x, context)
        return y + 1, back


@dataclass
class Mixed(Mixin, layers.Dense):
    """y = 1 + f(x w + b)."""


@dataclass
class Always(layers.Dropout):
    """Drops every second feature, in predictions too."""

    def forward(self, x, context=INFERENCE):
        kept = np.arange(x.shape[-1]) % 2 == 0
        return x * kept, lambda dy: dy * kept


@dataclass
class Less(layers.Dropout):
    """A probability that is computed."""

    @property
    def p(self):
        return 0.0

    @p.setter
    def p(self, value) -> None:
        pass


@dataclass(frozen=True)
class HalfLoss(losses.CrossEntropy):
    """Half the cross-entropy."""

    def __call__(self, *given):
        loss, dz = super().__call__(*given)
        return loss / 2, dz / 2


@dataclass(frozen=True)
class Swapped(losses.SquaredError):
    """Another op under the old name."""

    op = losses.AbsoluteError.op


@dataclass(kw_only=True)
class Backwards(optimizers.Adam):
    """Adam up the hill."""

    def update(self, net, lr):
        super().update(net, -lr)


@dataclass(kw_only=True)
class Shy(optimizers.SGD):
    """Gradients that count for a tenth."""

    def scale(self, net):
        return 0.1


@dataclass(kw_only=True)
class Cautious(optimizers.Momentum):
    """Half of the momentum in the first steps."""

    def options(self, step):
        return {"momentum": self.momentum / 2 if step < 3 else self.momentum}


@dataclass(kw_only=True)
class Own(optimizers.Optimizer):
    """An optimiser from nothing."""

    @staticmethod
    def op(w, g, *, lr, **others):
        w -= lr * np.sign(g)


class Squeezed(mlpx.Sequential):
    """A network with a penalty of its own."""

    def step(self, batch, context):
        loss = super().step(batch, context)
        self.gradient[...] += 0.1 * self.parameters
        return loss


def a_method_of_one_object():
    layer = layers.Dense(5, C)
    inner = layer.forward

    def forward(x, context=INFERENCE):
        y, back = inner(x, context)
        return 3 * y, lambda dy: back(3 * dy)

    layer.forward = forward
    return layer


def net_of(*inner, loss="cross_entropy", kind=mlpx.Sequential, head=()):
    """Return what makes a network that goes from `N_IN` over 5 to `C`."""
    return lambda: kind(layers.Dense(N_IN, 5, "tanh"), *(make() for make in inner), *head, loss=loss, dtype="float64")


SAME = [lambda: layers.Dense(5, C), layers.Softmax]
CASES = {
    "forward": (net_of(lambda: Doubled(5, C), layers.Softmax), "adam", "Doubled has its own forward"),
    "value": (net_of(lambda: Halved(5, C), layers.Softmax), "adam", "Halved has its own value"),
    "mixin": (net_of(lambda: Mixed(5, C), layers.Softmax), "adam", "Mixed has its own forward"),
    "dropout": (net_of(lambda: Always(0.5), *SAME), "adam", "Always has its own forward"),
    "property": (net_of(lambda: Less(0.5), *SAME), "adam", "Less has its own p"),
    "object": (net_of(a_method_of_one_object, layers.Softmax), "adam", "Dense has its own forward"),
    "loss": (net_of(*SAME, loss=HalfLoss()), "adam", "HalfLoss has its own __call__"),
    "op": (net_of(SAME[0], loss=Swapped()), "adam", "Swapped has its own op"),
    "update": (net_of(*SAME), Backwards, "Backwards has its own update"),
    "scale": (net_of(*SAME), Shy, "Shy has its own scale"),
    "options": (net_of(*SAME), Cautious, "Cautious has its own options"),
    "optimizer": (net_of(*SAME), Own, "Own runs layer by layer"),
    "network": (net_of(*SAME, kind=Squeezed), "adam", "Squeezed has its own step"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_overridden_is_honoured_and_told(name) -> None:
    make, optimizer, reason = CASES[name]
    y = RNG.standard_normal((N, C)) if name == "op" else Y
    found = []
    for mode in ("auto", "off"):
        net = make()
        chosen = optimizer if isinstance(optimizer, str) else optimizer()
        with using_fused(mode):
            history = net.fit(X, y, epochs=3, batch_size=16, optimizer=chosen, progress=False)
            assert mode == "off" or reason in net.plan_declined
            np.testing.assert_allclose(net.predict(X), net.forward(X)[0], rtol=1e-12)
            np.testing.assert_allclose(net.predict(X[:1]), net.forward(X[:1])[0], rtol=1e-12)
        found.append((net.parameters, history.loss))
    np.testing.assert_allclose(*(parameters for parameters, _ in found), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(*(curve for _, curve in found), rtol=1e-9)


@dataclass
class Named(layers.Dense):
    """A layer with another default and a longer description: it computes what Dense does."""

    activation: str = "tanh"

    def config(self):
        return super().config()

    def __repr__(self) -> str:
        return "named"


@dataclass(frozen=True)
class Checked(losses.CrossEntropy):
    """A loss that looks at its targets first."""

    def prepare(self, y, shape, dtype, backend):
        return super().prepare(np.abs(y), shape, dtype, backend)


@dataclass(kw_only=True)
class Slower(optimizers.Adam):
    """Learning rates of its own."""

    def rates(self, first, count, n_steps, epoch):
        return super().rates(first, count, n_steps, epoch) / (1 + epoch)


class Kept(mlpx.Sequential):
    """A network that knows how it is fitted."""

    def fit(self, *given, **options):
        return super().fit(*given, **({"epochs": 3} | options))


def test_what_plays_no_part_in_a_step_keeps_the_plan() -> None:
    found = []
    for mode in ("auto", "off"):
        net = Kept(Named(N_IN, 5), layers.Dense(5, C), layers.Softmax(), loss=Checked(), dtype="float64")
        with using_fused(mode):
            net.fit(X, -Y, batch_size=16, optimizer=Slower(), progress=False)
        found.append(net.parameters)
        assert mode == "off" or net.plan_declined == ""
    np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-12)


@dataclass
class Tempered(layers.Softmax):
    """softmax(x / 2)."""

    def forward(self, x, context=INFERENCE):
        y, back = super().forward(x / 2, context)
        return y, lambda dy: back(dy) / 2


@dataclass
class Steep(layers.Activation):
    """f(2 x)."""

    def forward(self, x, context=INFERENCE):
        y, back = super().forward(2 * x, context)
        return y, lambda dy: 2 * back(dy)


for kinds, before in REGISTERS:  # which tell other tests what the library has
    kinds.clear()
    kinds.update(before)


@pytest.mark.parametrize(
    ("head", "loss"), [(Tempered(), None), (Tempered(), "focal"), (Steep("sigmoid"), None), (Steep("exp"), "gamma")]
)
def test_a_loss_that_would_pass_over_an_output_layer_is_refused(head, loss) -> None:
    with pytest.raises(ValueError, match=rf"pass over the forward of {type(head).__name__}"):
        mlpx.Sequential(layers.Dense(N_IN, C), head, loss=loss).fit(
            X, Y if loss == "focal" else Y[:, None] + np.ones(C)
        )


def test_other_losses_see_such_an_output_layer() -> None:
    net = mlpx.Sequential(layers.Dense(N_IN, C), Tempered(), loss="squared_error", dtype="float64")
    net.fit(X, np.eye(C)[Y], epochs=2, progress=False)
    assert "Tempered" in net.plan_declined
    assert mlpx.check_gradients(net, X, np.eye(C)[Y]) < 1e-6
    mlpx.Sequential(layers.Dense(N_IN, C), Steep("tanh"), loss="squared_error")


def test_a_class_as_it_is_overrides_nothing() -> None:
    for layer in (layers.Dense(2, 2), layers.Dropout(0.1), layers.BatchNorm(2), layers.Softmax()):
        assert overridden(layer, type(layer)) == set()
    for kind in optimizers.OPTIMIZERS.values():
        assert overridden(kind(), kind) == set()
    for loss in (losses.CrossEntropy(), losses.Huber(), losses.Quantile()):
        assert overridden(loss, type(loss)) == set()
