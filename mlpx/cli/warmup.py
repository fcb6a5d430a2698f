"""Compile the CPU kernels ahead of their first use, for images and servers that must not wait."""

import sys
import time
import warnings

import numpy as np

from mlpx import ops
from mlpx.callbacks.progress import counted
from mlpx.cli import samples
from mlpx.layers import Activation, BatchNorm, Dense, Dropout, LayerNorm, Softmax
from mlpx.losses import (
    BinaryCrossEntropy,
    BinaryFocal,
    CrossEntropy,
    Focal,
    Gamma,
    Hinge,
    Huber,
    Loss,
    Poisson,
    Quantile,
)
from mlpx.losses import find as find_loss
from mlpx.models.mlp import MLP
from mlpx.models.sequential import Sequential
from mlpx.ops import ACTIVATIONS
from mlpx.ops.dispatch import kernel_module, using_fused
from mlpx.optimizers import OPTIMIZERS, Adam
from mlpx.training import orders
from mlpx_kernels import BadSetting, Unsupported


def main(dtypes: tuple[str, ...]) -> int:
    """Run every kernel once, for every activation, loss, optimiser and layer, so that all are compiled and kept.

    Returns 1, and says why on the error stream, where kernels cannot be compiled or are not kept; else 0.
    """
    began = time.perf_counter()
    try:
        store = kernel_module("mlpx_kernels.cpu.lowlevel.store")
        kernel_module("mlpx_kernels.cpu.plan.interpreter")
    except (Unsupported, BadSetting) as reason:
        print(f"mlpx warmup: there is nothing to compile: {reason}", file=sys.stderr)
        return 1
    jobs = [(dtype, job) for dtype in dtypes for job in (*_networks(dtype), _ops)]
    with using_fused("auto"), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for dtype, job in counted([*jobs, ("", _shared)], "compiling"):
            job(dtype)
    seconds, place = time.perf_counter() - began, store.folder().path
    print(f"compiled {', '.join(dtypes)} in {seconds:.0f} s, kept in {place or 'memory alone'}")
    for warning in warned:
        print(f"mlpx warmup: {warning.message}", file=sys.stderr)
    return 1 if warned else 0


def _shared(dtype: str) -> None:
    """Call what networks of every dtype share."""
    kernel_module("mlpx_kernels.cpu.threading.parallel_rows").worker_pool(1)
    orders.shuffled(np.random.RandomState(0), np.arange(3), 1, chained=True)


X = np.random.default_rng(0).standard_normal((8, 4))
CLASSES = np.arange(8) % 3


def _fit(net: Sequential, y: np.ndarray, optimizer: object = "adam", **options: object) -> None:
    net.fit(X, y, epochs=1, batch_size=8, optimizer=optimizer, progress=False, **options)  # type: ignore[arg-type]
    net.predict(X, options.get("mask"))


def _several_blocks(dtype: str) -> None:
    """Train a network that threads share: its first layer by outputs, sums of its second by blocks of rows."""
    from mlpx_kernels.cpu.threading.thread_count import using_threads

    net = MLP([256, 256, 3], dtype=dtype)
    with using_threads(2):  # on a machine of one core too: others may find the kernels in an image
        net.fit(np.zeros((64, 256)), np.arange(64) % 3, epochs=1, batch_size=64, progress=False)


def _networks(dtype: str) -> list:  # type: ignore[type-arg]
    """Return functions that each train and use one small network."""
    flags = np.ones((8, 3), bool)
    values = X[:, :3]

    def with_loss(loss: Loss, output: str) -> object:
        y: np.ndarray = values
        if output in ("sigmoid", "exp") or loss == Hinge():
            y = (values > 0) + (0.5 if output == "exp" else 0.0)
        return lambda dtype: _fit(MLP([4, 5, 3], output=output, loss=loss, dtype=dtype), y)

    jobs: list = [  # type: ignore[type-arg]
        lambda dtype, name=name: _fit(MLP([4, 5, 3], name, dtype=dtype), CLASSES) for name in ACTIVATIONS
    ]
    jobs += [
        lambda dtype, kind=kind: _fit(MLP([4, 5, 3], dtype=dtype), CLASSES, kind()) for kind in OPTIMIZERS.values()
    ]
    jobs += [
        with_loss(find_loss("squared_error"), "linear"),
        with_loss(find_loss("absolute_error"), "linear"),
        with_loss(Huber(), "linear"),
        with_loss(Quantile((0.1, 0.5, 0.9)), "linear"),
        with_loss(BinaryCrossEntropy(), "sigmoid"),
        with_loss(Poisson(), "exp"),
        with_loss(Gamma(), "exp"),
        with_loss(Hinge(), "linear"),
        with_loss(BinaryFocal(), "sigmoid"),
        lambda dtype: _fit(MLP([4, 5, 3], loss=Focal(), dtype=dtype), CLASSES),
        lambda dtype: _fit(MLP([4, 5, 40], dtype=dtype), CLASSES),
        lambda dtype: _fit(MLP([4, 5, 3], loss=CrossEntropy(0.1), dtype=dtype), CLASSES, Adam(clip_norm=1.0)),
        lambda dtype: _fit(MLP([4, 5, 3], output="masked_softmax", dtype=dtype), CLASSES, mask=flags),
    ]
    stack = (LayerNorm, BatchNorm)
    jobs += [
        _several_blocks,
        lambda dtype: _fit(Sequential(Dense(4, 5), Softmax(), Dense(5, 3), dtype=dtype), values),
    ]
    jobs += [
        lambda dtype, norm=norm: _fit(
            Sequential(Dense(4, 5), norm(5), Activation("relu"), Dropout(0.5), Dense(5, 3), dtype=dtype), values
        )
        for norm in stack
    ]
    jobs += [
        lambda dtype, name=name: _fit(Sequential(Dense(4, 5), Activation(name), Dense(5, 3), dtype=dtype), values)
        for name in ACTIVATIONS
    ]
    return jobs


def _ops(dtype: str) -> None:
    """Call the ops' own entry points, which layer-by-layer code uses."""
    for name, op in ops.ALL.items():
        args, params = samples.call(name, 8, 4, dtype)
        op(*args, **params)
    x, w, b = X.astype(dtype), np.ones((3, 4), dtype), np.zeros(3, dtype)
    for kind in ACTIVATIONS:
        z, saved = ops.dense(x, w, b, activation=kind)
        ops.dense_grad(z, x, w, saved, activation=kind)
        ops.dense_grad_rows(z, x, saved, activation=kind)
        _, saved = ops.activation(x, kind=kind)
        ops.activation_grad(x, saved, kind=kind)
    ops.dense(np.ones((64, 4096), dtype), np.ones((16, 4096), dtype), None)  # so much that threads share it
    ops.softmax_cross_entropy(np.ones((8, 40), dtype), CLASSES)
