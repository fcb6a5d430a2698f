"""Predictions of small networks on a GPU: one launch for all layers."""

import copy
from collections.abc import Sequence
from typing import Any

from mlpx.backend import backend_of
from mlpx.layers import Buffers, Layer
from mlpx.layers.base import PlanRow
from mlpx.plan.description import describe
from mlpx.typing import Array
from mlpx_kernels import Unsupported
from mlpx_kernels.activations import CODES
from mlpx_kernels.cuda.plan import prediction


class GpuPredictor:
    """A network's prediction as one launch, for dense layers up to 128 wide, with a softmax behind them or none.

    Parameters
    ----------
    layers : sequence of Layer
    n_in : int or None
    buffers : Buffers
    dtype : str
    precision : str, optional
        "tf32" or "bf16" for a float32 network; the dtype unless given.

    Raises
    ------
    Unsupported
        If the network or the device does not allow it; the message says why.
    """

    masked = False

    def __init__(
        self,
        layers: Sequence[Layer],
        n_in: int | None,
        buffers: Buffers,
        dtype: str,
        precision: str | None = None,
    ) -> None:
        rows = describe(layers, n_in, training=False)
        self.xp = backend_of(buffers.parameters).xp
        self.parameters, self.dtype, self.precision = buffers.parameters, dtype, precision or dtype
        self.n_in, self.n_out = rows[0].n_in, rows[-1].n_out
        self.softmax = rows[-1].op == "softmax"
        self.kernel = prediction
        table = _dense_layers(rows[:-1] if self.softmax else rows)
        self.kernel.check([self.n_in, *(row.n_out for row in rows)], self.precision)
        self.table = self.kernel.table(table)

    def over(self, parameters: Array, statistics: Array) -> "GpuPredictor":
        """Return the predictor of a network of the same layers over other flat buffers."""
        made = copy.copy(self)
        made.parameters = parameters
        return made

    def plain(self, x: Any) -> Array | None:
        """Return y for an ``x`` that can be used as it is: rows, C-contiguous, of the network's dtype; else None."""
        if type(x) is not self.xp.ndarray or x.dtype != self.dtype or not x.flags.c_contiguous:
            return None
        return self(x, None) if x.ndim == 2 and x.shape[1] == self.n_in else None

    def of_any_shape(self, x: Array, mask: Array | None) -> Array:
        """Return y (..., n_out) for any ``x`` (..., n_in) of the network's dtype; there is no mask."""
        rows = self.xp.ascontiguousarray(x).reshape(-1, self.n_in)
        return self(rows, None).reshape(*x.shape[:-1], self.n_out)

    def __call__(self, x: Array, mask: Array | None) -> Array:
        """Return y (n, n_out) for a C-contiguous ``x`` (n, n_in) of the network's dtype; there is no mask."""
        y = self.xp.empty((x.shape[0], self.n_out), x.dtype)
        if x.shape[0]:
            options = {"softmax": self.softmax, "precision": self.precision}
            self.kernel.forward(x, self.parameters, self.table, y, **options)()
        return y


def _dense_layers(rows: Sequence[PlanRow]) -> list[tuple[int, int, int, int, int]]:
    """Return the table of dense layers; an activation by itself joins the layer before it."""
    table: list[tuple[int, int, int, int, int]] = []
    for row in rows:
        if row.op == "dense" and row.weight is not None:
            bias = -1 if row.bias is None else row.bias.offset
            table.append((row.n_in, row.n_out, row.weight.offset, bias, CODES[row.kind]))
        elif row.op == "activation" and table and table[-1][4] == CODES["identity"]:
            table[-1] = (*table[-1][:4], CODES[row.kind])
        else:
            raise Unsupported(f"{row.op} is not among the layers of the fused network")
    if not table:
        raise Unsupported("there is no dense layer")
    return table
