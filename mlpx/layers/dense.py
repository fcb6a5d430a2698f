"""The dense layer and the element-wise activation layer."""

from dataclasses import dataclass

from mlpx import ops
from mlpx.errors import check_count, check_flag, check_number
from mlpx.initializers import Uniform, automatic, find
from mlpx.layers.base import INFERENCE, MOST_FEATURES, Backprop, Context, Layer, PlanRow
from mlpx.layers.buffers import Parameter
from mlpx.ops._activation import find as find_activation
from mlpx.typing import Array


@dataclass(repr=False)
class Dense(Layer):
    """Product, bias and activation: ``y = f(x @ w.T + b)``; see `mlpx.ops.dense`.

    Parameters
    ----------
    n_in, n_out : int
        Last axis of input and output; at least 1.
    activation : str
        A name of `mlpx.ops.ACTIVATIONS`.
    bias : bool
        False leaves b out.
    init : str or Uniform
        Initialiser of w (n_out, n_in); "auto" suits the activation (He, LeCun or Glorot).
    bias_init : str or Uniform
        Initialiser of b (n_out,).
    lr_factor : float
        Multiplies the learning rate of this layer; 0 freezes it. To optimisers of all rows at once, which have no
        learning rate, all others are alike.
    bias_lr_factor : float, optional
        The same for the bias alone; default: ``lr_factor``.

    Raises
    ------
    ValueError
        For sizes below 1 and unknown names.
    """

    n_in: int
    n_out: int
    activation: str = "identity"
    bias: bool = True
    init: str | Uniform = "auto"
    bias_init: str | Uniform = "zeros"
    lr_factor: float = 1.0
    bias_lr_factor: float | None = None

    def __post_init__(self) -> None:
        self.n_in = check_count("n_in", self.n_in, 1, MOST_FEATURES)
        self.n_out = check_count("n_out", self.n_out, 1, MOST_FEATURES)
        self.lr_factor = check_number("lr_factor", self.lr_factor, 0.0)
        self.activation = find_activation(self.activation).name
        init = automatic(self.activation) if isinstance(self.init, str) and self.init == "auto" else self.init
        find(init)
        find(self.bias_init, "bias_init")
        parameters = {"w": Parameter((self.n_out, self.n_in), init, decay=True, lr_factor=self.lr_factor)}
        self.bias = check_flag("bias", self.bias)
        if self.bias_lr_factor is not None:
            self.bias_lr_factor = check_number("bias_lr_factor", self.bias_lr_factor, 0.0)
        if self.bias:
            factor = self.lr_factor if self.bias_lr_factor is None else self.bias_lr_factor
            parameters["b"] = Parameter((self.n_out,), self.bias_init, decay=False, lr_factor=factor)
        self.declare(parameters)

    def input_size(self) -> int:
        """Return n_in."""
        return self.n_in

    def output_size(self, n_in: int) -> int:
        """Return n_out; raise ValueError unless the input has n_in features."""
        if n_in != self.n_in:
            raise self.size_error(n_in, self.n_in)
        return self.n_out

    def describe(self, n_in: int) -> PlanRow:
        """Return the row of a plan."""
        p = self.parameters
        return PlanRow("dense", n_in, self.n_out, self.activation, p["w"], p.get("b"))

    def forward(self, x: Array, context: Context = INFERENCE) -> tuple[Array, Backprop]:
        """Return y (..., n_out) for x (..., n_in), and its backprop."""
        w = self.value("w")
        y, saved = ops.dense(x, w, self.value("b") if self.bias else None, activation=self.activation)

        def backprop(dy: Array) -> Array | None:
            if context.per_row is not None:
                self._store_rows(context.per_row, *ops.dense_grad_rows(dy, x, saved, activation=self.activation))
            dx, dw, db = ops.dense_grad(dy, x, w, saved, activation=self.activation, need_dx=context.need_dx)
            self.parameters["w"].store(dw)
            if self.bias:
                self.parameters["b"].store(db)
            return dx

        return y, backprop

    def _store_rows(self, per_row: Array, dw: Array, db: Array) -> None:
        for name, gradient in (("w", dw), ("b", db)):
            if name in self.parameters:
                p = self.parameters[name]
                per_row[:, p.offset : p.offset + p.size] = gradient.reshape(-1, p.size)


@dataclass(repr=False)
class Activation(Layer):
    """An activation by itself: ``y = f(x)`` for every element; ``kind`` is a name of `mlpx.ops.ACTIVATIONS`."""

    kind: str

    def __post_init__(self) -> None:
        self.kind = find_activation(self.kind).name
        self.declare({})

    def describe(self, n_in: int) -> PlanRow:
        """Return the row of a plan."""
        return PlanRow("activation", n_in, n_in, self.kind)

    def forward(self, x: Array, context: Context = INFERENCE) -> tuple[Array, Backprop]:
        """Return y, of the shape of x, and its backprop."""
        y, saved = ops.activation(x, kind=self.kind)
        return y, lambda dy: ops.activation_grad(dy, saved, kind=self.kind)
