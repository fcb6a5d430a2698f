"""Training: seeds and order, the buffers, and what an optimiser keeps."""

import numpy as np
import pytest
from training_kit import N, X, Y, fit, network

import mlpx
from mlpx.layers import Dense
from mlpx.ops.dispatch import using_fused
from mlpx.optimizers import OPTIMIZERS, SGD

# --- seeds and order --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_seeds_reproduce_exactly_and_differ_from_one_another(mode) -> None:
    def train(seed=0, **options):
        net = network(dropout=0.2, norm="batch")
        with using_fused(mode):
            history = fit(net, seed=seed, validation=0.2, **options)
        return np.concatenate([net.parameters, net.buffers.statistics, history.loss, history.validation_loss])

    first = train()
    np.testing.assert_array_equal(first, train())
    assert np.abs(first - train(seed=1)).max() > 1e-4
    assert np.abs(first - train(shuffle=False)).max() > 1e-4


def test_initial_weights_depend_on_their_seed_alone() -> None:
    np.testing.assert_array_equal(network().parameters, network().parameters)
    assert (network(seed=1).parameters != network(seed=2).parameters).any()
    np.testing.assert_allclose(network(dtype="float64").parameters, network().parameters, rtol=1e-6)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_without_shuffling_the_rows_go_by_in_their_order(mode) -> None:
    whole, by_hand = network(dtype="float64"), network(dtype="float64")
    with using_fused(mode):
        fit(whole, epochs=1, batch_size=40, shuffle=False, optimizer=SGD(lr=0.5))
    for rows in (slice(0, 40), slice(40, 80), slice(80, 90)):
        _, gradient = by_hand.loss_and_grad(X[rows], Y[rows])
        by_hand.parameters[...] -= 0.5 * gradient
    np.testing.assert_allclose(whole.parameters, by_hand.parameters, atol=1e-13)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_each_epoch_takes_the_rows_in_a_new_order(mode) -> None:
    # y = w with target = the row's number and rate 1: after an epoch of single rows, w is the number of the last one.
    net, last = mlpx.Sequential(Dense(1, 1, bias=False), loss="squared_error", dtype="float64"), []
    with using_fused(mode):
        net.fit(
            np.ones((N, 1)),
            np.arange(N),
            epochs=12,
            batch_size=1,
            optimizer=SGD(lr=1.0),
            callbacks=[lambda run: last.append(round(float(run.net.layers[0].value("w")[0, 0]))) and None],
            progress=False,
        )
    assert len(set(last)) > 8


def test_every_row_is_used_once_an_epoch() -> None:
    net = mlpx.Sequential(Dense(N, 1, bias=False), loss="squared_error", dtype="float64")
    before = net.parameters.copy()
    net.fit(np.eye(N), np.zeros(N), epochs=1, batch_size=1, optimizer=SGD(lr=0.25), progress=False)
    np.testing.assert_allclose(net.parameters, 0.75 * before, rtol=1e-12)


# --- the buffers ------------------------------------------------------------------------------------------------------


def views(net):
    return [(p, layer, name) for layer in net.all_layers() for name, p in layer.parameters.items()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, "lbfgs", "conjugate_gradient", "scaled_conjugate_gradient"])
def test_buffers_are_views_aligned_and_their_gaps_stay_zero(optimizer, mode, dtype) -> None:
    net = network(norm="layer", dtype=dtype)
    if optimizer in OPTIMIZERS:
        optimizer = OPTIMIZERS[optimizer](l1=1e-3, l2=1e-2, weight_decay=0.1, clip_norm=1.0)
    with using_fused(mode):
        fit(net, optimizer=optimizer)
    used = np.zeros(net.parameters.size, bool)
    for p, _, _ in views(net):
        for buffer, view in ((net.parameters, p.value), (net.gradient, p.grad)):
            assert np.shares_memory(buffer, view)
            assert view.ctypes.data == buffer[p.offset :].ctypes.data
            assert view.ctypes.data % 64 == 0
        used[p.offset : p.offset + p.size] = True
    assert used.sum() == net.n_parameters < used.size
    assert not net.parameters[~used].any()
    assert not net.gradient[~used].any()


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("option", ["l1", "l2", "weight_decay"])
def test_penalties_are_for_weights_alone(option, mode) -> None:
    plain, penalised = network(norm="layer"), network(norm="layer")
    with using_fused(mode):
        for net, options in ((plain, {}), (penalised, {option: 0.1})):
            fit(net, epochs=1, batch_size=N, optimizer=SGD(lr=0.1, **options))
    for (p, layer, name), (q, *_) in zip(views(plain), views(penalised), strict=True):
        same = np.array_equal(p.value, q.value)
        assert same == (not isinstance(layer, Dense) or name == "b"), f"{layer} {name}"


# --- optimiser state --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_goes_on_with_the_same_network_and_restarts_with_another(name, mode) -> None:
    whole, halves, other = (network(dtype="float64") for _ in range(3))
    with using_fused(mode):
        fit(whole, epochs=4, shuffle=False, optimizer=OPTIMIZERS[name]())
        kept = OPTIMIZERS[name]()
        for _ in range(2):
            fit(halves, epochs=2, shuffle=False, optimizer=kept)
        assert kept.steps == 4 * 5
        fit(other, epochs=4, shuffle=False, optimizer=kept)
    np.testing.assert_allclose(halves.parameters, whole.parameters, rtol=1e-12)
    np.testing.assert_array_equal(other.parameters, whole.parameters)
    assert kept.steps == 4 * 5


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_seeds_of_any_size(mode) -> None:
    curves = []
    for seed in (0, 2**63, 2**64 - 1, 2**70 + 1):
        with using_fused(mode):
            curves.append(tuple(fit(network(dropout=0.3), seed=seed).loss))
    assert len(set(curves)) == 4


WEIGHT = np.random.default_rng(5).random(130) * np.where(np.arange(130) < 64, 10.0, 0.1)


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (None, {"sample_weight": WEIGHT}),
        (mlpx.CrossEntropy(class_weight=(1.0, 5.0, 0.1)), {}),
        (mlpx.CrossEntropy(class_weight=(1.0, 0.0, 3.0)), {"sample_weight": WEIGHT}),
    ],
    ids=["rows", "classes", "both"],
)
def test_an_epoch_s_loss_is_the_mean_over_the_weights_of_its_rows(both_ways, loss, options) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((130, 4)), rng.integers(0, 3, 130)
    net = mlpx.MLP([4, 8, 3], dtype="float64", loss=loss)
    before = net.evaluate(x, y, **options).loss
    still = mlpx.SGD(1e-12)
    history = net.fit(x, y, epochs=2, batch_size=64, optimizer=still, progress=False, **options)
    assert history.loss == pytest.approx([before, before], rel=1e-9)


def test_an_epoch_s_loss_of_padded_sequences_is_that_of_their_steps(both_ways) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((9, 5, 4)), rng.integers(0, 3, (9, 5))
    valid = np.arange(5) < np.array([1, 5, 1, 4, 2, 5, 3, 1, 5])[:, None]
    net = mlpx.Sequential(mlpx.TimeDistributed(mlpx.Dense(4, 3)), mlpx.Softmax(), dtype="float64")
    before = net.evaluate(x, y, valid=valid).loss
    history = net.fit(x, y, valid=valid, epochs=1, batch_size=2, optimizer=mlpx.SGD(1e-12), progress=False)
    assert history.loss == pytest.approx([before], rel=1e-9)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_a_running_variance_that_overflows_is_a_divergence(mode) -> None:
    net = mlpx.MLP([4, 5, 2], norm="batch")
    before = net.buffers.statistics.copy()
    x = np.random.default_rng(0).standard_normal((20, 4)) * 1e20
    with using_fused(mode), pytest.raises(mlpx.DivergenceError):
        net.fit(x, np.arange(20) % 2, epochs=1, progress=False)
    np.testing.assert_array_equal(net.buffers.statistics, before)


def test_steps_of_single_rows_are_warned_of_before_a_batch_norm() -> None:
    net, options = mlpx.MLP([N, 5, 2], norm="batch"), {"batch_size": 1, "epochs": 1, "progress": False}
    x, y = np.eye(N), np.arange(N) % 2
    with pytest.warns(UserWarning, match="batch_size: is 1, and batch norm") as seen:
        net.fit(x, y, **options)
    assert seen[0].filename == __file__
    net.fit(x, y, **options | {"optimizer": "lbfgs"})  # which takes all rows at once
    mlpx.MLP([N, 5, 2], norm="layer").fit(x, y, **options)
