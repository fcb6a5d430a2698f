"""Settings of networks and optimisers that change: between the epochs of a fit, and between predictions."""

import numpy as np
import pytest

import mlpx
from mlpx import layers, losses, optimizers, schedules
from mlpx.ops.dispatch import using_fused

N, N_IN, C, EPOCHS = 64, 4, 3, 4
RNG = np.random.default_rng(2)
X, Y = RNG.standard_normal((N, N_IN)), RNG.integers(0, C, N)


def make(**options):
    norm, dropout = layers.BatchNorm(8), layers.Dropout(0.5)
    inside = layers.Dense(N_IN, 8, "tanh"), norm, dropout, layers.LayerNorm(8), layers.Dense(8, C), layers.Softmax()
    return mlpx.Sequential(*inside, dtype="float64", seed=1, **options)


def train(change, optimizer, *, y=Y, at=0, **options):
    """Fit both ways with a callback that changes something after epoch ``at``; compare.

    Returns the curve and the running statistics.

    ``change(net, optimizer)``.
    """
    found = []
    for mode in ("auto", "off"):
        net, chosen = make(**options), optimizer()

        def later(run, net=net, chosen=chosen) -> None:
            if run.epoch == at:
                change(net, chosen)

        given = {"epochs": EPOCHS, "batch_size": 16, "optimizer": chosen, "callbacks": [later], "progress": False}
        with using_fused(mode):
            history = net.fit(X, y, **given)
        found.append((net, chosen, history.loss))
    (fused, one, curve), (plain, other, wanted) = found
    np.testing.assert_allclose(curve, wanted, rtol=1e-8)
    np.testing.assert_allclose(fused.parameters, plain.parameters, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(fused.buffers.statistics, plain.buffers.statistics, rtol=1e-8, atol=1e-10)
    assert one.steps == other.steps
    for a, b in zip(one.state, other.state, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10)
    return curve, fused.buffers.statistics.tolist()


def setting(place, name, value):
    """Return what sets an attribute of a layer, or of the optimiser where ``place`` is None."""
    return lambda net, optimizer: setattr(optimizer if place is None else net.layers[place], name, value)


class Falling(schedules.Schedule):
    """Falls with every epoch that it sees."""

    def start(self) -> None:
        self.seen = 0

    def observe(self, value) -> None:
        self.seen += 1

    def factor(self, step, n_steps, epoch) -> float:
        return 0.1**self.seen


def replaced(net, optimizer) -> None:
    """Give the optimiser other arrays of state."""
    optimizer.state = [3.0 * each for each in optimizer.state]


CHANGES = {
    "p": (setting(2, "p", 0.0), optimizers.Adam),
    "activation": (setting(0, "activation", "relu"), optimizers.Adam),
    "eps of batch norm": (setting(1, "eps", 0.5), optimizers.Adam),
    "momentum of batch norm": (setting(1, "momentum", 0.9), optimizers.Adam),
    "eps of layer norm": (setting(3, "eps", 0.5), optimizers.Adam),
    "clip_norm": (setting(None, "clip_norm", 0.01), optimizers.Adam),
    "no clip_norm": (setting(None, "clip_norm", None), lambda: optimizers.SGD(lr=0.1, clip_norm=0.01)),
    "clip_value": (setting(None, "clip_value", 0.001), lambda: optimizers.SGD(lr=0.1)),
    "weight_decay": (setting(None, "weight_decay", 5.0), optimizers.AdamW),
    "l1": (setting(None, "l1", 0.1), optimizers.Adam),
    "l2": (setting(None, "l2", 0.1), optimizers.Adam),
    "lr": (setting(None, "lr", 0.1), optimizers.Adam),
    "momentum": (setting(None, "momentum", 0.1), lambda: optimizers.Momentum(lr=0.1)),
    "beta1": (setting(None, "beta1", 0.1), optimizers.Adam),
    "eps": (setting(None, "eps", 0.1), optimizers.Adam),
    "schedule": (setting(None, "schedule", "cosine"), optimizers.Adam),
    "schedule object": (lambda _, optimizer: setattr(optimizer, "schedule", Falling()), optimizers.Adam),
    "steps": (setting(None, "steps", 100), optimizers.Adam),
    "state": (replaced, optimizers.Adam),
    "forget": (lambda _, optimizer: optimizer.forget(), optimizers.Adam),
    "loss": (lambda net, _: setattr(net, "loss", losses.CrossEntropy(label_smoothing=0.3)), optimizers.Adam),
    "other loss": (lambda net, _: setattr(net, "loss", "focal"), optimizers.Adam),
    "weights": (lambda net, _: net.layers[0].value("w").fill(0.1), optimizers.Adam),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_callback_changes_the_epochs_that_follow(name) -> None:
    change, optimizer = CHANGES[name]
    curve, statistics = train(change, optimizer)
    unchanged, others = train(lambda *_: None, optimizer)
    assert curve[0] == unchanged[0]
    assert (curve[2:], statistics) != (unchanged[2:], others)


def test_the_plan_goes_and_comes_back() -> None:
    target = np.eye(C)[Y]
    declined = []

    def change(net, optimizer) -> None:
        declined.append(net.plan_declined)
        net.loss = lambda y, t: (((y - t) ** 2).mean(), 2 * (y - t) / y.size)

    def back(run) -> None:
        declined.append(run.net.plan_declined)
        if run.epoch == 1:
            run.net.loss = "squared_error"

    net = make(loss="squared_error")
    change_once = lambda run: change(run.net, None) if run.epoch == 0 else None  # noqa: E731
    net.fit(X, target, epochs=3, callbacks=[change_once, back], progress=False)
    assert declined[0] == declined[1] == ""
    assert "custom" in declined[2]
    assert declined[3] == ""


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_a_loss_of_other_targets_is_refused_and_reads_no_others_memory(mode) -> None:
    with using_fused(mode):
        for loss in ("squared_error", losses.CrossEntropy(class_weight=(1.0, 2.0))):
            net = make()
            with pytest.raises((TypeError, ValueError), match=r"target has dtype int64|class_weight has shape \(2,\)"):
                net.fit(X, Y, batch_size=16, callbacks=[lambda run, to=loss: setattr(run.net, "loss", to)])


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize(
    "state", [[], [np.zeros(3)] * 2, [np.zeros(0)] * 2, [np.zeros(3, np.float32)] * 2, [None, None], ["a", 1]]
)
def test_a_state_that_does_not_fit_is_refused(state, mode) -> None:
    optimizer = optimizers.Adam()

    def swap(run) -> None:
        optimizer.state = state

    with using_fused(mode), pytest.raises(ValueError, match=r"optimizer.state: expected 2 arrays of shape"):
        make().fit(X, Y, callbacks=[swap], optimizer=optimizer, progress=False)
    net, optimizer = make(), optimizers.Adam()
    net.fit(X, Y, epochs=1, optimizer=optimizer, progress=False)
    before, optimizer.state = net.parameters.copy(), state
    with using_fused(mode), pytest.raises(ValueError, match=r"optimizer.state: expected"):
        net.fit(X, Y, epochs=1, optimizer=optimizer, progress=False)
    np.testing.assert_array_equal(net.parameters, before)


def test_a_setting_that_diverges_at_once_leaves_the_weights_of_before_the_last_step() -> None:
    """The step before may be to blame, though other steps are taken since."""
    found = []
    for change in (False, True):
        for mode in ("auto", "off"):
            net = mlpx.MLP([N_IN, 1], output="linear", dtype="float64", seed=1)
            optimizer = optimizers.SGD(lr=1e80)

            def later(run, change=change, optimizer=optimizer) -> None:
                optimizer.weight_decay = 1e-300 if change else optimizer.weight_decay

            with using_fused(mode), pytest.raises(mlpx.DivergenceError):
                net.fit(X, X[:, 0], batch_size=N, optimizer=optimizer, callbacks=[later], progress=False)
            found.append(net.parameters.copy())
    for each in found[1:]:
        np.testing.assert_allclose(each, found[0], rtol=1e-6)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_minimisers_see_changes_too(mode) -> None:
    net = mlpx.MLP([N_IN, 6, C], "tanh", dtype="float64", seed=1)
    change = lambda run: setattr(run.net.layers[0], "activation", "relu")  # noqa: E731
    with using_fused(mode):
        history = net.fit(X, Y, epochs=1, optimizer="lbfgs", callbacks=[change], progress=False)
        history = net.fit(X, Y, epochs=5, optimizer="scaled_conjugate_gradient", progress=False)
        assert net.loss_and_grad(X, Y)[0] == pytest.approx(history.loss[-1], rel=1e-9)


# --- predictions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "name", "value"), [(0, "activation", "relu"), (1, "eps", 0.5), (3, "eps", 0.5)])
def test_predictions_go_by_the_settings_of_now(place, name, value) -> None:
    net = make()
    before = net.predict(X)
    setattr(net.layers[place], name, value)
    after = net.predict(X)
    with using_fused("off"):
        np.testing.assert_allclose(after, net.predict(X), rtol=1e-9)
    assert not np.allclose(before, after)
    np.testing.assert_allclose(net.evaluate(X, Y).loss, net.loss_and_grad(X, Y)[0], rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "place", "name"),
    [
        (lambda: [layers.Dense(N_IN, 5), layers.Dense(5, C)], 0, "n_out"),
        (lambda: [layers.Dense(N_IN, 5), layers.Dense(5, C)], 1, "n_out"),
        (lambda: [layers.Dense(N_IN, 5), layers.Dense(5, C)], 1, "n_in"),
        (lambda: [layers.BatchNorm(N_IN), layers.Dense(N_IN, C)], 0, "n"),
    ],
)
def test_sizes_that_are_set_later_read_no_others_memory(make, place, name) -> None:
    net = mlpx.Sequential(*make(), dtype="float64", seed=1)
    before = net.predict(X)
    setattr(net.layers[place], name, 10**7)
    np.testing.assert_allclose(net.predict(X), before, rtol=1e-9)
    net.fit(X, np.eye(C)[Y], epochs=1, progress=False)
    if name == "n_out":
        assert "another size than its weights" in net.plan_declined


@pytest.mark.parametrize("value", [10**7, -1])
@pytest.mark.parametrize("mode", ["auto", "off"])
def test_labels_are_those_that_were_checked(mode, value) -> None:
    net, twin, y = make(), make(), Y.copy()
    with using_fused(mode):
        history = net.fit(X, y, epochs=3, callbacks=[lambda run: y.fill(value)], progress=False)
        expected = twin.fit(X, Y, epochs=3, progress=False)
    assert history.loss == expected.loss
    assert (y == value).all()


def test_an_unknown_activation_is_named() -> None:
    net = make()
    net.layers[0].activation = "rleu"
    with pytest.raises(ValueError, match=r"rleu.*Did you mean"):
        net.predict(X)


# --- what cannot be set -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("dtype", "float64", "astype"),
        ("backend", None, "net.to"),
        ("layers", (), "new network"),
        ("n_in", 3, "new network"),
        ("n_out", 3, "new network"),
        ("buffers", None, "net.parameters"),
    ],
)
def test_what_buffers_were_made_for_cannot_be_set(name, value, hint) -> None:
    net = mlpx.MLP([N_IN, 5, C])
    before = net.predict(X[:1])
    with pytest.raises(AttributeError, match=rf"^{name}: cannot be set.*{hint}"):
        setattr(net, name, value)
    np.testing.assert_array_equal(net.predict(X[:1]), before)
    net.fit(X, Y, epochs=1, progress=False)
