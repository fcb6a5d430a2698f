"""One probability row per instance: a 2-4-3 network with a sigmoid hidden layer and a softmax output."""

import numpy as np

import mlpx
from mlpx import ops
from mlpx.demos import verdict


def main() -> bool:
    """Run the demo; return whether the problem is solved."""
    # Weights are (n_out, n_in), rows of x are instances. A bias may be (1, n), as here, or (n,).
    rng = np.random.default_rng(0)
    w1, b1 = rng.standard_normal((4, 2)), rng.standard_normal((1, 4))
    w2, b2 = rng.standard_normal((3, 4)), rng.standard_normal((1, 3))
    x = rng.standard_normal((6, 2))

    # Forward, by hand.
    hidden, _ = ops.dense(x, w1, b1, activation="sigmoid")
    logits, _ = ops.dense(hidden, w2, b2)
    y = ops.softmax(logits)
    print("probabilities, one row per instance:")
    print(y.round(3))

    # The same with flat biases.
    hidden, _ = ops.dense(x, w1, b1[0], activation="sigmoid")
    flat = ops.softmax(ops.dense(hidden, w2, b2[0])[0])

    # The same as a network object, given arrays with the bias as an extra row.
    rows = [np.concatenate([w1.T, b1]), np.concatenate([w2.T, b2])]
    net = mlpx.MLP.from_bias_rows(rows, activation="sigmoid", output="softmax", dtype="float64")
    network = mlpx.to_numpy(net.predict(mlpx.asarray(x)))

    # Logits that overflow a naive exponential.
    extreme = ops.softmax(np.array([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]]))
    exact = np.array([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    print(f"logits 10,000, 0, -10,000 -> {extreme[0]}")

    # From one class to many, in float32.
    worst = 0.0
    for classes in (1, 2, 10, 1000, 100_000):
        p = ops.softmax(rng.standard_normal((8, classes)).astype("float32") * 100)
        worst = max(worst, float(np.abs(p.sum(axis=1, dtype="float64") - 1).max()))
    print(f"1 to 100,000 classes: rows sum to 1 within {worst:.1e}")

    # What cannot fit says so.
    wrong_shape = wrong_label = ""
    try:
        ops.dense(x, w1.T, b1)
    except ValueError as error:
        wrong_shape = str(error)
        print(f"w1 transposed: {error}")
    try:
        net.loss_and_grad(mlpx.asarray(x), np.array([0, 1, 2, 0, 1, 3]))
    except ValueError as error:
        wrong_label = str(error)
        print(f"label 3 of 3 classes: {error}")

    return verdict(
        {
            "biases as (1, n) and as (n,) give the same": np.array_equal(y, flat),
            "a network object gives the same": np.allclose(network, y, rtol=1e-12),
            "softmax is exact at logits of +-10,000": np.array_equal(extreme, exact),
            "rows sum to 1 within 1e-6 for 1 to 100,000 classes": worst < 1e-6,
            "a wrong shape is an error that names what came": "w has shape (2, 4)" in wrong_shape,
            "a label past the last class is an error": "3" in wrong_label,
        }
    )
