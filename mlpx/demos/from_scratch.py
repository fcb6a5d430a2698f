"""A network in thirty lines of NumPy, then the same network with mlpx: the same gradient and the same training."""

from typing import Any

import numpy as np

import mlpx
from mlpx.demos import verdict


def softmax(z: Any) -> Any:
    """Return probabilities, one row per instance: ``exp(z - max z) / sum exp(z - max z)``."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def forward(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> tuple[Any, Any]:
    """Return the hidden layer's output and the class probabilities for rows ``x`` (n, n_in)."""
    h = np.tanh(x @ w1.T + b1)
    return h, softmax(h @ w2.T + b2)


def gradients(x: Any, t: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> tuple[float, list[Any]]:
    """Return the mean cross-entropy in nats for one-hot ``t``, and its gradients for w1, b1, w2 and b2."""
    h, p = forward(x, w1, b1, w2, b2)
    d2 = (p - t) / len(x)  # softmax and cross-entropy together: the delta is P - T
    d1 = (d2 @ w2) * (1 - h * h)  # tanh' = 1 - tanh^2
    loss = -np.log(p[t == 1]).mean()
    return float(loss), [d1.T @ x, d1.sum(axis=0), d2.T @ h, d2.sum(axis=0)]


def main(*, steps: int = 200, rate: float = 0.5) -> bool:
    """Train both by plain gradient descent; return whether gradients and weights agree to rounding."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 2))
    y = (x[:, 0] * x[:, 1] > 0).astype(int)  # XOR of the signs: no straight line separates these classes
    t = np.eye(2)[y]

    net = mlpx.MLP([2, 16, 2], activation="tanh", dtype="float64", seed=0)
    weights = [np.array(mlpx.to_numpy(p)) for p in net.named_parameters().values()]  # the same start for both

    loss, ours = gradients(x, t, *weights)
    theirs = net.loss_and_grad(x, y)[0]
    gradient = [mlpx.to_numpy(p.grad) for layer in net.layers for p in layer.parameters.values()]
    worst = max(float(abs(a - b).max()) for a, b in zip(ours, gradient, strict=True))
    print(f"loss {loss:.6f} by hand, {theirs:.6f} by mlpx; gradients differ by at most {worst:.0e}")

    for _ in range(steps):
        loss, ours = gradients(x, t, *weights)
        weights = [w - rate * g for w, g in zip(weights, ours, strict=True)]
    sgd = mlpx.SGD(rate)
    net.fit(x, y, epochs=steps, batch_size=len(x), optimizer=sgd, shuffle=False, progress=False)

    trained = [mlpx.to_numpy(p) for p in net.named_parameters().values()]
    apart = max(float(abs(a - b).max()) for a, b in zip(weights, trained, strict=True))
    right = float((forward(x, *weights)[1].argmax(axis=1) == y).mean())
    score = net.score(x, y)
    print(f"after {steps} steps: {right:.1%} right by hand, {score:.1%} by mlpx; weights differ by {apart:.0e}")
    return verdict(
        {
            "the gradients agree to rounding": worst < 1e-12,
            "so do the weights after the training": apart < 1e-8,
            "both are right above 90 %": min(right, score) > 0.9,
        }
    )
