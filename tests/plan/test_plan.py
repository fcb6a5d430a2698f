"""The plan against the layer-by-layer path: same seed, same steps, same weights within rounding."""

import numpy as np
import pytest
from training_kit import cut_calls

import mlpx
from mlpx import layers, losses, optimizers
from mlpx.layers import Activation, BatchNorm, Dense, Dropout, LayerNorm, MaskedSoftmax, Softmax
from mlpx.ops import ACTIVATIONS
from mlpx.ops.dispatch import using_fused
from mlpx.steps.cpu import WORTH_THREADS

pytestmark = pytest.mark.usefixtures("many_cores")

N, N_IN, C = 150, 7, 5
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, N_IN))
LABELS = RNG.integers(0, C, N)
WEIGHT = RNG.random(N) * (RNG.random(N) > 0.1)
MASK = RNG.random((N, C)) > 0.4
MASK[np.arange(N), LABELS] = True
MASK[::17] = False


def check_same(make, x, y, *, optimizer="adam", epochs=2, batch_size=32, tol=1e-9, **fit) -> None:
    """Train twice from the same start, by the plan and layer by layer; raise unless curves and weights agree."""
    nets, curves = [], []
    for mode in ("auto", "off"):
        net = make()
        chosen = optimizer() if callable(optimizer) else optimizer
        with using_fused(mode):
            history = net.fit(x, y, epochs=epochs, batch_size=batch_size, optimizer=chosen, progress=False, **fit)
        nets.append(net)
        curves.append(history.loss)
    assert nets[0].plan_declined == ""
    assert "switched off" in nets[1].plan_declined
    np.testing.assert_allclose(curves[0], curves[1], rtol=tol, atol=tol)
    size = np.abs(nets[1].parameters).max()
    np.testing.assert_allclose(nets[0].parameters, nets[1].parameters, rtol=tol, atol=tol * size)
    np.testing.assert_allclose(nets[0].buffers.statistics, nets[1].buffers.statistics, rtol=tol, atol=tol)


def small(*hidden, dtype="float64", **options):
    return lambda: mlpx.MLP([N_IN, *hidden, C], dtype=dtype, seed=3, **options)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation) -> None:
    check_same(small(9, 6, activation=activation), 0.5 * X, LABELS)


@pytest.mark.parametrize("depth", range(9))
def test_depths(depth) -> None:
    check_same(small(*[6] * depth, activation="tanh"), X, LABELS)


@pytest.mark.parametrize("batch_size", [1, 7, 149, 150])
def test_batch_sizes(batch_size) -> None:
    check_same(small(8), X, LABELS, batch_size=batch_size, epochs=1)


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_norms_and_dropout(norm, dropout) -> None:
    check_same(small(16, 11, norm=norm, dropout=dropout), X, LABELS, tol=1e-7, seed=2**63 + 5)


def test_odd_orders_of_layers() -> None:
    def make():
        return mlpx.Sequential(
            Dropout(0.2),
            LayerNorm(N_IN),
            Activation("gelu"),
            Dense(N_IN, 6, "mish"),
            Dense(6, 6, bias=False),
            BatchNorm(6),
            Activation("silu"),
            Dropout(0.1),
            Dense(6, C, lr_factor=0.5),
            Softmax(),
            dtype="float64",
        )

    check_same(make, X, LABELS, tol=1e-7)


def test_a_softmax_that_no_loss_is_fused_with() -> None:
    def make():
        return mlpx.Sequential(Dense(N_IN, 6), Softmax(), Dense(6, C), Softmax(), loss="squared_error", dtype="float64")

    check_same(make, X, np.eye(C)[LABELS])


def test_every_layer_can_be_described_and_taken_back() -> None:
    """A layer kind that describes itself needs its pieces, or a reason to run layer by layer."""
    from mlpx_kernels.cpu.plan import layer_pieces

    assert set(layer_pieces.FORWARDS) - set(layer_pieces.BACKWARDS) == {"masked_softmax"}
    net = mlpx.Sequential(Dense(N_IN, C), MaskedSoftmax(), loss="squared_error")
    net.fit(X, np.eye(C)[LABELS], mask=MASK, epochs=1, progress=False)
    assert "masked softmax" in net.plan_declined


OPTIMIZERS = [
    *(lambda kind=kind: kind(lr=0.01) for kind in optimizers.OPTIMIZERS.values()),
    lambda: optimizers.Adam(lr=0.02, l1=1e-3, l2=1e-2, clip_norm=0.05, clip_value=0.02, weight_decay=0.1),
    lambda: optimizers.SGD(lr=0.1, schedule="cosine", clip_norm=0.1),
    lambda: optimizers.AdamW(schedule=mlpx.schedules.WarmUp(3)),
    lambda: optimizers.Momentum(lr=0.05, schedule="reduce_on_plateau", momentum=0.5),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers(optimizer) -> None:
    check_same(small(8, 8, activation="tanh"), X, LABELS, optimizer=optimizer, tol=1e-8)


LOSSES = {
    "weights": (losses.CrossEntropy(), LABELS, {"sample_weight": WEIGHT}),
    "classes": (losses.CrossEntropy(class_weight=(0.5, 1, 2, 3, 0)), LABELS, {"sample_weight": WEIGHT}),
    "smoothing": (losses.CrossEntropy(label_smoothing=0.2), LABELS, {}),
    "dense": (losses.CrossEntropy(label_smoothing=0.1), RNG.dirichlet(np.ones(C), N), {}),
    "binary": (losses.BinaryCrossEntropy(0.1, (1, 2, 3, 4, 5)), (RNG.random((N, C)) > 0.5), {"sample_weight": WEIGHT}),
    "squared": (losses.SquaredError(), RNG.standard_normal((N, C)), {"sample_weight": WEIGHT}),
    "absolute": (losses.AbsoluteError(), RNG.standard_normal((N, C)), {}),
    "huber": (losses.Huber(0.3), RNG.standard_normal((N, C)), {}),
    "quantile": (losses.Quantile((0.1, 0.3, 0.5, 0.7, 0.9)), RNG.standard_normal(N), {}),
    "poisson": (losses.Poisson(), RNG.poisson(2.0, (N, C)), {}),
    "gamma": (losses.Gamma(), np.exp(RNG.standard_normal((N, C))), {"sample_weight": WEIGHT}),
    "hinge": (losses.Hinge(), RNG.random((N, C)) > 0.5, {}),
    "binary focal": (losses.BinaryFocal(1.5), RNG.random((N, C)) > 0.5, {"sample_weight": WEIGHT}),
    "focal": (losses.Focal(1.5), LABELS, {"sample_weight": WEIGHT}),
    "dense focal": (losses.Focal(), RNG.dirichlet(np.ones(C), N), {}),
    "dense classes": (losses.CrossEntropy(class_weight=(0.5, 1, 2, 3, 0)), RNG.dirichlet(np.ones(C), N), {}),
}
HEADS = {"binary": "sigmoid", "binary focal": "sigmoid", "poisson": "exp", "gamma": "exp", "absolute": "sigmoid"}


@pytest.fixture(params=[1, 2, 10**6], ids=["calls of a step", "of two", "of epochs"])
def calls(monkeypatch, request) -> None:
    """Cut an epoch of five steps into calls."""
    cut_calls(monkeypatch, lambda: request.param)


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name) -> None:
    loss, y, fit = LOSSES[name]
    output = HEADS.get(name, "softmax" if isinstance(loss, losses.ClassLoss) else "linear")
    check_same(small(8, activation="tanh", output=output, loss=loss), X, y, **fit)


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("loss", [losses.CrossEntropy(), losses.CrossEntropy(label_smoothing=0.2), losses.Focal()])
def test_masks(loss) -> None:
    check_same(small(8, output="masked_softmax", loss=loss), X, LABELS, mask=MASK, sample_weight=WEIGHT)


def test_float32() -> None:
    check_same(small(16, dtype="float32"), X, LABELS, tol=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "rprop", "momentum"])
@pytest.mark.parametrize(("weight", "bias"), [(1.0, 0.1), (2.0, 0.0), (0.0, 1.0)])
def test_learning_rate_factors(optimizer, weight, bias) -> None:
    def make():
        first = Dense(N_IN, 8, "tanh", lr_factor=weight, bias_lr_factor=bias)
        return mlpx.Sequential(first, Dense(8, C), Softmax(), dtype="float64", seed=4)

    check_same(make, X, LABELS, optimizer=optimizer)


def test_frozen_layers_stay_and_the_rest_learns() -> None:
    def make():
        frozen = Dense(N_IN, 8, "tanh", lr_factor=0.0)
        return mlpx.Sequential(frozen, Dense(8, C), Softmax(), dtype="float64")

    check_same(make, X, LABELS)
    check_same(make, X, LABELS, optimizer=lambda: optimizers.SGD(lr=0.1, clip_norm=0.01))


def big(seed=1):
    return mlpx.MLP([64, 256, 192, 10], dropout=0.1, norm="layer", seed=seed)


BIG_X = RNG.standard_normal((700, 64)).astype("f")
BIG_Y = RNG.integers(0, 10, 700)


def train_big(**fit):
    net = big()
    net.fit(BIG_X, BIG_Y, epochs=2, batch_size=256, progress=False, **fit)
    assert net.plan_declined == ""
    return net.parameters.copy()


def test_threads_agree() -> None:
    assert WORTH_THREADS < 6 * 256 * (64 * 256 + 256 * 192 + 1920)
    one, two = train_big(n_threads=1), train_big(n_threads=2)
    np.testing.assert_allclose(one, two, atol=2e-4)


@pytest.mark.parametrize("n_threads", [2, 3, 8])
def test_deterministic_fits_are_bit_identical(n_threads) -> None:
    optimizer = {"optimizer": optimizers.Adam(clip_norm=0.5)}
    one = train_big(n_threads=1, deterministic=True, **optimizer)
    many = train_big(n_threads=n_threads, deterministic=True, **optimizer)
    assert np.array_equal(one, many)


def test_repeated_fits_are_bit_identical() -> None:
    assert np.array_equal(train_big(n_threads=2), train_big(n_threads=2))


def test_divergence_is_the_same_story_on_both_paths() -> None:
    stories = []
    for mode in ("auto", "off"):
        net = mlpx.MLP([N_IN, 6, 1], output="linear", dtype="float64", seed=1)
        with using_fused(mode), pytest.raises(mlpx.DivergenceError) as caught:
            net.fit(X, X[:, 0], epochs=50, batch_size=50, optimizer=optimizers.SGD(lr=50.0), progress=False)
        stories.append((caught.value.step, caught.value.layer, net.parameters.copy()))
        assert np.isfinite(net.parameters).all()
        assert np.isfinite(net.loss_and_grad(X, X[:, 0])[0])
    assert stories[0][:2] == stories[1][:2]
    np.testing.assert_allclose(stories[0][2], stories[1][2], rtol=1e-6)


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("optimizer", [optimizers.Adam, optimizers.SGD, optimizers.Rprop])
@pytest.mark.parametrize("inside", [[Activation("tanh"), Softmax()], [Dropout(0.2)], [Softmax()]])
def test_a_network_without_parameters_has_losses(inside, optimizer, clip_norm) -> None:
    curves = []
    for mode in ("auto", "off"):
        net = mlpx.Sequential(*[type(layer)(**layer.config()) for layer in inside], dtype="float64")
        with using_fused(mode):
            chosen = optimizer(clip_norm=clip_norm)
            history = net.fit(X, np.eye(N_IN)[LABELS], epochs=2, optimizer=chosen, progress=False)
        curves.append(history.loss)
        assert net.parameters.shape == (0,)
        assert net.predict(X).shape == X.shape
    np.testing.assert_allclose(*curves, rtol=1e-12)


def test_what_cannot_be_planned_says_why_and_still_runs() -> None:
    x = RNG.standard_normal((20, 3, N_IN))
    net = mlpx.Sequential(layers.TimeDistributed(Dense(N_IN, C)), Softmax())
    net.fit(x, RNG.integers(0, C, (20, 3)), epochs=1, progress=False)
    assert "sequences" in net.plan_declined
    net = mlpx.Sequential(Dense(N_IN, C), loss=lambda y, t: (((y - t) ** 2).mean(), 2 * (y - t) / y.size))
    net.fit(X, RNG.standard_normal((N, C)), epochs=1, progress=False)
    assert "custom" in net.plan_declined


@pytest.mark.parametrize("n", [0, 1, 2, 7, 33, 1000])
@pytest.mark.parametrize("output", ["softmax", "sigmoid", "linear", "exp", "masked_softmax"])
@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_predictions(n, output, norm) -> None:
    net = mlpx.MLP([N_IN, 9, 8, C], "gelu", output, norm=norm, dropout=0.2, seed=2)
    x = np.random.default_rng(n).standard_normal((n, N_IN))
    mask = np.random.default_rng(n).random((n, C)) > 0.5 if output == "masked_softmax" else None
    planned = net.predict(x, mask)
    with using_fused("off"):
        plain = net.predict(x, mask)
    assert net.predictor() is not None
    assert planned.dtype == plain.dtype
    assert planned.shape == plain.shape == (n, C)
    np.testing.assert_allclose(planned, plain, atol=2e-6, rtol=2e-5)


def test_predictions_follow_the_weights() -> None:
    net = mlpx.MLP([N_IN, 6, C], seed=2)
    before = net.predict(X)
    net.parameters[...] *= 2.0
    assert np.abs(net.predict(X) - before).max() > 0.01


def test_masked_softmax_inside_a_network_is_planned_for_prediction_only_at_its_end() -> None:
    net = mlpx.Sequential(Dense(N_IN, C), MaskedSoftmax())
    mask = np.random.default_rng(1).random((N, C)) > 0.5
    y = net.predict(X, mask)
    assert (y[~mask] == 0).all()


def test_copies_and_pickles_keep_one_buffer() -> None:
    import copy
    import pickle

    net = mlpx.MLP([N_IN, 6, C], norm="batch", seed=2)
    net.fit(X, LABELS, epochs=1, progress=False)
    before = net.predict(X)
    for twin in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net)), net.copy()):
        assert np.array_equal(twin.predict(X), before)
        twin.parameters[...] = 0.0
        assert np.ptp(twin.predict(X)) < 1e-6
    assert np.array_equal(net.predict(X), before)
