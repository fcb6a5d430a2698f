"""Some classes are impossible for some rows: masked softmax inside the network, during training too."""

import numpy as np

import mlpx
from mlpx import ops
from mlpx.demos import verdict


def main() -> bool:
    """Run the demo; return whether the problem is solved."""
    # 600 rows; in each, some of the 5 classes are allowed, and the best of those is the target.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 8))
    scores = x @ rng.standard_normal((8, 5))
    mask = rng.random((600, 5)) > 0.4  # True: this class is allowed for this row
    mask[0] = False  # a row that allows nothing
    best = np.where(mask, scores, -np.inf).argmax(axis=1)

    net = mlpx.MLP([8, 32, 5], output="masked_softmax", seed=1)
    data, allowed = mlpx.asarray(x), mlpx.asarray(mask)
    net.fit(data, best, mask=allowed, epochs=60, batch_size=50, progress=False)

    y = mlpx.to_numpy(net.predict(data, allowed))
    print("some masks and the probabilities the network gives:")
    for row in (0, 1, 3, 4):
        print(f"  {mask[row].astype(int)} -> {y[row].round(3)}")
    some = mask.any(axis=1)
    forbidden = float(np.abs(y[~mask]).max())
    away_from_1 = float(np.abs(y[some].sum(axis=1) - 1).max())
    right = float((y.argmax(axis=1) == best)[some].mean())
    print(f"forbidden outputs: at most {forbidden}; allowed ones sum to 1 within {away_from_1:.1e}; {right:.1%} right")

    # Any batch size, none and one included.
    sizes = [net.predict(data[:n, :], allowed[:n, :]).shape == (n, 5) for n in (0, 1, 7, 600)]

    # What is forbidden may hold anything at all: nobody looks at it.
    logits = np.array([[1.0, np.nan, 2.0], [np.inf, 0.5, np.nan]])
    two_of_three_and_none = np.array([[True, False, True], [False, False, False]])
    loss, gradient = ops.softmax_cross_entropy(logits, np.array([0, 1]), mask=two_of_three_and_none)
    print(f"NaN and inf under the mask: loss {loss:.4f}, gradient {gradient.round(3).tolist()}")

    return verdict(
        {
            "masked outputs are exactly 0": forbidden == 0.0,
            "allowed outputs sum to 1 within 1e-6": away_from_1 < 1e-6,
            "a row that allows nothing gives zeros": not y[0].any(),
            "and gets a zero gradient, not NaN": not gradient[1].any(),
            "masked NaN and inf get exactly zero gradient": bool(np.isfinite(loss)) and gradient[0, 1] == 0.0,
            "any number of rows will do": all(sizes),
            "it learns with the mask in place: above 90 % right": right > 0.9,
        }
    )
