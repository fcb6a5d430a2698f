"""Blocks of a step: where rows and outputs are cut, and that it changes no bit who computes them."""

import numpy as np
import pytest

import mlpx
from mlpx import optimizers
from mlpx.ops.dispatch import using_fused
from mlpx.plan import describe
from mlpx.steps import cpu, cpu_memory
from mlpx.steps.cpu import PlanSteps
from mlpx.steps.thread_tuner import Choice
from mlpx_kernels.cpu.gemm import select
from mlpx_kernels.cpu.plan import layout

pytestmark = pytest.mark.usefixtures("many_cores")

N, N_IN, C = 70, 6, 4
RNG = np.random.default_rng(5)
X = RNG.standard_normal((N, N_IN))
LABELS = RNG.integers(0, C, N)
ROWS = RNG.permutation(N)


def nothing(taken) -> None:
    """Be called after steps."""


def steps_of(net, x, y, batch_size, *, n_threads=3, clip_norm=None, deterministic=False) -> PlanSteps:
    """Return steps that are cut for so many threads."""
    optimizer = optimizers.Adam(clip_norm=clip_norm)
    optimizer.start(net)
    options = {"n_threads": n_threads, "deterministic": deterministic}
    return PlanSteps(net, net.batch(x, y), batch_size, optimizer, seed=0, n_steps=9, **options)


@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize("rows", [N, 10, 3])
@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize(("activation", "factors"), [("tanh", (1.0, 0.0)), ("gelu", (0.0, 1.0)), ("gelu", (1.0, 1.0))])
def test_what_blocks_of_rows_and_of_outputs_compute_adds_up(
    monkeypatch, activation, factors, apart, rows, clip_norm
) -> None:
    """Gradients are summed by blocks of rows; or else by those of outputs, which take the first layer by themselves.

    Ten rows leave nothing for the second of three blocks, and nine outputs nothing for the third.
    """
    monkeypatch.setattr(cpu, "WORTH_THREADS", 0.0)
    monkeypatch.setattr(
        cpu_memory, "per_block_gradients", lambda rows, *_, **__: [apart and row.weight is not None for row in rows]
    )
    monkeypatch.setattr(cpu_memory, "first_split", lambda *_: not apart)
    monkeypatch.setattr(cpu_memory, "row_blocks", lambda *_: 3)
    found = []
    for n_threads in (1, 3):
        first = mlpx.layers.Dense(N_IN, 9, activation, lr_factor=factors[0])
        second = mlpx.layers.Dense(9, 9, lr_factor=factors[1])
        layers = first, mlpx.layers.LayerNorm(9), second, mlpx.layers.Dense(9, C), mlpx.layers.Softmax()
        net = mlpx.Sequential(*layers, dtype="float64", seed=1)
        twin, by_hand = net.copy(), optimizers.Adam(clip_norm=clip_norm)
        steps = steps_of(net, X, LABELS, rows, clip_norm=clip_norm)
        steps.choice = Choice(n_threads)
        parts = [ROWS[start : start + rows] for start in range(0, N, rows)]
        steps.take(ROWS, 0, 0, np.full(len(parts), 0.1), nothing)
        by_hand.start(twin)
        with using_fused("off"):
            for part in parts:
                twin.step(twin.batch(X[part], LABELS[part]), mlpx.layers.Context(True))
                by_hand.update(twin, 0.1)
        if clip_norm is not None or all(factors):  # else nobody needs the gradients of frozen layers
            np.testing.assert_allclose(net.gradient, twin.gradient, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(net.parameters, twin.parameters, rtol=1e-9, atol=1e-12)
        found.append(net.parameters)
    np.testing.assert_array_equal(*found)


def test_few_weights_for_many_rows_are_summed_by_blocks_of_rows() -> None:
    def apart(sizes, batch_size, *, blocks=2, clipped=False, **options):
        rows = describe(mlpx.MLP(sizes, **options).body(), sizes[0], training=True)
        return cpu_memory.per_block_gradients(rows, batch_size, blocks, clipped=clipped)

    assert apart([64, 100, C], 400) == [True, True]
    assert apart([64, 100, C], 400, blocks=1) == [False, False]
    assert apart([784, 512, C], 128) == [False, True]
    assert apart([64, 100, C], 400, norm="layer") == [True, True, False, True]
    assert apart([64, 100, C], 100) == [False, True]  # it would move less, but by so little that adding up costs more


def test_a_first_layer_of_many_weights_is_split_by_outputs() -> None:
    """But not for a deterministic fit, whose blocks may be more than there are threads."""

    def job(sizes, batch_size, **options):
        net = mlpx.MLP(sizes)
        optimizer = optimizers.Adam()
        optimizer.start(net)
        batch = net.batch(np.zeros((batch_size, sizes[0]), np.float32), np.arange(batch_size) % C)
        steps = PlanSteps(net, batch, batch_size, optimizer, seed=0, n_steps=1, n_threads=2, **options)
        return steps.job.values[layout.SPLIT], len(steps.job.table.whole)

    assert job([784, 512, C], 128, deterministic=False) == (1, 4)
    assert job([784, 512, C], 128, deterministic=True) == (0, 2)
    assert job([784, 4096, C], 256, deterministic=False) == (0, 2)  # inputs of 800 KB
    assert job([9000, 15, C], 12, deterministic=False) == (0, 2)  # outputs for one block alone
    assert job([64, 100, C], 400, deterministic=False) == (0, 2)
    assert job([64, C], 32, deterministic=False) == (0, 1)  # on one thread


def test_a_first_layer_whose_gradients_are_summed_apart_is_not_split(monkeypatch) -> None:
    """With fewer blocks of rows than of outputs both would move less, but together they would undo each other."""
    monkeypatch.setattr(cpu, "WORTH_THREADS", 0.0)
    net = mlpx.MLP([20, 40, C])
    rows = describe(net.body(), 20, training=True)
    assert cpu_memory.first_split(rows[0], 47, 5, 4)
    monkeypatch.setattr(cpu_memory, "row_blocks", lambda *_: 2)
    job = steps_of(net, np.zeros((47, 20), np.float32), np.arange(47) % C, 47, n_threads=5).job
    assert (job.table.whole[0, layout.PER_BLOCK_GRADIENTS], job.values[layout.SPLIT], job.values[layout.BLOCKS]) == (
        1,
        0,
        5,
    )


def taken(net, x, y, batch_size, *, threads, blocks, cut, merge=True, **options):
    """Return what steps leave that are cut for ``blocks`` threads and shared by ``threads``."""
    net = net.copy()
    steps = steps_of(net, x, y, batch_size, n_threads=blocks, **options)
    steps.choice = Choice(threads)
    table = steps.job.table.whole
    if select.IN_TILES:
        assert (steps.job.values[layout.ROW_BLOCKS] > 1) == cut
    alike = (table[:, layout.DENSE] == 1) & (table[:, layout.BATCH_INVARIANT] <= batch_size // blocks)
    if not merge:
        table[:, layout.BATCH_INVARIANT] = batch_size + 1
    losses = steps.take(np.arange(len(x)), 0, 0, np.full(-(-len(x) // batch_size), 0.01), nothing)
    return net.parameters, net.buffers.statistics, losses, alike.sum()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("sizes", "batch_size", "blocks", "options"),
    [
        ((20, 64, 48, C), 64, 2, {}),
        ((20, 64, 48, C), 100, 3, {"norm": "layer", "dropout": 0.3}),
        ((20, 64, 48, C), 100, 3, {"norm": "batch"}),
        ((1100, 10, 64, C), 40, 2, {"activation": "gelu"}),
        ((256, 256, C), 24, 2, {"activation": "tanh"}),
        ((33, 100, 100, 1), 200, 8, {"activation": "silu", "output": "sigmoid"}),
    ],
)
@pytest.mark.parametrize("more", [{}, {"clip_norm": 0.1}, {"deterministic": True}])
def test_blocks_that_one_thread_takes_together_change_no_bit(
    monkeypatch, sizes, batch_size, blocks, options, more, dtype
) -> None:
    """One thread takes the rows of all blocks through a layer at once where each row's numbers stay the same."""
    monkeypatch.setattr(cpu, "WORTH_THREADS", 0.0)
    monkeypatch.setattr(cpu, "MANY_LAYERS", 99)
    net = mlpx.MLP(sizes, seed=1, dtype=dtype, **options)
    rng = np.random.default_rng(2)
    rows = 2 * batch_size + batch_size // 3  # the last step has fewer
    x, y = rng.standard_normal((rows, sizes[0])).astype(dtype), rng.integers(0, max(2, sizes[-1]), rows)
    one, apart, several = (
        taken(net, x, y, batch_size, blocks=blocks, cut=options.get("norm") != "batch", **how, **more)
        for how in ({"threads": 1}, {"threads": 1, "merge": False}, {"threads": blocks})
    )
    if select.IN_TILES and options.get("norm") != "batch":
        assert one[-1] > 0
    for other in (apart, several):
        for mine, its in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("in_tiles", [True, False])
def test_blocks_of_rows_are_as_many_as_tiles_have_rows_for(monkeypatch, in_tiles) -> None:
    """Sixteen, or fewer for a wide layer."""

    def blocks(sizes, batch_size, wanted=2, **options):
        rows = describe(mlpx.MLP(sizes, **options).body(), sizes[0], training=True)
        return cpu_memory.row_blocks(rows, batch_size, wanted, "float32")

    def batch_invariant_from(row, most, dtype, *, back):
        assert back == (row.n_in != 64)  # what a first layer has no way back for
        return 8 if in_tiles and row.n_out >= 256 else most + 1

    monkeypatch.setattr(cpu_memory, "batch_invariant_from", batch_invariant_from)
    assert [blocks([64, 96, C], n) for n in (1, 16, 24, 31, 32, 100)] == [1, 1, 1, 1, 2, 2]
    assert [blocks([64, 96, C], 50, wanted) for wanted in (1, 2, 3, 8)] == [1, 2, 2, 2]  # of three, one would have 10
    assert blocks([64, 96, C], 200, norm="batch") == 1
    assert blocks([64, 96, 256, C], 16) == (2 if in_tiles else 1)
