"""A 3-4-1 network that must not become NaN: learning rate 1, 10,000 iterations, weights uniform in [-1, 1]."""

import numpy as np

import mlpx
from mlpx.demos import verdict


def main(*, iterations: int = 10_000) -> bool:
    """Run the demo; return whether the problem is solved."""
    x = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]])
    y = np.array([0, 1, 1, 1, 1, 0, 0])
    x.flags.writeable = y.flags.writeable = False  # nothing here changes its inputs: it could not
    x_there, y_there = mlpx.asarray(x), mlpx.asarray(y)

    # Sigmoid and cross-entropy are computed from logits, in one: nothing is divided by a (1 - a).
    start = mlpx.Uniform(-1, 1)
    net = mlpx.MLP([3, 4, 1], "leaky_relu", "sigmoid", init=start, bias_init=start, seed=1)
    rate_1 = mlpx.optimizers.SGD(lr=1.0)
    history = net.fit(x_there, y_there, epochs=iterations, batch_size=7, optimizer=rate_1, progress=False)

    p = mlpx.to_numpy(net.predict(x_there))[:, 0]
    for row, target, probability in zip(x, y, p, strict=True):
        print(f"  {row} -> {probability:.4f}  (target {target})")
    right = int(((p > 0.5) == y).sum())
    print(f"{iterations} iterations at rate 1: loss {history.loss[-1]:.1e}, {right} of 7 rows right")

    # When training does diverge it stops at once, says where and what to try, and keeps the last good weights.
    wild = mlpx.MLP([3, 4, 1], "leaky_relu", "linear", seed=1)
    message = ""
    try:
        wild.fit(x_there, y_there, epochs=1000, optimizer=mlpx.optimizers.SGD(lr=1e3), progress=False)
    except mlpx.DivergenceError as error:
        message = str(error)
        print(f"\nsquared error at rate 1000:\n{error}")
    kept = bool(np.isfinite(mlpx.to_numpy(wild.predict(x_there))).all())

    return verdict(
        {
            "every loss of the run is finite": bool(np.isfinite(history.loss).all()),
            "all seven rows are classified": right == 7,
            "a run that diverges stops with an error that names step and layer": "at step" in message
            and "layers[" in message,
            "its last good weights are kept": kept,
        }
    )
