"""A training step on a GPU as a list of launches over buffers that stay where they are."""

from typing import Any

from mlpx.layers.base import PlanRow
from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.plan import describe
from mlpx.steps import gpu_dense
from mlpx.steps.gpu_dense import Place
from mlpx.typing import Array
from mlpx_kernels import Unsupported
from mlpx_kernels.activations import CODES, SAVES_INPUT
from mlpx_kernels.cuda import dense as dense_kernels
from mlpx_kernels.cuda import dropout as dropout_kernels
from mlpx_kernels.cuda import norm as norm_kernels
from mlpx_kernels.cuda import softmax as softmax_kernels
from mlpx_kernels.cuda.gemm import select
from mlpx_kernels.cuda.runtime import cast as cast_kernels

Launches = list[Any]
IN_HALF = ("dense", "activation", "dropout")
HALF = "uint16"
"""What CuPy, which has no bfloat16, holds such numbers in."""


class GraphPlan:
    """The launches of forward and backward through a network's layers, for any number of rows up to a batch.

    Parameters
    ----------
    net : Network
    batch : Batch
        The arrays that the gather fills: those of a whole batch.
    seed : int
        Chooses dropout masks, together with the step that ``clock`` counts.
    clock : array (5,), int64
        The step's clock on the device.
    bias_later : bool
        Whether the loss adds the last layer's bias.
    precision : str
        "float32" (or the network's dtype), "tf32" or "bf16". With the last, activations and their gradients are kept
        in bfloat16, and weights are rounded to it for products; sums, biases, the last layer's output and the weights
        themselves stay float32.

    Raises
    ------
    Unsupported
        If a layer has no launches; the message says why.
    """

    def __init__(
        self, net: Network, batch: Batch, seed: int, clock: Array, *, bias_later: bool, precision: str = "float32"
    ) -> None:
        self.net, self.batch, self.seed, self.clock, self.bias_later = net, batch, seed, clock, bias_later
        self.dtype, self.xp = net.dtype, net.backend.xp
        n, width = batch.x.shape
        self.rows = describe(net.body(), width, training=True)
        for row in self.rows:
            if row.op not in ("dense", "activation", "dropout", "layer_norm", "batch_norm", "softmax"):
                raise Unsupported(f"{row.op} runs layer by layer in training on a GPU")
        sizes = [(n, row.n_in, row.n_out) for row in self.rows if row.op == "dense"]
        self.products, self.declined = select.products(sizes, precision)
        self.half = precision == "bf16"
        if self.half and (self.rows[-1].op != "dense" or any(row.op not in IN_HALF for row in self.rows)):
            raise Unsupported(f"in bf16 a network is made of {', '.join(IN_HALF)}, and ends in a dense layer")
        self.buffers_of = [self._buffers(row, n) for row in self.rows]
        if self.half:
            last = self.buffers_of[-1]
            last["d16"] = last["d"]
            last["y"] = last["z"] = self.xp.empty((n, self.rows[-1].n_out), self.dtype)
            last["d"] = self.xp.empty_like(last["y"])
            self.x16 = self.xp.empty(batch.x.shape, HALF)
            self.weights16 = self.xp.empty(net.parameters.shape, HALF)

    @property
    def captured(self) -> bool:
        """Whether the launches can be captured as a graph."""
        return bool(self.products.captured)

    @property
    def last_bias(self) -> Array | None:
        """The bias that the loss adds, or None."""
        row = self.rows[-1]
        later = self.bias_later and row.op == "dense" and row.kind == "identity" and row.bias is not None
        return row.bias.value if later and row.bias is not None else None

    def _buffers(self, row: PlanRow, n: int) -> dict[str, Array]:
        """Return a layer's buffers for n rows: output y, the gradient d for it, what the gradient needs (z)."""
        dtype = HALF if self.half else self.dtype
        buffers = {name: self.xp.empty((n, row.n_out), dtype) for name in ("y", "d")}
        buffers["z"] = buffers["y"]
        if row.op == "dense" and CODES[row.kind] in SAVES_INPUT:
            buffers["z"] = self.xp.empty((n, row.n_out), dtype)
        if row.op in ("layer_norm", "batch_norm"):
            size = n if row.op == "layer_norm" else row.n_out
            buffers |= {name: self.xp.empty(size, self.dtype) for name in ("mean", "var")}
        return buffers

    def output(self, n: int) -> tuple[Array, Array]:
        """Return what the loss reads (n, n_out) and where its gradient for it goes."""
        return self.buffers_of[-1]["y"][:n], self.buffers_of[-1]["d"][:n]

    def launches(self, n: int) -> tuple[Launches, Launches]:
        """Return the launches forward, and those backward from the gradient that the loss left."""
        places = self._dense(n)
        forward: Launches = self._rounded(n)
        backward: Launches = []
        for line, row in enumerate(self.rows):
            place = places.get(line)
            ahead, back = (place.forward, place.backward()) if place else self._others(line, row, n)
            forward += ahead
            backward = back + backward
        return forward, backward

    def _rounded(self, n: int) -> Launches:
        """Return the launches that round the batch's inputs and the weights, where products take them so."""
        if not self.half:
            return []
        return [
            cast_kernels.cast(self.batch.x[:n], self.x16[:n]),
            cast_kernels.cast(self.net.parameters, self.weights16),
        ]

    def _input(self, line: int, n: int) -> tuple[Array, Array | None]:
        """Return a layer's input and where the gradient for it goes; None for the network's own input."""
        if line == 0:
            return (self.x16 if self.half else self.batch.x)[:n], None
        below = self.buffers_of[line - 1]
        return below["y"][:n], below["d"][:n] if self._wants_gradient(line) else None

    def _wants_gradient(self, line: int) -> bool:
        """Return whether a layer below has anything to learn."""
        return any(row.weight is not None for row in self.rows[:line])

    def _dense(self, n: int) -> dict[int, Place]:
        """Return the dense layers by line, settled from the last one down."""
        places: dict[int, Place] = {}
        for line in reversed(range(len(self.rows))):
            row, buffers = self.rows[line], self.buffers_of[line]
            if row.op != "dense":
                continue
            x, dx = self._input(line, n)
            assert row.weight is not None  # noqa: S101
            w, b = row.weight, row.bias
            place = Place(
                x=x,
                y=buffers["y"][:n],
                z=buffers["z"][:n],
                d=buffers["d"][:n],
                dx=dx,
                w=w.value,
                b=None if b is None else b.value,
                dw=w.grad,
                db=None if b is None else b.grad,
                kind=row.kind,
            )
            if self.half:
                rounded = self.weights16[w.offset : w.offset + w.size]
                place.w_factor = self.xp.reshape(rounded, w.shape)
                place.d_factor = buffers["d16" if "d16" in buffers else "d"][:n]
            later = line == len(self.rows) - 1 and self.last_bias is not None
            gpu_dense.settle(place, places.get(line + 1), self.products, self.xp, bias_later=later)
            places[line] = place
        return places

    def _others(self, line: int, row: PlanRow, n: int) -> tuple[Launches, Launches]:
        """Return the launches of a layer that is not dense, forward and backward."""
        x, dx = self._input(line, n)
        y, d = self.buffers_of[line]["y"][:n], self.buffers_of[line]["d"][:n]
        if row.op in ("layer_norm", "batch_norm"):
            return self._norm(line, row, x, y, d, dx)
        back = None
        if row.op == "activation":
            ahead = dense_kernels.bias_activate(x, None, y, None, row.kind)
            if dx is not None:
                saved = x if CODES[row.kind] in SAVES_INPUT else y
                back = dense_kernels.activation_grad_bias_grad(d, saved, dx, None, row.kind)
        elif row.op == "dropout":
            options = {"p": row.real, "seed": self.seed, "layer": row.number, "clock": self.clock}
            ahead = dropout_kernels.drop(x, y, **options)
            if dx is not None:
                back = dropout_kernels.drop(d, dx, **options)
        else:
            ahead = softmax_kernels.forward(softmax_kernels.PLAIN, x, None, y)
            if dx is not None:
                back = softmax_kernels.backward(softmax_kernels.PLAIN, d, y, None, dx)
        return [ahead], [] if back is None else [back]

    def _norm(
        self, line: int, row: PlanRow, x: Array, y: Array, d: Array, dx: Array | None
    ) -> tuple[Launches, Launches]:
        """Return the launches of a norm; gain and shift learn whether or not anybody wants ``dx``."""
        eps = row.real
        gain, shift = row.weight, row.bias
        assert gain is not None and shift is not None  # noqa: S101, PT018
        by_row = row.op == "layer_norm"
        mean, var = (
            self.buffers_of[line][name][: x.shape[0]] if by_row else self.buffers_of[line][name]
            for name in ("mean", "var")
        )
        back = [norm_kernels.gain_grad(d, x, mean, var, gain.grad, shift.grad, eps, of_rows=by_row)]
        if by_row:
            if dx is not None:
                back.append(norm_kernels.normalise_rows_grad(d, x, gain.value, mean, var, dx, eps))
            return [norm_kernels.normalise_rows(x, gain.value, shift.value, y, mean, var, eps)], back
        assert row.mean is not None and row.var is not None  # noqa: S101, PT018
        running = {"running": (row.mean.value, row.var.value), "momentum": row.momentum}
        if dx is not None:
            back.append(
                norm_kernels.normalise_columns_grad(d, x, gain.value, mean, var, gain.grad, shift.grad, dx, eps)
            )
        ahead = norm_kernels.normalise_columns(x, gain.value, shift.value, mean, var, y, eps)
        return [norm_kernels.statistics(x, mean, var, **running), ahead], back
