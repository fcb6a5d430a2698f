"""What every layer is: parameters that are views into a network's buffers, and ``forward(x) -> (y, backprop)``."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from mlpx.backend import FLOATS, current_backend
from mlpx.errors import check_count, check_name, shown, unknown
from mlpx.initializers import Uniform
from mlpx.layers.buffers import Buffers, Parameter, bind, owners
from mlpx.registry import register
from mlpx.representation import short_repr
from mlpx.typing import Array

Backprop = Callable[[Array], Array | None]
"""``backprop(dy) -> dx``: writes the layer's gradients and returns the gradient for its input."""

MOST_FEATURES = 2**31 - 1
"""Of an input or output: no memory holds the weights of more."""


@dataclass(frozen=True)
class Context:
    """What a pass through the layers needs beyond its input.

    Parameters
    ----------
    training : bool
        True draws dropout masks and uses (and updates) batch statistics.
    seed, step : int
        Choose the dropout masks.
    mask : array (..., n_out), bool, optional
        For `MaskedSoftmax`: True where a class is allowed.
    valid : array (n, steps), bool, optional
        For `TimeDistributed`: True for real steps, False for padding.
    need_dx : bool
        False spares the first layer the gradient for the network's input.
    per_row : array (n, n_parameters), optional
        When given, dense layers write their gradients here row by row, before any sum; for Jacobians.
    momentum : float, optional
        The weight of this batch in running statistics; default: each layer's own.
    """

    training: bool = False
    seed: int = 0
    step: int = 0
    mask: Array | None = None
    valid: Array | None = None
    need_dx: bool = True
    per_row: Array | None = None
    momentum: float | None = None

    def inner(self) -> "Context":
        """Return the context of a layer that is not the first one."""
        return self if self.need_dx else replace(self, need_dx=True)


INFERENCE = Context()


@dataclass(frozen=True)
class PlanRow:
    """One layer's row of a plan: what the compiled interpreter needs to know of it.

    Attributes
    ----------
    op : str
        "dense", "activation", "dropout", "layer_norm", "batch_norm", "softmax" or "masked_softmax".
    n_in, n_out : int
        Widths.
    kind : str
        The activation.
    weight, bias : Parameter, optional
        Of a norm: gain and shift.
    mean, var : Parameter, optional
        Running statistics.
    real : float
        p of dropout, eps of a norm.
    momentum : float
        Of running statistics.
    number : int
        The layer's place in the network.
    """

    op: str
    n_in: int
    n_out: int
    kind: str = "identity"
    weight: Parameter | None = None
    bias: Parameter | None = None
    mean: Parameter | None = None
    var: Parameter | None = None
    real: float = 0.0
    momentum: float = 0.0
    number: int = 0

    @property
    def lr_factors(self) -> tuple[float, float]:
        """The learning-rate factors of weight and bias."""
        weight, bias = (1.0 if p is None else p.lr_factor for p in (self.weight, self.bias))
        return weight, bias


class Layer(ABC):
    """A building block: says how ops are joined and holds their parameters; does no arithmetic of its own.

    Subclasses are dataclasses whose fields are their whole configuration. They declare parameters in ``parameters``
    (and running statistics in ``statistics``), and implement `forward`.
    """

    kinds: ClassVar[dict[str, type["Layer"]]] = {}
    """Every layer class by name; model files name classes, and only these are ever made. See `mlpx.registry`."""

    parameters: dict[str, Parameter]
    statistics: dict[str, Parameter]
    number: int = 0
    """Its place in the network; dropout masks depend on it."""

    uses_mask: ClassVar[bool] = False
    """Whether `forward` reads ``context.mask``; networks without such a layer refuse a mask."""

    saved_as: ClassVar[type["Layer"] | None] = None
    """The class that files name in place of this one, which does the same in another way and is not registered."""

    def __init_subclass__(cls) -> None:
        if "saved_as" not in vars(cls):
            register(Layer.kinds, cls.__name__, cls)

    def __repr__(self) -> str:
        return short_repr(self)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; the network that holds the layer predicts by it from now on."""
        super().__setattr__(name, value)
        network = owners.get(id(self))
        if network is not None:
            network.forget_predictors()

    def declare(self, parameters: dict[str, Parameter], statistics: dict[str, Parameter] | None = None) -> None:
        """Set what the layer holds; called once, by ``__post_init__``."""
        self.parameters = parameters
        self.statistics = statistics or {}

    @abstractmethod
    def forward(self, x: Array, context: Context = INFERENCE) -> tuple[Array, Backprop]:
        """Return the output for ``x`` (..., n_in) and the function that takes its gradient back."""

    def describe(self, n_in: int) -> PlanRow | None:
        """Return the layer's row of a plan for an input of last axis ``n_in``; None keeps it out of plans."""
        return None

    def output_size(self, n_in: int) -> int:
        """Return the last axis of the output for an input of last axis ``n_in``, or raise ValueError."""
        return n_in

    def input_size(self) -> int | None:
        """Return the last axis this layer wants of its input, or None when any will do."""
        return None

    def inner_layers(self) -> Sequence["Layer"]:
        """Return the layers inside this one."""
        return ()

    def walk(self) -> Iterator["Layer"]:
        """Yield this layer and those inside it."""
        yield self
        for layer in self.inner_layers():
            yield from layer.walk()

    def config(self) -> dict[str, Any]:
        """Return the fields as data that JSON can hold."""
        return {f.name: _as_data(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    def initialize(self, *, seed: int = 0, dtype: str = "float32") -> "Layer":
        """Give a layer that stands alone its own buffers and initial weights; a network does this for its layers."""
        if id(self) in owners:
            raise ValueError(
                f"{type(self).__name__}: belongs to a network, which has its weights. Write into layer.value(...), or "
                "make a new network with another seed."
            )
        dtype = check_name("dtype", dtype, FLOATS)
        bind([self], seed=check_count("seed", seed, 0), dtype=dtype, backend=current_backend())
        return self

    def value(self, name: str) -> Array:
        """Return a parameter's or statistic's current array."""
        parameter = self.parameters.get(name) or self.statistics.get(name)
        if parameter is None:
            raise unknown("name", name, [*self.parameters, *self.statistics])
        if parameter.value is None:
            raise RuntimeError(
                f"{type(self).__name__}: has no weights yet. Put it in a network, or call layer.initialize(seed=...)."
            )
        return parameter.value

    def over(self, buffers: Buffers) -> "Layer":
        """Return a copy of a bound layer over other buffers, of the same layout, whose numbers are then its weights."""
        made: Layer = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        parameters, statistics = self.parameters.items(), self.statistics.items()
        made.parameters = {name: p.over(buffers.parameters, buffers.gradient) for name, p in parameters}
        made.statistics = {name: p.over(buffers.statistics) for name, p in statistics}
        return made

    def size_error(self, n_in: int, wanted: int) -> ValueError:
        """Return the error for an input whose last axis does not fit."""
        return ValueError(
            f"{type(self).__name__}: x has {n_in} features in its last axis; expected {wanted}. {shown(self, 300)}"
        )


def _as_data(value: Any) -> Any:
    if isinstance(value, Uniform):
        return {"uniform": [value.low, value.high]}
    return list(value) if isinstance(value, tuple) else value
