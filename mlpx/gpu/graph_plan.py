"""A training step on a GPU as a list of launches over buffers that stay where they are."""

from typing import Any

from mlpx import graph_dense
from mlpx.batch import Batch
from mlpx.graph_dense import Place
from mlpx.layers.base import Parameter, PlanRow
from mlpx.network import Network
from mlpx.plan import describe, kernels
from mlpx.typing import Array
from mlpx_kernels import Unsupported
from mlpx_kernels.activations import CODES, SAVES_INPUT

Launches = list[Any]


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

    Raises
    ------
    Unsupported
        If a layer has no launches; the message says why.
    """

    def __init__(self, net: Network, batch: Batch, seed: int, clock: Array, *, bias_later: bool) -> None:
        self.net, self.batch, self.seed, self.clock, self.bias_later = net, batch, seed, clock, bias_later
        self.dtype, self.xp = net.dtype, net.backend.xp
        n, width = batch.x.shape
        self.rows = describe(net.body(), width, training=True)
        for row in self.rows:
            if row.op not in ("dense", "activation", "dropout", "layer_norm", "batch_norm", "softmax"):
                raise Unsupported(f"{row.op} runs layer by layer in training on a GPU")
        sizes = [(n, row.n_in, row.n_out) for row in self.rows if row.op == "dense"]
        self.products, self.declined = kernels("choice", "cuda").products(sizes)
        self.rooms = [self._room(row, n) for row in self.rows]

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

    def _room(self, row: PlanRow, n: int) -> dict[str, Array]:
        """Return a layer's buffers for n rows: output y, the gradient d for it, what the gradient needs (z)."""
        room = {name: self.xp.empty((n, row.n_out), self.dtype) for name in ("y", "d")}
        room["z"] = room["y"]
        if row.op == "dense" and CODES[row.kind] in SAVES_INPUT:
            room["z"] = self.xp.empty((n, row.n_out), self.dtype)
        if row.op in ("layer_norm", "batch_norm"):
            size = n if row.op == "layer_norm" else row.n_out
            room |= {name: self.xp.empty(size, self.dtype) for name in ("mean", "var")}
        return room

    def output(self, n: int) -> tuple[Array, Array]:
        """Return what the loss reads (n, n_out) and where its gradient for it goes."""
        return self.rooms[-1]["y"][:n], self.rooms[-1]["d"][:n]

    def launches(self, n: int) -> tuple[Launches, Launches]:
        """Return the launches forward, and those backward from the gradient that the loss left."""
        dense = self._dense(n)
        forward: Launches = []
        backward: Launches = []
        for line, row in enumerate(self.rows):
            place = dense.get(line)
            ahead, back = (place.forward, place.backward()) if place else self._others(line, row, n)
            forward += ahead
            backward = back + backward
        return forward, backward

    def _input(self, line: int, n: int) -> tuple[Array, Array | None]:
        """Return a layer's input and where the gradient for it goes; None for the network's own input."""
        if line == 0:
            return self.batch.x[:n], None
        below = self.rooms[line - 1]
        return below["y"][:n], below["d"][:n] if self._wants_gradient(line) else None

    def _wants_gradient(self, line: int) -> bool:
        """Return whether a layer below has anything to learn."""
        return any(row.weight is not None for row in self.rows[:line])

    def _dense(self, n: int) -> dict[int, Place]:
        """Return the dense layers by line, settled from the last one down."""
        places: dict[int, Place] = {}
        for line in reversed(range(len(self.rows))):
            row, room = self.rows[line], self.rooms[line]
            if row.op != "dense":
                continue
            x, dx = self._input(line, n)
            assert row.weight is not None  # noqa: S101
            w, b = row.weight, row.bias
            place = Place(
                x=x,
                y=room["y"][:n],
                z=room["z"][:n],
                d=room["d"][:n],
                dx=dx,
                w=w.value,
                b=None if b is None else b.value,
                dw=w.grad,
                db=None if b is None else b.grad,
                kind=row.kind,
            )
            later = line == len(self.rows) - 1 and self.last_bias is not None
            graph_dense.settle(place, places.get(line + 1), self.products, self.xp, bias_later=later)
            places[line] = place
        return places

    def _others(self, line: int, row: PlanRow, n: int) -> tuple[Launches, Launches]:
        """Return the launches of a layer that is not dense, forward and backward."""
        room = {
            name: array if array.shape[0] != self.batch.x.shape[0] else array[:n]
            for name, array in self.rooms[line].items()
        }
        x, dx = self._input(line, n)
        return self._launches_of(row, x, room, dx)

    def _launches_of(
        self, row: PlanRow, x: Array, room: dict[str, Array], dx: Array | None
    ) -> tuple[Launches, Launches]:
        raise Unsupported(row.op)


def gradient_of(parameter: Parameter | None) -> Array | None:
    """Return a parameter's gradient view; None for none."""
    return None if parameter is None else parameter.grad
