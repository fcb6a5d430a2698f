"""The third problem: some classes are impossible for some rows, inside the network and during training."""

import numpy as np
import pytest
from cases_kit import flags, normal

import mlpx
from mlpx import layers, ops
from mlpx.ops.dispatch import using_fused

N, C = 60, 5
X = normal("x", N, 4)
MASK = flags("masked", N, C)
MASK[::7] = False
Y = np.where(MASK.any(1), np.where(MASK, normal("score", N, C), -np.inf).argmax(1), 0)


def network(**options):
    return mlpx.MLP([4, 12, C], "tanh", "masked_softmax", seed=1, **options)


def check_rows(y, mask) -> None:
    """Raise unless forbidden outputs are exactly 0, allowed ones sum to 1, and rows that allow nothing are 0."""
    assert y.shape == mask.shape
    assert (y[~mask] == 0).all()
    np.testing.assert_allclose(y.sum(axis=-1), mask.any(axis=-1).astype(float), atol=1e-6)
    assert np.isfinite(y).all()


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("n", [0, 1, 2, 59, 60])
def test_any_batch_size(n, mode) -> None:
    with using_fused(mode):
        check_rows(network().predict(X[:n], MASK[:n]), MASK[:n])


def test_one_instance_and_more_axes() -> None:
    net = network()
    whole = net.predict(X, MASK)
    np.testing.assert_allclose(net.predict(X[1], MASK[1]), whole[1], atol=1e-7)
    np.testing.assert_allclose(net.predict(X[1].tolist(), MASK[1].tolist()), whole[1], atol=1e-7)
    cube = net.predict(X.reshape(3, 20, 4), MASK.reshape(3, 20, C))
    np.testing.assert_allclose(cube.reshape(N, C), whole, atol=1e-7)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_masks_hold_during_training_too(mode) -> None:
    net = network()
    seen = []
    with using_fused(mode):
        history = net.fit(
            X,
            Y,
            mask=MASK,
            epochs=60,
            batch_size=16,
            optimizer=mlpx.optimizers.Adam(lr=0.02),
            progress=False,
            callbacks=[lambda run: seen.append(run.net.predict(X, MASK)) and None],
        )
    assert len(seen) == 60
    for y in seen:
        check_rows(y, MASK)
    assert history.loss[-1] < 0.6 * history.loss[0]
    some = MASK.any(axis=1)
    assert (seen[-1].argmax(1) == Y)[some].mean() > (seen[0].argmax(1) == Y)[some].mean()


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("junk", [np.inf, -np.inf, np.nan, 1e30])
def test_forbidden_logits_may_be_anything(junk, mode) -> None:
    z = normal("z", N, C)
    bad = np.where(MASK, z, junk)
    with using_fused(mode):
        y = ops.masked_softmax(bad, MASK)
        check_rows(y, MASK)
        np.testing.assert_array_equal(y, ops.masked_softmax(z, MASK))
        dz = ops.masked_softmax_grad(normal("dy", N, C), y, MASK)
        loss, delta = ops.softmax_cross_entropy(bad, Y, None, None, MASK)
        plain_loss, plain_delta = ops.softmax_cross_entropy(z, Y, None, None, MASK)
    for gradient in (dz, delta):
        assert np.isfinite(gradient).all()
        assert (gradient[~MASK] == 0).all()
        assert (gradient[~MASK.any(axis=1)] == 0).all()
    assert loss == plain_loss
    np.testing.assert_array_equal(delta, plain_delta)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_rows_that_allow_nothing_count_for_nothing(mode) -> None:
    net = network(dtype="float64")
    some = MASK.any(axis=1)
    with using_fused(mode):
        with_them, gradient = net.loss_and_grad(X, Y, mask=MASK)
        gradient = gradient.copy()
        without, expected = net.loss_and_grad(X[some], Y[some], mask=MASK[some])
        assert with_them == pytest.approx(without, rel=1e-13)
        np.testing.assert_allclose(gradient, expected, atol=1e-14)
        nothing, zero = net.loss_and_grad(X, Y, mask=np.zeros_like(MASK))
        assert nothing == 0.0
        assert not zero.any()


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_training_where_nothing_is_allowed_is_refused_and_leaves_the_weights(mode) -> None:
    net = network()
    before = net.parameters.copy()
    with using_fused(mode), pytest.raises(ValueError, match="mask: forbids every class in every row"):
        net.fit(X, Y, mask=np.zeros_like(MASK), epochs=2, optimizer="sgd", progress=False)
    np.testing.assert_array_equal(net.parameters, before)


def test_gradients_by_central_differences() -> None:
    net = network(dtype="float64")
    for mode in ("auto", "off"):
        with using_fused(mode):
            mlpx.check_gradients(net, X, Y, mask=MASK, tol=1e-7)
    inside = mlpx.Sequential(layers.Dense(4, C), layers.MaskedSoftmax(), loss="squared_error", dtype="float64")
    mlpx.check_gradients(inside, X, normal("t", N, C), mask=MASK, tol=1e-7)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_all_classes_allowed_is_the_plain_softmax(mode) -> None:
    plain = mlpx.MLP([4, 12, C], "tanh", "softmax", seed=1)
    with using_fused(mode):
        y = network().predict(X, np.ones_like(MASK))
        np.testing.assert_allclose(y, plain.predict(X), atol=1e-7)
        loss, _ = network().loss_and_grad(X, Y, mask=np.ones_like(MASK))
        assert loss == pytest.approx(plain.loss_and_grad(X, Y)[0], rel=1e-6)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (None, r"mask: missing.*\(60, 5\)"),
        (MASK[:-1], r"mask: has shape \(59, 5\); expected \(60, 5\)"),
        (MASK[:, :1], r"mask: has shape \(60, 1\); expected \(60, 5\)"),
        (MASK + 0.5, "mask: holds values other than 0 and 1"),
    ],
)
def test_masks_that_cannot_be(mask, words) -> None:
    net = network()
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=words):
        net.predict(X, mask)
    with pytest.raises(ValueError, match=words):
        net.fit(X, Y, mask=mask, progress=False)
    np.testing.assert_array_equal(net.parameters, before)


def test_a_target_that_its_mask_forbids_is_an_error_of_fit() -> None:
    mask = np.ones_like(MASK)
    mask[3, Y[3]] = False
    with pytest.raises(ValueError, match="y: the target of row 3 is a class that its mask forbids"):
        network().fit(X, Y, mask=mask, progress=False)


def test_masks_of_zeros_and_ones_are_taken() -> None:
    net = network()
    np.testing.assert_array_equal(net.predict(X, MASK.astype(int)), net.predict(X, MASK))
    np.testing.assert_array_equal(net.predict(X, MASK.astype("f")), net.predict(X, MASK))
