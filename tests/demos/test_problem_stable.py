"""The fourth problem: a 3-4-1 network that must not become NaN, in the very run that people report."""

import numpy as np
import pytest
from cases_kit import normal

import mlpx
from mlpx import ops
from mlpx.ops import ACTIVATIONS
from mlpx.ops.dispatch import using_fused
from mlpx.optimizers import SGD

X = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]])
Y = np.array([0, 1, 1, 1, 1, 0, 0])
START = mlpx.Uniform(-1, 1)


def run(seed, mode="auto", **options):
    """Return the network after the very run, and its history."""
    net = mlpx.MLP([3, 4, 1], "leaky_relu", "sigmoid", init=START, bias_init=START, seed=seed, **options)
    with using_fused(mode):
        history = net.fit(X, Y, epochs=10_000, batch_size=7, optimizer=SGD(lr=1.0), progress=False)
    return net, history


def test_the_very_run_stays_finite_and_classifies_all_seven_rows() -> None:
    """Some starts never get there, in a plain loop no more than here: see the next test.

    Of the first 200 seeds 189 learn all seven rows; nine end in a local minimum, where the gradient vanishes; seed 22
    still creeps after 10,000 iterations, and seed 108 leaps back and forth for ever at this rate.
    """
    solved = 0
    for seed in range(10):
        net, history = run(seed)
        assert history.epochs == history.steps == 10_000
        assert np.isfinite(history.loss).all()
        assert np.isfinite(net.parameters).all()
        loss, gradient = net.loss_and_grad(X, Y)
        if np.array_equal(net.predict(X)[:, 0] > 0.5, Y):
            assert loss < 0.01
            solved += 1
        else:
            assert np.abs(gradient).max() < 1e-5, f"seed {seed} ended at loss {loss}, which is no minimum"
    assert solved >= 9


def plain_loop(w, b, v, c):
    """Take the very run's iterations in nothing but NumPy; return the weights."""
    t = Y[:, None]
    for _ in range(10_000):
        z = X @ w.T + b
        h = np.where(z > 0, z, 0.01 * z)
        d = (1 / (1 + np.exp(-(h @ v.T + c))) - t) / 7
        dz = d @ v * np.where(z > 0, 1.0, 0.01)
        w, b, v, c = w - dz.T @ X, b - dz.sum(0), v - d.T @ h, c - d.sum(0)
    return w, b, v, c


@pytest.mark.parametrize(("seed", "learnt"), [(1, 7), (3, None), (22, None)])
def test_the_very_run_ends_where_a_plain_loop_ends(seed, learnt) -> None:
    net, _ = run(seed, dtype="float64")
    start = mlpx.MLP([3, 4, 1], "leaky_relu", "sigmoid", init=START, bias_init=START, seed=seed, dtype="float64")
    expected = plain_loop(*(a.copy() for a in start.named_parameters().values()))
    for now, then in zip(net.named_parameters().values(), expected, strict=True):
        np.testing.assert_allclose(now, then, rtol=1e-4)
    right = int(((net.predict(X)[:, 0] > 0.5) == Y).sum())
    assert right == learnt if learnt else right < 7


def test_the_very_run_by_the_references() -> None:
    net, history = run(1, "off")
    assert np.isfinite(history.loss).all()
    np.testing.assert_array_equal(net.predict(X)[:, 0] > 0.5, Y)


def test_the_start_is_uniform_in_minus_one_to_one() -> None:
    net = mlpx.MLP([3, 400, 1], "leaky_relu", "sigmoid", init=START, bias_init=START)
    values = np.concatenate([a.ravel() for a in net.named_parameters().values()])
    assert np.abs(values).max() <= 1
    assert values.min() < -0.99
    assert values.max() > 0.99
    assert abs(values.mean()) < 0.05


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("size", [40.0, 1e3, 1e4])
def test_loss_and_delta_come_from_logits(size, mode) -> None:
    z = np.array([[size], [-size], [size], [-size]], "f")
    t = np.array([[1.0], [0.0], [0.0], [1.0]], "f")
    with using_fused(mode):
        loss, dz = ops.sigmoid_cross_entropy(z, t)
    assert loss == pytest.approx(size / 2, rel=1e-6)
    np.testing.assert_allclose(dz, np.array([[0], [0], [0.25], [-0.25]]), atol=1e-15)


def frozen(*arrays):
    for a in arrays:
        a.flags.writeable = False
    return arrays


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_no_activation_changes_its_arguments(kind, mode) -> None:
    x, w, b, dy = frozen(normal("x", 7, 3), normal("w", 4, 3), normal("b", 4), normal("dy", 7, 4))
    copies = [a.copy() for a in (x, w, b, dy)]
    with using_fused(mode):
        y, saved = ops.dense(x, w, b, activation=kind)
        frozen(y, saved)
        kept = y.copy(), saved.copy()
        ops.dense_grad(dy, x, w, saved, activation=kind)
        z, saved_alone = ops.activation(x, kind=kind)
        frozen(z, saved_alone)
        ops.activation_grad(x, saved_alone, kind=kind)
    for now, before in zip((x, w, b, dy, y, saved), (*copies, *kept), strict=True):
        np.testing.assert_array_equal(now, before)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fit_predict_and_loss_change_no_input(dtype, mode) -> None:
    x, y, weight = frozen(X.astype(dtype), Y.astype(dtype), np.ones(7, dtype))
    copies = x.copy(), y.copy(), weight.copy()
    net = mlpx.MLP([3, 4, 1], "leaky_relu", "sigmoid", dropout=0.1, norm="batch", dtype=dtype)
    with using_fused(mode):
        net.fit(x, y, epochs=3, batch_size=3, sample_weight=weight, validation=(x, y), progress=False)
        net.predict(x)
        net.loss_and_grad(x, y, sample_weight=weight, training=True)
    for now, before in zip((x, y, weight), copies, strict=True):
        np.testing.assert_array_equal(now, before)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_divergence_names_step_layer_and_remedy_and_keeps_the_last_good_weights(mode) -> None:
    def wild():
        return mlpx.MLP([3, 4, 1], "leaky_relu", "linear", seed=1)

    def fit(net, epochs):
        with using_fused(mode):
            net.fit(X, Y, epochs=epochs, batch_size=7, optimizer=SGD(lr=1e3), progress=False)

    net = wild()
    with pytest.raises(mlpx.DivergenceError) as caught:
        fit(net, 1000)
    error = caught.value
    assert error.step > 0
    assert error.epoch == error.step  # one step an epoch
    assert f"step {error.step}" in str(error)
    assert error.layer in str(error)
    assert "Dense" in error.layer or "loss" in error.layer
    for remedy in ("smaller lr", "clip_norm", "scaled", "float64"):
        assert remedy in str(error)
    assert set(error.largest) == {"input", "weight", "activation", "gradient"}
    assert error.history.epochs >= error.step - 1
    assert np.isfinite(net.parameters).all()
    assert np.isfinite(net.loss_and_grad(X, Y)[0])

    # The weights are those before the update that led to the failure: as many whole steps as went well.
    kept = net.parameters.copy()
    candidates = []
    for epochs in (error.step - 1, error.step):
        again = wild()
        fit(again, epochs)
        candidates.append(np.array_equal(again.parameters, kept))
    assert any(candidates)


def test_a_bad_batch_in_the_middle_of_an_epoch() -> None:
    x = np.ones((40, 3), "f")
    x[25] = 3e38  # finite, but its square is not
    stories = {}
    for mode in ("auto", "off"):
        net = mlpx.MLP([3, 1], output="linear", seed=1)
        with using_fused(mode), pytest.raises(mlpx.DivergenceError) as caught:
            net.fit(x, np.ones(40), epochs=3, batch_size=10, shuffle=False, optimizer=SGD(lr=0.1), progress=False)
        stories[mode] = caught.value.step, net.parameters.copy()
        good = mlpx.MLP([3, 1], output="linear", seed=1)
        with using_fused(mode):
            good.fit(x[:10], np.ones(10), epochs=1, batch_size=10, optimizer=SGD(lr=0.1), progress=False)
        assert caught.value.step == 2
        assert np.isfinite(net.predict(np.ones((2, 3)))).all()
        np.testing.assert_allclose(net.parameters, good.parameters, rtol=1e-6)
    np.testing.assert_allclose(stories["auto"][1], stories["off"][1], rtol=1e-6)
