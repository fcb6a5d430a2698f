"""What fit does besides arithmetic: seeds, validation, callbacks, curves, and what it leaves behind."""

import math

import numpy as np
import pytest
from cases_kit import normal

import mlpx
from mlpx import callbacks, optimizers, schedules
from mlpx.layers import Dense
from mlpx.op import using_fused
from mlpx.optimizers import OPTIMIZERS, SGD

N, N_IN, C = 90, 4, 3
X = normal("x", N, N_IN)
Y = (X @ normal("w", N_IN, C)).argmax(axis=1)


def network(**options):
    return mlpx.MLP([N_IN, 7, C], **({"activation": "tanh", "seed": 1} | options))


def fit(net, **options):
    return net.fit(X, Y, **({"epochs": 4, "batch_size": 20, "progress": False} | options))


# --- seeds and order ----------------------------------------------------------------------------------------------


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


# --- the buffers --------------------------------------------------------------------------------------------------


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


# --- validation, early stopping, plateaus -------------------------------------------------------------------------


def test_a_share_is_held_out_and_not_trained_on() -> None:
    seen = []
    net = network()
    history = fit(net, validation=0.3, epochs=1, batch_size=1, callbacks=[lambda run: seen.append(run) and None])
    assert history.steps == N - 27
    assert len(history.validation_loss) == len(history.validation_accuracy) == 1
    # What is held out is told from what a network of one weight per row leaves alone.
    rows = mlpx.Sequential(Dense(N, 1, bias=False), loss="squared_error", dtype="float64")
    before = rows.parameters.copy()
    rows.fit(np.eye(N), np.ones(N), epochs=1, batch_size=5, validation=0.3, optimizer="sgd", progress=False)
    assert (rows.parameters[:N] == before[:N]).sum() == 27


def test_own_validation_data_with_all_its_parts() -> None:
    weight = np.arange(N) % 2.0
    net = network()
    history = fit(net, validation=(X, Y, None, weight))
    loss, _ = net.loss_and_grad(X, Y, sample_weight=weight)
    assert history.validation_loss[-1] == pytest.approx(loss, rel=1e-5)
    right = net.predict(X).argmax(axis=1) == Y
    assert history.validation_accuracy[-1] == pytest.approx(right[weight > 0].mean())


def test_validation_changes_nothing_about_the_training() -> None:
    with_it, without = network(norm="batch", dropout=0.1), network(norm="batch", dropout=0.1)
    fit(with_it, validation=(X[:10], Y[:10]))
    fit(without)
    np.testing.assert_array_equal(with_it.parameters, without.parameters)
    np.testing.assert_array_equal(with_it.buffers.statistics, without.buffers.statistics)


@pytest.mark.parametrize("monitor", ["auto", "loss", "validation_loss", "validation_accuracy"])
def test_early_stopping_puts_the_best_weights_back(monitor) -> None:
    states = []
    net = network(norm="batch")
    noisy = (X[:30], np.roll(Y[:30], 3))
    watch = lambda run: states.append((run.net.parameters.copy(), run.net.buffers.statistics.copy())) and None  # noqa: E731
    stop = mlpx.EarlyStopping(patience=3, monitor=monitor)
    history = fit(net, epochs=200, optimizer=SGD(lr=3.0), validation=noisy, callbacks=[watch, stop])
    curve = history.validation_loss if monitor == "auto" else getattr(history, monitor)
    best = int(np.argmax(curve) if monitor == "validation_accuracy" else np.argmin(curve))
    assert history.stopped == "early stopping"
    assert history.best_epoch == best == history.epochs - 4
    np.testing.assert_array_equal(net.parameters, states[best][0])
    np.testing.assert_array_equal(net.buffers.statistics, states[best][1])


def test_early_stopping_may_leave_the_last_weights() -> None:
    states = []
    net = network()
    watch = lambda run: states.append(run.net.parameters.copy()) and None  # noqa: E731
    stop = mlpx.EarlyStopping(patience=1, min_delta=10.0, restore_best=False)
    history = fit(net, epochs=50, callbacks=[watch, stop])
    assert history.epochs == 2
    assert history.best_epoch == 0
    np.testing.assert_array_equal(net.parameters, states[-1])


def test_early_stopping_without_its_curve_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"monitor 'validation_loss' has no values; pass validation"):
        fit(network(), callbacks=[mlpx.EarlyStopping(monitor="validation_loss")])


def test_early_stopping_does_not_take_nan_for_the_best() -> None:
    values = iter([math.nan, math.nan, 3.0, 2.0, math.nan, 2.5, 2.6])
    states = []

    def play(run) -> None:
        run.history.validation_loss[-1] = next(values)
        states.append(run.net.parameters.copy())

    net = network()
    history = fit(net, epochs=50, validation=0.2, callbacks=[play, mlpx.EarlyStopping(patience=3)])
    assert (history.best_epoch, history.epochs, history.stopped) == (3, 7, "early stopping")
    np.testing.assert_array_equal(net.parameters, states[3])


def test_rows_that_count_for_nothing_leave_the_accuracy() -> None:
    mask = np.ones((N, C), bool)
    mask[::2] = False  # a row that allows nothing is neither right nor wrong
    net = mlpx.MLP([N_IN, C], output="masked_softmax", seed=1)
    history = net.fit(X, Y, mask=mask, validation=(X, Y, mask), epochs=2, progress=False)
    right = (net.predict(X, mask).argmax(axis=1) == Y)[1::2]
    assert history.validation_accuracy[-1] == pytest.approx(right.mean())
    nothing = np.zeros_like(mask)
    assert net.fit(X, Y, mask=mask, validation=(X, Y, nothing), epochs=1, progress=False).validation_accuracy == []
    weight = np.zeros(N)
    weight[:3] = 1.0
    history = fit(network(), sample_weight=weight, validation=0.1, epochs=1, seed=1)  # no such row is held out
    assert history.validation_loss == [0.0]
    assert history.validation_accuracy == []


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_reduce_on_plateau_cuts_the_rate_in_a_fit(mode) -> None:
    plateau = schedules.ReduceOnPlateau(gamma=0.5, patience=2, min_delta=10.0)
    with using_fused(mode):
        for _ in range(2):  # the second fit begins at the full rate again
            history = fit(network(), epochs=7, optimizer=SGD(lr=0.4, schedule=plateau))
            np.testing.assert_allclose(history.learning_rate, [0.4, 0.4, 0.4, 0.2, 0.2, 0.1, 0.1])


# --- optimiser state ----------------------------------------------------------------------------------------------


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


# --- callbacks and curves -----------------------------------------------------------------------------------------


class Recorder(callbacks.Callback):
    def __init__(self, name, log) -> None:
        self.name, self.log = name, log

    def on_start(self, run) -> None:
        self.log.append((self.name, "start", run.n_epochs))

    def on_epoch(self, run) -> None:
        self.log.append((self.name, "epoch", run.epoch))

    def on_end(self, run) -> None:
        self.log.append((self.name, "end", run.history.epochs))


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "conjugate_gradient", "scaled_conjugate_gradient"])
def test_callbacks_are_called_in_order(optimizer) -> None:
    log = []
    fit(network(), epochs=2, optimizer=optimizer, callbacks=[Recorder("a", log), Recorder("b", log)])
    epochs = [(name, "epoch", epoch) for epoch in range(2) for name in "ab"]
    assert log == [("a", "start", 2), ("b", "start", 2), *epochs, ("b", "end", 2), ("a", "end", 2)]


@pytest.mark.parametrize("optimizer", ["adam", "rprop", "lbfgs", "conjugate_gradient", "scaled_conjugate_gradient"])
def test_a_function_that_returns_something_true_ends_the_fit(optimizer) -> None:
    history = fit(network(), epochs=50, optimizer=optimizer, callbacks=[lambda run: run.epoch == 2])
    assert history.epochs == 3
    assert history.stopped == "callback"


def test_a_failing_callback_ends_the_fit_and_the_others_are_told() -> None:
    log = []

    def fail(run) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        fit(network(), callbacks=[Recorder("a", log), fail])
    assert log == [("a", "start", 4), ("a", "epoch", 0), ("a", "end", 1)]


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_what_the_history_holds(mode) -> None:
    net = network()
    first = net.loss_and_grad(X, Y)[0]
    with using_fused(mode):
        history = fit(net, batch_size=N, optimizer=SGD(lr=0.1, schedule="exponential"), validation=(X, Y))
    assert history.epochs == len(history.loss) == 4
    assert history.loss[0] == pytest.approx(first, rel=1e-5)
    np.testing.assert_allclose(history.loss[1:], history.validation_loss[:-1], rtol=1e-5)
    np.testing.assert_allclose(history.learning_rate, 0.1 * 0.95 ** np.arange(4))
    assert all(second >= 0 and math.isfinite(second) for second in history.seconds)
    assert history.steps == 4
    assert history.stopped == "epochs"
    assert history.best_epoch is None


def test_no_epochs_check_the_data_and_train_nothing() -> None:
    for optimizer in ("adam", "lbfgs", "scaled_conjugate_gradient"):
        net = network()
        history = fit(net, epochs=0, optimizer=optimizer)
        assert (history.epochs, history.steps, history.loss) == (0, 0, [])
        np.testing.assert_array_equal(net.parameters, network().parameters)


def test_a_progress_bar_needs_no_terminal(capfd) -> None:
    fit(network(), progress=True, validation=0.2)
    out, err = capfd.readouterr()
    assert out == ""
    assert "4/4" in err
    fit(network(), progress="auto")
    assert capfd.readouterr() == ("", "")


def test_schedules_do_not_carry_over_between_optimisers() -> None:
    assert optimizers.SGD().schedule is not optimizers.SGD().schedule
