"""One trainer for each implementation: a function that trains a net for some epochs, and the loss of its last epoch."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.nets import LR, Net
from benchmarks.peers import Absent, jax, load, torch
from mlpx import MLP
from mlpx.ops.dispatch import using_fused
from mlpx.optimizers import Adam
from mlpx.steps import LayerSteps

Trainer = Callable[[], float]
"""Trains on, from where the last call ended; returns the mean or last loss of the last epoch."""


def learns(calls: Mapping[str, Trainer]) -> None:
    """Raise unless every implementation's loss falls below that of its first call."""
    for name, train in calls.items():
        first = train()
        assert any(train() < first for _ in range(20)), f"{name}: the loss does not fall below {first:.4f}"


def mlpx(net: Net, *, shuffle: bool, n_threads: int | None = None) -> Trainer:
    """Return mlpx by its public `fit`, which trains by the plan."""
    model, (x, y) = net.build(), net.data

    def train() -> float:
        history = model.fit(
            x,
            y,
            epochs=net.epochs,
            batch_size=net.batch,
            optimizer=Adam(lr=LR),
            shuffle=shuffle,
            progress=False,
            n_threads=n_threads,
        )
        assert not model.plan_declined, f"mlpx: no plan: {model.plan_declined}"
        return history.loss[-1]

    return train


def layer_by_layer(net: Net, *, shuffle: bool, fused: str = "auto") -> Trainer:
    """Return mlpx without the plan: the path of networks and backends that have none."""
    model = net.build()
    return steps(net, model, shuffle=shuffle, fused=fused)


def steps(net: Net, model: MLP, *, shuffle: bool, fused: str = "auto") -> Trainer:
    """Return a trainer that takes a model's steps layer by layer, on whatever backend it lives."""
    x, y = (model.backend.asarray(a) for a in net.data)
    optimizer = Adam(lr=LR)
    optimizer.start(model)
    rng = np.random.default_rng(0)
    runner = LayerSteps(model, model.batch(x, y), net.batch, optimizer, seed=0, n_steps=net.taken)

    def train() -> float:
        loss = 0.0
        with using_fused(fused):
            for epoch in range(net.epochs):
                order = rng.permutation(net.rows) if shuffle else np.arange(net.rows)
                [(loss, _)] = runner.epochs(epoch, order[None], epoch * net.steps, lambda taken: None)
        return loss

    return train


def numpy_loop(net: Net) -> Trainer:
    """Return what one writes by hand in NumPy: batched, float32, Adam on each array."""
    x, y = net.data
    layers = [[w, b] for w, b in net.weights()]
    states = [[(np.zeros_like(p), np.zeros_like(p)) for p in layer] for layer in layers]
    count = 0

    def step(xb: Any, yb: Any) -> float:
        nonlocal count
        count += 1
        hidden = [xb]
        for w, b in layers[:-1]:
            hidden.append(np.maximum(hidden[-1] @ w.T + b, 0))
        z = hidden[-1] @ layers[-1][0].T + layers[-1][1]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        d = e / e.sum(axis=1, keepdims=True)
        at = np.arange(len(yb))
        loss = -float(np.log(d[at, yb] + 1e-30).mean())
        d[at, yb] -= 1
        d /= len(yb)
        for number in reversed(range(len(layers))):
            w = layers[number][0]
            gradients = (d.T @ hidden[number], d.sum(axis=0))
            if number:
                d = (d @ w) * (hidden[number] > 0)
            for p, g, (m, v) in zip(layers[number], gradients, states[number], strict=True):
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                p -= LR / (1 - 0.9**count) * m / (np.sqrt(v / (1 - 0.999**count)) + 1e-8)
        return loss

    def train() -> float:
        losses = []
        for _ in range(net.epochs):
            losses = [step(x[i : i + net.batch], y[i : i + net.batch]) for i in range(0, net.rows, net.batch)]
        return float(np.mean(losses))

    return train


def pytorch(net: Net, *, shuffle: bool, compiled: bool = False) -> Trainer:
    """Return PyTorch with its fused Adam, eager or with the loss through `torch.compile`."""
    t = torch()
    t.manual_seed(0)
    model = torch_model(net)
    adam = t.optim.Adam(model.parameters(), lr=LR, fused=True)
    x, y = (t.from_numpy(a) for a in net.data)

    def loss_of(xb: Any, yb: Any) -> Any:
        return t.nn.functional.cross_entropy(model(xb), yb)

    loss_fn = loss_of
    if compiled:
        loss_fn = t.compile(loss_of)
        try:
            loss_fn(x[: net.batch], y[: net.batch]).backward()
        except Exception as error:
            raise Absent(f"torch.compile does not work here ({type(error).__name__})") from error

    def train() -> float:
        loss: Any = 0.0
        for _ in range(net.epochs):
            order = t.randperm(net.rows) if shuffle else None
            for start in range(0, net.rows, net.batch):
                rows = slice(start, start + net.batch) if order is None else order[start : start + net.batch]
                adam.zero_grad(set_to_none=True)
                loss = loss_fn(x[rows], y[rows])
                loss.backward()
                adam.step()
        return float(loss)

    return train


def torch_model(net: Net) -> Any:
    """Return the net as a `torch.nn.Sequential` with mlpx's initial weights; logits come out."""
    t = torch()
    layers: list[Any] = []
    for w, b in net.weights():
        linear = t.nn.Linear(w.shape[1], w.shape[0])
        with t.no_grad():
            linear.weight.copy_(t.from_numpy(w))
            linear.bias.copy_(t.from_numpy(b))
        layers += [linear, t.nn.ReLU()]
    return t.nn.Sequential(*layers[:-1])


def jax_scan(net: Net, *, shuffle: bool) -> Trainer:
    """Return JAX with a whole epoch as one `jit`, its steps by `lax.scan`, parameters donated."""
    j = jax()
    jnp = load("jax.numpy")
    x, y = (jnp.asarray(a) for a in net.data)
    y = y.astype("int32")
    params = [(jnp.asarray(w), jnp.asarray(b)) for w, b in net.weights()]
    zeros = j.tree.map(jnp.zeros_like, params)

    def loss_of(p: Any, xb: Any, yb: Any) -> Any:
        for w, b in p[:-1]:
            xb = jnp.maximum(xb @ w.T + b, 0)
        log_p = j.nn.log_softmax(xb @ p[-1][0].T + p[-1][1])
        return -jnp.mean(jnp.take_along_axis(log_p, yb[:, None], axis=1))

    def step(carry: Any, batch: Any) -> Any:
        p, m, v, count = carry
        loss, g = j.value_and_grad(loss_of)(p, *batch)
        count = count + 1
        m = j.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = j.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        lr, scale = LR / (1 - 0.9**count), 1 / (1 - 0.999**count)
        p = j.tree.map(lambda p, m, v: p - lr * m / (jnp.sqrt(v * scale) + 1e-8), p, m, v)
        return (p, m, v, count), loss

    def epoch(carry: Any, key: Any) -> Any:
        xs, ys = x, y
        if shuffle:
            order = j.random.permutation(key, net.rows)
            xs, ys = x[order], y[order]
        batches = (xs.reshape(net.steps, net.batch, -1), ys.reshape(net.steps, net.batch))
        return j.lax.scan(step, carry, batches)

    run = j.jit(epoch, donate_argnums=0)
    carry = (params, zeros, j.tree.map(jnp.zeros_like, params), jnp.float32(0))
    key = j.random.key(0)

    def train() -> float:
        nonlocal carry, key
        losses: Any = None
        for _ in range(net.epochs):
            key, now = j.random.split(key) if shuffle else (key, key)
            carry, losses = run(carry, now)
        return float(losses.mean())

    return train


def scikit_learn(net: Net, *, shuffle: bool) -> Trainer:
    """Return scikit-learn's `MLPClassifier`, an epoch for each `partial_fit`."""
    neural_network = load("sklearn.neural_network", "scikit-learn")
    x, y = net.data
    classes = np.arange(net.sizes[-1])
    model = neural_network.MLPClassifier(
        net.sizes[1:-1], alpha=0.0, batch_size=net.batch, learning_rate_init=LR, shuffle=shuffle, random_state=0
    )

    def train() -> float:
        for _ in range(net.epochs):
            model.partial_fit(x, y, classes=classes)
        return float(model.loss_)

    return train
