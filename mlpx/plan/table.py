"""The table of a plan: a row per layer for the compiled interpreter, and where each buffer lies in the work array."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlpx.layers.base import PlanRow
from mlpx_kernels.activations import CODES, SAVES_INPUT
from mlpx_kernels.cpu.plan import layer_pieces, layout, phases

ALIGNMENT = 16
"""Buffers inside the work array start at multiples of this many elements."""


def padded(elements: int) -> int:
    """Return a number of elements rounded up to the alignment."""
    return -(-elements // ALIGNMENT) * ALIGNMENT


class Table:
    """The table, the pieces it calls, and where each buffer lies in the work array.

    Attributes
    ----------
    whole : array (layers, columns), int64
        After `split_first`, with as many rows more as there are blocks.
    reals : array (layers, N_REALS), float64
        The same rows.
    size : int
        Elements of the work array.
    pieces : list
        The compiled pieces; holding them keeps their addresses valid.
    """

    def __init__(self, rows: Sequence[PlanRow], n: int, reserved: int, dtype: str, *, training: bool) -> None:
        self.whole = np.full((len(rows), layout.N_COLUMNS), -1, np.int64)
        self.reals = np.zeros((len(rows), layout.N_REALS))
        self.size = padded(reserved)
        self.pieces: list[Any] = []
        source, source_gradient = 0, -1
        for line, row in enumerate(rows):
            kind = CODES[row.kind]
            output = self._place(n * row.n_out)
            gradient = self._place(n * row.n_out) if training else -1
            # What the gradient needs: the output, or the pre-activation where the output does not determine it.
            saved, extra = output, -1
            if kind in SAVES_INPUT:
                saved = self._place(n * row.n_out) if row.op == "dense" else source
            if row.op == "dropout":
                extra = self._place(n * row.n_out)
            elif row.op in ("layer_norm", "batch_norm"):
                extra, saved = (self._place(n if row.op == "layer_norm" else row.n_out) for _ in range(2))
            entries = {
                layout.N_IN: row.n_in,
                layout.N_OUT: row.n_out,
                layout.W: -1 if row.weight is None else row.weight.offset,
                layout.B: -1 if row.bias is None else row.bias.offset,
                layout.X: source,
                layout.Y: output,
                layout.Z: saved,
                layout.D: gradient,
                layout.DX: source_gradient,
                layout.EXTRA: extra,
                layout.NUMBER: row.number,
                layout.MEAN: -1 if row.mean is None else row.mean.offset,
                layout.VAR: -1 if row.var is None else row.var.offset,
                layout.DENSE: row.op == "dense",
                layout.FORWARD: self._address(layer_pieces.FORWARDS[row.op](kind, dtype)),
                layout.BACKWARD: 0,
                layout.WEIGHTS: 0,
                layout.PER_BLOCK_GRADIENTS: 0,
                layout.BATCH_INVARIANT: 1,
                layout.STRIDE: row.n_out,
            }
            # Below the first dense layer nobody wants a gradient, but a dense layer's own is always needed.
            if training and (source_gradient >= 0 or row.op in ("dense", "batch_norm")):
                entries[layout.BACKWARD] = self._address(layer_pieces.BACKWARDS[row.op](kind, dtype))
            if training and row.op in layer_pieces.GRADIENTS:
                entries[layout.WEIGHTS] = self._address(layer_pieces.GRADIENTS[row.op](dtype))
            for column, value in entries.items():
                self.whole[line, column] = value
            self.reals[line] = row.real, *row.lr_factors, row.momentum
            source, source_gradient = output, gradient

    def split_first(self, blocks: int, step: int) -> None:
        """Append the first layer as each block of its outputs sees it; inputs of each lie ``step`` elements on."""
        first, lines = self.whole[0], np.tile(self.whole[0], (blocks, 1))
        for block, line in enumerate(lines):
            begin, end = (phases.block_start(first[layout.N_OUT], number, blocks) for number in (block, block + 1))
            line[layout.N_OUT] = end - begin
            line[layout.X] += block * step
            line[layout.W] += begin * first[layout.N_IN]
            line[[layout.B, layout.Y, layout.Z, layout.D]] += np.where(
                first[[layout.B, layout.Y, layout.Z, layout.D]] < 0, 0, begin
            )
        self.whole = np.concatenate([self.whole, lines])
        self.reals = np.concatenate([self.reals, np.tile(self.reals[0], (blocks, 1))])

    def _place(self, elements: int) -> int:
        start = self.size
        self.size += padded(elements)
        return start

    def _address(self, piece: Any) -> int:
        self.pieces.append(piece)
        return int(piece.address)
