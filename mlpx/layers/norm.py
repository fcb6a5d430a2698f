"""Batch and layer normalisation as layers."""

from dataclasses import dataclass

from mlpx import ops
from mlpx.errors import check_count, check_number
from mlpx.layers.base import INFERENCE, MOST_FEATURES, Backprop, Context, Layer, PlanRow
from mlpx.layers.buffers import Parameter
from mlpx.layers.valid_rows import forward_valid
from mlpx.typing import Array


def _gain_and_shift(n: int) -> dict[str, Parameter]:
    return {"gamma": Parameter((n,), "ones", decay=False), "beta": Parameter((n,), "zeros", decay=False)}


@dataclass(repr=False)
class BatchNorm(Layer):
    """Normalise each feature: over the batch in training, by running statistics otherwise. See `mlpx.ops.batch_norm`.

    A batch of a single row, which has no variance, gives the shift beta whatever it holds, and leaves the running
    statistics alone: training with ``batch_size=1`` teaches nothing. Take at least two rows a step, or `LayerNorm`.

    Parameters
    ----------
    n : int
        Number of features.
    momentum : float
        Weight of the newest batch in the running statistics, in (0, 1]; the running variance divides by n - 1, and a
        batch of one row, which has none, moves neither it nor the running mean.
    eps : float
        Added to the variance, in squared input units.
    """

    n: int
    momentum: float = 0.1
    eps: float = 1e-5

    def __post_init__(self) -> None:
        self.n = check_count("n", self.n, 1, MOST_FEATURES)
        self.momentum = check_number("momentum", self.momentum, 0.0, 1.0, open_low=True)
        self.eps = check_number("eps", self.eps, 0.0, open_low=True)
        statistics = {
            "mean": Parameter((self.n,), "zeros", decay=False),
            "var": Parameter((self.n,), "ones", decay=False),
        }
        self.declare(_gain_and_shift(self.n), statistics)

    def input_size(self) -> int:
        """Return n."""
        return self.n

    def output_size(self, n_in: int) -> int:
        """Return n; raise ValueError unless the input has n features."""
        if n_in != self.n:
            raise self.size_error(n_in, self.n)
        return n_in

    def describe(self, n_in: int) -> PlanRow:
        """Return the row of a plan."""
        p, s = self.parameters, self.statistics
        return PlanRow(
            "batch_norm",
            n_in,
            n_in,
            weight=p["gamma"],
            bias=p["beta"],
            mean=s["mean"],
            var=s["var"],
            real=self.eps,
            momentum=self.momentum,
            number=self.number,
        )

    def forward(self, x: Array, context: Context = INFERENCE) -> tuple[Array, Backprop]:
        """Return y (..., n) and its backprop; in training the running statistics move.

        With ``context.valid`` the statistics of a batch are those of its real steps; padded ones come back as zeros.
        """
        if context.training and context.valid is not None:
            return forward_valid(self, x, context)
        gamma, beta = self.value("gamma"), self.value("beta")
        mean, var = self.value("mean"), self.value("var")
        batch = context.training and x.size > 0
        if batch:
            y, batch_mean, batch_var = ops.batch_norm(x, gamma, beta, eps=self.eps)
            n_rows = x.size // self.n
            if n_rows > 1:  # a single row has no variance
                momentum = self.momentum if context.momentum is None else context.momentum
                mean += momentum * (batch_mean - mean)
                var += momentum * (batch_var * (n_rows / (n_rows - 1)) - var)
            gradients, mean, var = ops.batch_norm_grad, batch_mean, batch_var
        else:
            y = ops.batch_norm_inference(x, gamma, beta, mean, var, eps=self.eps)
            gradients = ops.batch_norm_inference_grad

        def backprop(dy: Array) -> Array:
            dx, dgamma, dbeta = gradients(dy, x, gamma, mean, var, eps=self.eps)
            self.parameters["gamma"].store(dgamma)
            self.parameters["beta"].store(dbeta)
            return dx

        return y, backprop


@dataclass(repr=False)
class LayerNorm(Layer):
    """Normalise each row over its n features; the same in training and out of it. See `mlpx.ops.layer_norm`.

    Parameters
    ----------
    n : int
        Number of features.
    eps : float
        Added to the variance, in squared input units.
    """

    n: int
    eps: float = 1e-5

    def __post_init__(self) -> None:
        self.n = check_count("n", self.n, 1, MOST_FEATURES)
        self.eps = check_number("eps", self.eps, 0.0, open_low=True)
        self.declare(_gain_and_shift(self.n))

    def input_size(self) -> int:
        """Return n."""
        return self.n

    def output_size(self, n_in: int) -> int:
        """Return n; raise ValueError unless the input has n features."""
        if n_in != self.n:
            raise self.size_error(n_in, self.n)
        return n_in

    def describe(self, n_in: int) -> PlanRow:
        """Return the row of a plan."""
        p = self.parameters
        return PlanRow("layer_norm", n_in, n_in, weight=p["gamma"], bias=p["beta"], real=self.eps, number=self.number)

    def forward(self, x: Array, context: Context = INFERENCE) -> tuple[Array, Backprop]:
        """Return y (..., n) and its backprop."""
        gamma = self.value("gamma")
        y, mean, var = ops.layer_norm(x, gamma, self.value("beta"), eps=self.eps)

        def backprop(dy: Array) -> Array:
            dx, dgamma, dbeta = ops.layer_norm_grad(dy, x, gamma, mean, var, eps=self.eps)
            self.parameters["gamma"].store(dgamma)
            self.parameters["beta"].store(dbeta)
            return dx

        return y, backprop
