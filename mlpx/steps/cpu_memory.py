"""What the steps of a plan work on: the job with its table, and every array whose address it carries."""

from itertools import pairwise
from typing import Any

import numpy as np

from mlpx.backend import NUMPY
from mlpx.layers.base import PlanRow
from mlpx.network import Network
from mlpx.network.batch import Batch
from mlpx.optimizers import Optimizer
from mlpx.plan.table import Table, padded
from mlpx.steps import kernel_codes
from mlpx.typing import Array
from mlpx_kernels.cpu.gemm import blas, select
from mlpx_kernels.cpu.loops import narrow_rows
from mlpx_kernels.cpu.plan import layout, phases, step_pieces

ENOUGH_ROWS = 16
"""Rows of a block whose products cost a row no more than those of many."""
INPUTS = 1 << 19
"""Bytes of a batch's inputs that a core's second-level cache has room for."""


def batch_invariant_from(row: PlanRow, most: int, dtype: str, *, back: bool) -> int:
    """Return the fewest rows, up to ``most``, that get the same numbers from a dense layer whatever others come too.

    Forward, and back too if asked. One more than ``most`` if so many do not.
    """
    forward = int(select.batch_invariant_from(blas.NT, most, row.n_out, row.n_in, dtype))
    return (
        max(forward, int(select.batch_invariant_from(blas.NN, most, row.n_in, row.n_out, dtype))) if back else forward
    )


def row_blocks(rows: list[PlanRow], batch_size: int, blocks: int, dtype: str) -> int:
    """Return into how many blocks a batch's rows are cut, where outputs are cut into ``blocks``: as many or fewer.

    Each has so many rows that tiles still take the products of the largest layer, or `ENOUGH_ROWS`.
    """
    dense = [row for row in rows if row.op == "dense"]
    if blocks == 1 or not dense or any(row.op == "batch_norm" for row in rows):
        return 1
    largest = max(dense, key=lambda row: row.n_in * row.n_out)
    enough = min(ENOUGH_ROWS, batch_invariant_from(largest, ENOUGH_ROWS, dtype, back=largest is not dense[0]))

    def smallest(count: int) -> int:
        cuts = [int(phases.block_start(batch_size, block, count)) for block in range(count + 1)]
        return min(end - begin for begin, end in pairwise(cuts))

    return max(count for count in range(1, blocks + 1) if count == 1 or smallest(count) >= enough)


def _weights_moved(row: PlanRow, blocks: int) -> int:
    """Return how many numbers of a dense layer's weights cores exchange in a step: of gradients, or of themselves."""
    return blocks * row.n_in * row.n_out


def _rows_moved(row: PlanRow, batch_size: int) -> int:
    """Return the numbers that they exchange where each sums the gradients of some outputs over all rows.

    It needs the inputs and half of the outputs' gradients of every row, written by one core and read by another.
    """
    return batch_size * (2 * row.n_in + row.n_out)


def per_block_gradients(rows: list[PlanRow], batch_size: int, row_blocks: int, *, clipped: bool) -> list[bool]:
    """Return for each layer whether each block of rows sums gradients of its own, which are then added up.

    Else a block of outputs sums those of all rows. Cores that wait for each other's memory are what threads lose most
    by; but to add up is more to do, on one thread too, so it must move less than half as much.
    """
    if row_blocks == 1:
        return [False] * len(rows)

    def apart(row: PlanRow) -> bool:
        if not (clipped or any(row.lr_factors)):
            return False
        fewer = 2 * _weights_moved(row, row_blocks) < _rows_moved(row, batch_size)
        return row.op == "layer_norm" or (row.op == "dense" and fewer)

    return [apart(row) for row in rows]


def first_split(row: PlanRow, batch_size: int, blocks: int, itemsize: int) -> bool:
    """Return whether the first layer is computed by blocks of its outputs, for all rows, before anything else.

    Its weights then stay with the core that updates them, and what moves in their place are its outputs: less, where it
    has many weights. Each core gathers and reads the inputs of all rows, so they must be near.
    """
    near = batch_size * row.n_in * itemsize <= INPUTS
    trained = row.op == "dense" and any(row.lr_factors)
    enough = blocks > 1 and row.n_out >= blocks * phases.CUT_MULTIPLE  # outputs, for every block to have some
    return trained and near and enough and _weights_moved(row, blocks) >= _rows_moved(row, batch_size)


class StepsJob:
    """The job of training steps, but for what differs from call to call.

    Attributes
    ----------
    values : array (JOB_SIZE,), int64
        See job.py of the kernels; the rows of an epoch, their order, the first step and the threads are still 0.
    per_call : list of int
        The places of these four.
    taken : slice
        The place where a call leaves how many steps it has taken.
    table : Table
    kind : int
        Code of the update.
    numbers : array (N_FLOATS,), float64
        The update's numbers and the loss's.
    parameters, statistics : array
        Copies: the network's as they were before the last step.
    held : dict
        Place in the job to array; holding them keeps their addresses valid.
    """

    def __init__(
        self,
        net: Network,
        train: Batch,
        rows: list[PlanRow],
        batch_size: int,
        optimizer: Optimizer,
        *,
        blocks: int,
        deterministic: bool,
        seed: int,
        ceiling: float,
    ) -> None:
        dtype, buffers, n, c, n_in = net.dtype, net.buffers, batch_size, rows[-1].n_out, rows[0].n_in
        loss, column, option = kernel_codes.of_loss(net)
        self.kind, numbers = kernel_codes.of_update(optimizer)
        self.numbers = np.concatenate([numbers, [0.0, option, optimizer.clip_norm or 0.0, ceiling, 1.0]])
        labelled, mask = train.target.dtype.kind == "i", net.loss_mask(train)
        of_rows = row_blocks(rows, n, blocks, dtype)
        apart = per_block_gradients(rows, n, of_rows, clipped=optimizer.clip_norm is not None)
        # A deterministic fit may have more blocks than threads, and each would gather the inputs of all rows.
        split = not (deterministic or apart[0]) and first_split(rows[0], n, blocks, np.dtype(dtype).itemsize)
        targets_at = padded(n * n_in) * (blocks if split else 1)
        weight_at = targets_at + padded(0 if labelled else n * c)
        self.table = Table(rows, n, weight_at + n, dtype, training=True)
        self.table.whole[:, layout.PER_BLOCK_GRADIENTS] = apart
        for line, row in zip(self.table.whole, rows, strict=True):
            if of_rows > 1 and row.op == "dense":
                line[layout.BATCH_INVARIANT] = batch_invariant_from(row, n, dtype, back=line[layout.DX] >= 0)
        if split:
            self.table.split_first(blocks, padded(n * n_in))
        self.parameters = NUMPY.zeros(buffers.parameters.shape, dtype)  # on a cache line, unlike a copy
        self.parameters[...] = buffers.parameters
        self.statistics = buffers.statistics.copy()
        self.held: dict[int, Array] = {
            layout.WORK: NUMPY.zeros(self.table.size, dtype),
            layout.PARAMS: buffers.parameters,
            layout.GRADS: buffers.gradient,
            layout.OTHER_GRADS: NUMPY.zeros((of_rows - 1 if any(apart) else 0, buffers.gradient.size), dtype),
            layout.BACKUP: self.parameters,
            layout.STATS: buffers.statistics,
            layout.INPUT: np.ascontiguousarray(train.x),
            layout.LABELS if labelled else layout.TARGETS: np.ascontiguousarray(train.target),
            layout.COLUMN: column,
            layout.BATCH_LABELS: np.zeros(n, np.int64),
            layout.BATCH_MASK: np.zeros(0 if mask is None else n * c, np.bool_),
        }
        self.held |= dict(zip((layout.S1, layout.S2), optimizer.state, strict=False))
        if train.sample_weight is not None:
            self.held[layout.SAMPLE_WEIGHT] = np.ascontiguousarray(train.sample_weight)
        if mask is not None:
            self.held[layout.MASK] = np.ascontiguousarray(mask)
        weighted = train.sample_weight is not None or mask is not None or (loss == 0 and column.size > 0)
        plain = loss == 0 and labelled and mask is None and column.size == 0 and option == 0.0
        narrow = c <= narrow_rows.NARROW
        called: dict[int, Any] = {
            layout.GATHER: step_pieces.gather(dtype),
            layout.GATHER_INPUTS: step_pieces.gather_inputs(dtype) if split else None,
            layout.TOTAL: step_pieces.total(loss, dtype) if weighted else None,
            layout.LOSS: step_pieces.plain_cross_entropy(dtype, narrow)
            if plain
            else step_pieces.loss_rows(loss, dtype),
            layout.UPDATE: step_pieces.update_span(self.kind, dtype),
            layout.SQUARES: step_pieces.squares(dtype) if optimizer.clip_norm else None,
            layout.ADD: step_pieces.add_up(dtype) if any(apart) else None,
        }
        sizes = {
            layout.N_ROWS: train.x.shape[0],
            layout.BATCH: n,
            layout.N_CLASSES: c,
            layout.N_FEATURES: n_in,
            layout.N_COLUMN: column.size,
            layout.N_STATES: len(optimizer.state),
            layout.LABELLED: labelled,
            layout.WEIGHTED: train.sample_weight is not None,
            layout.MASKED: mask is not None,
            layout.BLOCKS: blocks,
            layout.ROW_BLOCKS: of_rows,
            layout.SPLIT: split,
            layout.LAYERS: len(rows),
            layout.GRADS_BYTES: buffers.gradient.nbytes,
            layout.SEED: np.array(seed % 2**64, np.uint64).astype(np.int64),
            layout.TARGETS_AT: targets_at,
            layout.WEIGHT_AT: weight_at,
            layout.TRAINING: 1,
        }
        self.values = np.zeros(layout.JOB_SIZE, np.int64)
        self.per_call = [layout.ORDER, layout.EPOCH_ROWS, layout.FIRST_STEP, layout.THREADS]
        self.taken = slice(layout.TAKEN, layout.TAKEN + 1)
        addresses = {place: array.ctypes.data for place, array in self.held.items()}
        addresses |= {place: piece.address for place, piece in called.items() if piece is not None}
        for place, value in (addresses | sizes).items():
            self.values[place] = value
