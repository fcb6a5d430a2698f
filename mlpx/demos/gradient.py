"""The gradient of an n-layer network, in matrices: rows are instances, one product per layer and direction."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import mlpx
from mlpx import ops
from mlpx.demos import verdict

SMOOTH = ["tanh", "sigmoid", "gelu", "mish", "softplus"]
"""Activations without a kink, so that central differences are right everywhere."""


def main(*, rows: int = 1000, n_in: int = 5000, n_out: int = 10, repetitions: int = 10) -> bool:
    """Run the demo; return whether the problem is solved."""
    show_times(rows, n_in, n_out, repetitions)

    errors = {n_layers: gradient_error(n_layers) for n_layers in range(1, 7)}
    for n_layers, error in errors.items():
        print(f"depth {n_layers}: gradients differ from central differences by {error:.1e} relative")

    loss = loss_after_xor()
    print(f"XOR: trained to a loss of {loss:.5f}")
    return verdict(
        {
            "the gradients of 1 to 6 layers are right to 1e-7": max(errors.values()) < 1e-7,
            "XOR trains to a loss below 0.01": loss < 0.01,
            "weights with the bias as an extra row convert both ways": bias_rows_come_back(),
        }
    )


def gradient_error(n_layers: int) -> float:
    """Compare the gradients of a network of that many layers with central differences; return the error."""
    rng = np.random.default_rng(n_layers)
    net = mlpx.MLP([5, *[7] * (n_layers - 1), 3], SMOOTH[: n_layers - 1], dtype="float64", seed=n_layers)
    x, labels = rng.standard_normal((20, 5)), rng.integers(0, 3, 20)
    return mlpx.check_gradients(net, x, labels, tol=1e-7)


def loss_after_xor() -> float:
    """Train a 2-8-1 network on XOR; return the loss reached."""
    x = mlpx.asarray([[0, 0], [0, 1], [1, 0], [1, 1]])
    t = mlpx.asarray([0, 1, 1, 0])
    net = mlpx.MLP([2, 8, 1], activation="tanh", output="sigmoid", seed=1)
    net.fit(x, t, epochs=500, batch_size=4, optimizer=mlpx.optimizers.Adam(lr=0.05), progress=False)
    return net.loss_and_grad(x, t)[0]


def bias_rows_come_back() -> bool:
    """Return whether a network survives the way to arrays (n_in + 1, n_out) and back."""
    net = mlpx.MLP([4, 6, 3], activation="tanh", bias_init=mlpx.Uniform(-1, 1), seed=2)
    arrays = net.with_bias_rows()
    again = mlpx.MLP.from_bias_rows(arrays, activation="tanh")
    x = mlpx.asarray(np.random.default_rng(0).standard_normal((10, 4)))
    right_shapes = [v.shape for v in arrays] == [(5, 6), (7, 3)]
    return right_shapes and np.array_equal(mlpx.to_numpy(net.predict(x)), mlpx.to_numpy(again.predict(x)))


# --- the clock: the first layer of a network, X (rows, n_in), W (n_out, n_in), float64 -------------------------------
# X is the data, so nobody needs its gradient: y forward, dW and db backward.

Arrays = tuple[Any, ...]


def per_instance(x: Any, w: Any, b: Any, dy: Any) -> Arrays:
    """Take one row at a time, as a first implementation does."""
    y, dw, db = np.empty_like(dy), np.zeros_like(w), np.zeros_like(b)
    for i in range(len(x)):
        y[i] = np.tanh(w @ x[i] + b)
        d = (1 - y[i] ** 2) * dy[i]
        dw += np.outer(d, x[i])
        db += d
    return y, dw, db


def batched(x: Any, w: Any, b: Any, dy: Any) -> Arrays:
    """Take all rows at once, in NumPy."""
    y = np.tanh(x @ w.T + b)
    d = (1 - y**2) * dy
    return y, d.T @ x, d.sum(axis=0)


def fused(x: Any, w: Any, b: Any, dy: Any) -> Arrays:
    """Take all rows at once, in mlpx: on the CPU or the GPU, wherever the arrays are."""
    y, saved = ops.dense(x, w, b, activation="tanh")
    _, dw, db = ops.dense_grad(dy, x, w, saved, activation="tanh", need_dx=False)
    return y, dw, db


def seconds(way: Callable[..., Arrays], arrays: Arrays, truth: Arrays, repetitions: int) -> float:
    """Check that a way of computing is right, then time it."""
    for got, wanted in zip(way(*arrays), truth, strict=True):
        np.testing.assert_allclose(mlpx.to_numpy(got), wanted, rtol=1e-8, atol=1e-8)
    start = time.perf_counter()
    for _ in range(repetitions):
        result = way(*arrays)
    mlpx.to_numpy(result[-1])  # a GPU works behind our back: wait for its last result
    return time.perf_counter() - start


def show_times(rows: int, n_in: int, n_out: int, repetitions: int) -> None:
    """Print how long forward and backward take in each way."""
    from rich.console import Console
    from rich.table import Table

    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((rows, n_in)), rng.standard_normal((n_out, n_in)) / n_in**0.5
    b, dy = rng.standard_normal(n_out), rng.standard_normal((rows, n_out))
    arrays = (x, w, b, dy)
    truth = batched(*arrays)

    ways = {"per instance, NumPy": per_instance, "batched, NumPy": batched, "fused, mlpx": fused}
    times = {name: seconds(way, arrays, truth, repetitions) for name, way in ways.items()}
    no_gpu = ""
    try:
        with mlpx.using_backend("cupy"):
            on_gpu = tuple(mlpx.asarray(a) for a in arrays)
        times["GPU, mlpx"] = seconds(fused, on_gpu, truth, repetitions)
    except mlpx.BackendError as problem:
        no_gpu = str(problem)

    table = Table("forward and gradients", "seconds", "times faster")
    for name, taken in times.items():
        table.add_row(name, f"{taken:.3f}", f"{times['per instance, NumPy'] / taken:.1f}")
    print(f"X ({rows}, {n_in}), W ({n_out}, {n_in}), float64, {repetitions} repetitions; all results agree to 1e-8")
    Console().print(table)
    if (rows, n_in, n_out, repetitions) == (1000, 5000, 10, 10):
        print("A published run of ten repetitions took 0.542 s per instance and 0.220 s batched, on its own machine.")
    if no_gpu:
        print(f"No GPU in the table: {no_gpu}")
