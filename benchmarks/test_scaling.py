"""Time against rows, width and depth; the report draws them on log axes."""

import numpy as np
import pytest

from benchmarks import trainers
from benchmarks.measure import quick, same
from benchmarks.nets import Net, sized
from benchmarks.peers import Calls, torch
from benchmarks.trainers import learns

ROWS = (1, 10, 100, 1000, 10_000, 100_000)
WIDTHS = (8, 32, 128, 512, 1024)
DEPTHS = (1, 2, 4, 8, 16)


def _training(net: Net) -> Calls:
    calls = Calls(mlpx=trainers.mlpx(net, shuffle=False), numpy=trainers.numpy_loop(net))
    calls.add("torch", lambda: trainers.pytorch(net, shuffle=False))
    learns(calls)
    return calls


@pytest.mark.parametrize("rows", ROWS)
def test_rows(rows: int, compare) -> None:
    """Prediction through 64-128-10."""
    net = Net((64, 128, 10), 32, 4)
    n = min(rows, 50) if quick() else rows
    x = np.random.default_rng(0).standard_normal((n, 64), dtype=np.float32)
    model = net.build()
    reference = model.copy()
    calls = Calls(mlpx=lambda: model.predict(x))

    def peer():
        t = torch()
        theirs, given = t.nn.Sequential(trainers.torch_model(net), t.nn.Softmax(-1)).eval(), t.from_numpy(x)

        def call() -> object:
            with t.inference_mode():
                return theirs(given)

        same("torch", call(), reference.predict(x))
        return call

    calls.add("torch", peer)
    compare(f"rows {rows}", calls, x=rows)


@pytest.mark.parametrize("width", WIDTHS)
def test_width(width: int, compare) -> None:
    """A training step of 64-width-width-10, batch 128."""
    net = sized(Net((64, width, width, 10), 128, 16 if width < 512 else 4))
    compare(f"width {width}", _training(net), per=net.taken, x=width)


@pytest.mark.parametrize("depth", DEPTHS)
def test_depth(depth: int, compare) -> None:
    """A training step with hidden layers of 128, batch 128."""
    net = sized(Net((64, *(128,) * depth, 10), 128, 16))
    compare(f"depth {depth}", _training(net), per=net.taken, x=depth)
