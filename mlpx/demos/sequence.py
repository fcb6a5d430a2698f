"""The same dense layer at every time step: one product, padding that costs nothing, dropout constant along time."""

import numpy as np

import mlpx
from mlpx import layers
from mlpx.demos import verdict


def main() -> bool:
    """Run the demo; return whether the problem is solved."""
    # (n, steps, n_in) -> (n, steps, n_out): batch and time are collapsed without a copy, so there is one product.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 6, 3)).astype("float32")
    with mlpx.using_backend("numpy"):
        dense = layers.Dense(3, 2, "tanh")
        over_time = mlpx.TimeDistributed(dense).initialize(seed=1)
    y, _ = over_time.forward(x)
    loop = np.stack([dense.forward(x[:, t])[0] for t in range(6)], axis=1)
    print(f"{x.shape} -> {y.shape}; the largest difference to a loop over steps is {np.abs(y - loop).max():.1e}")

    # Sequences of 6, 2, 4 and 1 steps. What stands in the padding is never looked at: here it is NaN.
    real = np.arange(6) < np.array([6, 2, 4, 1])[:, None]
    padded = np.where(real[:, :, None], x, np.nan).astype("float32")
    y_padded, backprop = over_time.forward(padded, layers.Context(valid=real))
    dx = np.asarray(backprop(np.ones_like(y_padded)))
    print(f"{real.sum()} of {real.size} steps are real; a sequence of 2 steps gives\n{y_padded[1].round(3)}")

    # Dropout with one mask for all steps of a sequence.
    dropout = layers.Dropout(0.5, shared_axes=(1,))
    dropped, _ = dropout.forward(np.ones((4, 6, 5), "float32"), layers.Context(training=True, seed=3))
    print(f"features kept in the four sequences, at every step:\n{dropped[:, 0].astype(bool).astype(int)}")

    # All of it in a network: at each step, which of the three features is largest so far?
    data = rng.standard_normal((400, 6, 3)).astype("float32")
    so_far = np.maximum.accumulate(data, axis=1)
    target = so_far.argmax(axis=2)
    real_steps = np.arange(6) < rng.integers(1, 7, 400)[:, None]
    net = mlpx.Sequential(
        mlpx.TimeDistributed(layers.Dense(3, 32, "relu")),
        layers.Dropout(0.1, shared_axes=(1,)),
        mlpx.TimeDistributed(layers.Dense(32, 3)),
        mlpx.Softmax(),
    )
    there, valid = mlpx.asarray(so_far), mlpx.asarray(real_steps)
    net.fit(
        there, target, valid=valid, epochs=40, batch_size=40, optimizer=mlpx.optimizers.Adam(lr=0.01), progress=False
    )
    predicted = mlpx.to_numpy(net.predict(there, valid=valid)).argmax(axis=-1)
    right = float((predicted == target)[real_steps].mean())
    print(f"trained on padded sequences: {right:.1%} of the real steps right")

    return verdict(
        {
            "equal to a loop over steps": np.allclose(y, loop, atol=1e-6),
            "real steps are not changed by padding": np.allclose(y_padded[real], y[real], atol=1e-6),
            "padded steps give zeros": not y_padded[~real].any(),
            "padded steps get zero gradient, even from NaN": bool(np.isfinite(dx).all()) and not dx[~real].any(),
            "dropout is constant along time": bool((dropped == dropped[:, :1]).all()),
            "dropout differs between sequences": bool((dropped[0] != dropped[1]).any()),
            "it learns: above 95 % of the real steps right": right > 0.95,
        }
    )
