"""The fifth problem: the same dense layer at every time step, in one product, with padding that costs nothing."""

import numpy as np
import pytest
from cases_kit import normal

import mlpx
from mlpx import ops
from mlpx.layers import Activation, Context, Dense, Dropout, Softmax, TimeDistributed, dense
from mlpx.ops._dense import rows
from mlpx.ops.dispatch import using_fused


class Spy:
    """Stands in for `mlpx.ops` in the dense layer and notes the shape of every input of `ops.dense`."""

    def __init__(self) -> None:
        self.shapes = []

    def __getattr__(self, name):
        return getattr(ops, name)

    def dense(self, x, *args, **params):
        self.shapes.append(x.shape)
        return ops.dense(x, *args, **params)


@pytest.fixture
def spy(monkeypatch):
    watcher = Spy()
    monkeypatch.setattr(dense, "ops", watcher)
    return watcher


def layer(bias=True):
    inner = Dense(3, 2, "tanh", bias=bias, bias_init=mlpx.Uniform(-1, 1))
    return inner, TimeDistributed(inner).initialize(seed=1, dtype="float64")


def padding(n, steps):
    """Return flags of sequences of lengths from 0 to steps."""
    return np.arange(steps) < (np.arange(n) % (steps + 1))[:, None]


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lead", [(1, 1), (5, 1), (1, 7), (4, 6), (2, 3, 4), (2, 1, 3, 2), (0, 5), (5, 0)])
def test_any_leading_axes_equal_a_loop(lead, bias, mode) -> None:
    inner, over_time = layer(bias)
    x, dy = normal("x", *lead, 3), normal("dy", *lead, 2)
    with using_fused(mode):
        y, backprop = over_time.forward(x)
        dx = backprop(dy)
    assert y.shape == (*lead, 2)
    assert dx.shape == x.shape
    dw = np.zeros((2, 3))
    w, b = inner.value("w"), inner.value("b") if bias else np.zeros(2)
    for place in np.ndindex(*lead):
        expected = np.tanh(w @ x[place] + b)
        np.testing.assert_allclose(y[place], expected, atol=1e-14)
        delta = (1 - expected**2) * dy[place]
        np.testing.assert_allclose(dx[place], w.T @ delta, atol=1e-14)
        dw += np.outer(delta, x[place])
    np.testing.assert_allclose(inner.parameters["w"].grad, dw, atol=1e-13)


def test_one_product_for_all_steps(spy) -> None:
    _, over_time = layer()
    over_time.forward(normal("x", 4, 6, 3))
    assert spy.shapes == [(24, 3)]
    spy.shapes.clear()
    over_time.forward(normal("x", 2, 3, 5, 3))
    assert spy.shapes == [(30, 3)]


def test_padded_steps_never_reach_the_product(spy) -> None:
    _, over_time = layer()
    valid = padding(8, 6)
    over_time.forward(normal("x", 8, 6, 3), Context(valid=valid))
    assert spy.shapes == [(int(valid.sum()), 3)]


def test_a_fit_of_padded_sequences_costs_its_real_steps(spy) -> None:
    valid = padding(14, 6)
    net = mlpx.Sequential(TimeDistributed(Dense(3, 8, "relu"), Dense(8, 2)), Softmax())
    y = (normal("x", 14, 6, 3)[..., 0] > 0).astype(int)
    net.fit(normal("x", 14, 6, 3), y, valid=valid, epochs=2, batch_size=5, progress=False)
    assert sum(shape[0] for shape in spy.shapes) == 2 * 2 * valid.sum()  # two layers, two epochs
    assert len(spy.shapes) == 2 * 2 * 3


def test_batch_and_time_collapse_without_a_copy(spy) -> None:
    seen = []
    original = spy.dense
    spy.dense = lambda x, *args, **params: (seen.append(x), original(x, *args, **params))[1]
    x = normal("x", 4, 6, 3)
    _, over_time = layer()
    over_time.forward(x)
    assert np.shares_memory(seen[0], x)
    assert np.shares_memory(rows(x, np), x)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("junk", [np.nan, np.inf, 1e300])
def test_what_stands_in_the_padding_is_never_looked_at(junk, mode) -> None:
    inner, over_time = layer()
    valid = padding(8, 6)
    x, dy = normal("x", 8, 6, 3), normal("dy", 8, 6, 2)
    results = []
    for filling in (0.0, junk):
        filled, filled_dy = (np.where(valid[..., None], a, filling) for a in (x, dy))
        with using_fused(mode):
            y, backprop = over_time.forward(filled, Context(valid=valid))
            dx = backprop(filled_dy)
        results.append((y, dx, inner.parameters["w"].grad.copy(), inner.parameters["b"].grad.copy()))
    for clean, dirty in zip(*results, strict=True):
        np.testing.assert_array_equal(clean, dirty)
        assert np.isfinite(dirty).all()
    y, dx, *_ = results[1]
    assert not y[~valid].any()
    assert not dx[~valid].any()


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_padding_in_loss_fit_and_predict(mode) -> None:
    valid = padding(21, 6)
    x = normal("x", 21, 6, 3)
    y = (x[..., 0] > 0).astype(int)

    def network():
        inside = TimeDistributed(Dense(3, 8, "tanh"), Dense(8, 2))
        return mlpx.Sequential(inside, Softmax(), dtype="float64", seed=2)

    dirty = np.where(valid[..., None], x, np.nan)
    trained = []
    with using_fused(mode):
        for data in (np.where(valid[..., None], x, 0.0), dirty):
            net = network()
            history = net.fit(data, y, valid=valid, epochs=30, batch_size=7, progress=False, validation=0.2)
            assert np.isfinite(history.loss).all()
            trained.append(net)
        np.testing.assert_array_equal(trained[0].parameters, trained[1].parameters)
        flat = network()  # the real steps as rows of an ordinary batch
        loss = network().loss_and_grad(dirty, y, valid=valid)[0]
        assert loss == pytest.approx(flat.loss_and_grad(x[valid], y[valid])[0], rel=1e-13)
        out = trained[1].predict(dirty, valid=valid)
        np.testing.assert_allclose(out[valid], trained[1].predict(x[valid]), atol=1e-14)
    assert np.isfinite(out).all()


JUNK = {
    "class numbers": (Softmax, lambda x: (x[..., 0] > 0).astype(int), [-1, 99]),
    "probabilities": (Softmax, lambda x: np.stack([x[..., 0] > 0, x[..., 0] <= 0], axis=-1) * 1.0, [-1.0, np.nan]),
    "yes and no": (lambda: Activation("sigmoid"), lambda x: (x[..., :2] > 0) * 1.0, [-7.0, np.nan, np.inf]),
    "counts": (lambda: Activation("exp"), lambda x: np.abs(x[..., :2]).round(), [-7.0, np.nan]),
    "numbers": (lambda: Activation("identity"), lambda x: x[..., :2], [np.nan, 1e300]),
}


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("kind", JUNK)
def test_targets_of_padded_steps_may_be_anything(kind, mode) -> None:
    head, target, values = JUNK[kind]
    valid, x = padding(14, 6), normal("x", 14, 6, 3)
    results = []
    for value in (None, *values):
        y = target(x)
        if value is not None:
            y[~valid] = value
        net = mlpx.Sequential(TimeDistributed(Dense(3, 2)), head(), seed=1)
        with using_fused(mode):
            history = net.fit(x, y.tolist() if value == -1 else y, valid=valid, epochs=3, batch_size=5, progress=False)
            loss = net.loss_and_grad(x, y, valid=valid)[0]
        results.append([*history.loss, loss, *net.parameters])
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    assert np.isfinite(results[0]).all()


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_padded_steps_predict_zeros(mode) -> None:
    valid, x = padding(14, 6), normal("x", 14, 6, 3)
    for layers in (
        (TimeDistributed(Dense(3, 2)),),
        (TimeDistributed(Dense(3, 2)), Softmax()),
        (Dense(3, 4, "relu"), TimeDistributed(Dense(4, 2)), Dense(2, 2, bias_init="ones")),
    ):
        with using_fused(mode):
            y = mlpx.Sequential(*layers, seed=1).predict(x, valid=valid)
        assert not y[~valid].any()
        assert (y[valid] != 0).all()


def test_variable_n_and_steps_with_one_network() -> None:
    net = mlpx.Sequential(TimeDistributed(Dense(3, 4, "relu")), Dropout(0.2, shared_axes=(1,)), Dense(4, 2), Softmax())
    for n, steps in ((4, 6), (1, 6), (9, 1), (2, 11)):
        x = normal("x", n, steps, 3)
        net.fit(x, np.zeros((n, steps), int), epochs=1, progress=False)
        assert net.predict(x).shape == (n, steps, 2)
    assert net.predict(np.zeros((0, 6, 3))).shape == (0, 6, 2)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_dropout_is_constant_along_time(mode) -> None:
    drop = Dropout(0.5, shared_axes=(1,))
    with using_fused(mode):
        y, backprop = drop.forward(np.ones((40, 7, 5)), Context(training=True, seed=3, step=1))
        dx = backprop(np.ones((40, 7, 5)))
        other = drop.forward(np.ones((40, 7, 5)), Context(training=True, seed=3, step=2))[0]
    assert (y == y[:, :1]).all()
    np.testing.assert_array_equal(dx, y)
    assert set(np.unique(y)) == {0.0, 2.0}
    assert 0.35 < (y[:, 0] == 0).mean() < 0.65
    assert (y[:, 0] != other[:, 0]).any()
    assert (y[0] != y[1:]).any()


def test_dropout_beside_padded_sequences_trains_and_has_right_gradients() -> None:
    valid = padding(8, 6)
    x = np.where(valid[..., None], normal("x", 8, 6, 3), 0.0)
    net = mlpx.Sequential(
        TimeDistributed(Dense(3, 4, "tanh")),
        Dropout(0.3, shared_axes=(1,)),
        TimeDistributed(Dense(4, 2)),
        Softmax(),
        dtype="float64",
    )
    y = (x[..., 1] > 0).astype(int)
    mlpx.check_gradients(net, x, y, valid=valid, training=True, step=4, tol=1e-7)


@pytest.mark.parametrize(
    ("valid", "words"),
    [
        (np.ones((8, 5), bool), r"valid: has shape \(8, 5\); expected \(8, 6\)"),
        (np.ones(8, bool), r"valid: has shape \(8,\); expected \(8, 6\)"),
        (np.full((8, 6), 2), "valid: holds values other than 0 and 1"),
        (np.zeros((8, 6), bool), "valid|sample_weight"),
    ],
)
def test_valid_that_cannot_be(valid, words) -> None:
    net = mlpx.Sequential(TimeDistributed(Dense(3, 2)), Softmax())
    with pytest.raises(ValueError, match=words):
        net.fit(normal("x", 8, 6, 3), np.zeros((8, 6), int), valid=valid, progress=False)
