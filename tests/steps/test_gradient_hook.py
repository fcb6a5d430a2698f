"""The seam between the backward pass and the update."""

import numpy as np
import pytest

import mlpx
from mlpx import optimizers


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((60, 5)), rng.integers(0, 3, 60)


def fitted(**options: object) -> mlpx.Sequential:
    x, y = data()
    net = mlpx.MLP([5, 8, 3], output="softmax", dtype="float64", seed=1)
    net.fit(x, y, epochs=2, batch_size=16, optimizer=optimizers.SGD(lr=0.1), **options)
    return net


def test_a_hook_sees_every_gradient_and_changes_nothing_by_looking() -> None:
    seen: list[np.ndarray] = []
    hooked = fitted(gradient_hook=lambda g: seen.append(g.copy()))
    assert len(seen) == 2 * 4
    assert all(g.shape == hooked.parameters.shape and np.isfinite(g).all() and g.any() for g in seen)
    np.testing.assert_allclose(hooked.parameters, fitted().parameters, rtol=1e-12, atol=1e-14)


def test_what_a_hook_writes_is_what_the_update_takes() -> None:
    def doubled(g: np.ndarray) -> None:
        g *= 2.0

    x, y = data()
    net = mlpx.MLP([5, 8, 3], output="softmax", dtype="float64", seed=1)
    net.fit(x, y, epochs=2, batch_size=16, optimizer=optimizers.SGD(lr=0.05), gradient_hook=doubled)
    np.testing.assert_allclose(net.parameters, fitted().parameters, rtol=1e-12, atol=1e-14)


def test_gradients_averaged_over_two_halves_are_those_of_the_whole() -> None:
    x, y = data()
    nets = [mlpx.MLP([5, 8, 3], output="softmax", dtype="float64", seed=1) for _ in range(3)]
    gradients = [nets[k].loss_and_grad(x[part], y[part])[1].copy() for k, part in enumerate((slice(30), slice(30, 60)))]

    def average(g: np.ndarray) -> None:
        g[...] = sum(gradients) / 2

    nets[2].fit(x[:30], y[:30], epochs=1, batch_size=30, optimizer="sgd", gradient_hook=average)
    nets[0].fit(x, y, epochs=1, batch_size=60, optimizer="sgd")
    np.testing.assert_allclose(nets[2].parameters, nets[0].parameters, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("options", [{"gradient_hook": 3}, {"gradient_hook": print, "optimizer": "lbfgs"}])
def test_hooks_that_cannot_be(options: dict[str, object]) -> None:
    x, y = data()
    with pytest.raises(TypeError, match="gradient_hook"):
        mlpx.MLP([5, 3], output="softmax").fit(x, y, **options)


def test_a_failing_hook_ends_the_fit_between_two_steps() -> None:
    def fail(g: np.ndarray) -> None:
        raise OSError("the other side is gone")

    x, y = data()
    net = mlpx.MLP([5, 3], output="softmax", seed=0)
    before = net.parameters.copy()
    with pytest.raises(OSError, match="gone"):
        net.fit(x, y, epochs=1, gradient_hook=fail)
    np.testing.assert_array_equal(net.parameters, before)
