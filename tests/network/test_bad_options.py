"""Options that cannot be: names, sizes and numbers, each refused with the argument's name and what is accepted."""

import math

import numpy as np
import pytest
from refusing import N_IN, C, N, T, X, Y, network, refused

import mlpx
from mlpx import layers, losses, optimizers, schedules
from mlpx.layers import Dense
from mlpx.ops.dispatch import using_fused
from mlpx.optimizers import full_batch

OPTIONS = [
    (lambda: optimizers.Optimizer(lr=0.1), TypeError, "Optimizer: is what all optimisers share"),
    (lambda: Dense(-1, 3), ValueError, r"n_in: expected a whole number of at least 1, got -1"),
    (lambda: Dense(3, 0), ValueError, r"n_out: .*got 0"),
    (lambda: Dense(3.0, 2), TypeError, r"n_in: expected a whole number, got 3.0"),
    (lambda: Dense(True, 2), TypeError, r"n_in: .*got True"),
    (lambda: mlpx.MLP([4, -5, 3]), ValueError, r"sizes\[1\]: .*got -5"),
    (lambda: mlpx.MLP([4]), ValueError, r"sizes: expected at least two widths"),
    (lambda: mlpx.MLP(4), ValueError, r"sizes: expected at least two widths"),
    (lambda: mlpx.MLP([4, 5, 3], ["relu", "tanh"]), ValueError, r"activation: has 2 names; expected one, or 1"),
    (lambda: mlpx.MLP([4, 5, 3], "rellu"), ValueError, r"unknown name 'rellu'. Did you mean 'relu'\?.*tanh"),
    (lambda: Dense(2, 2, "sigmoit"), ValueError, r"Did you mean 'sigmoid'\?"),
    (lambda: mlpx.Activation("tahn"), ValueError, r"Did you mean 'tanh'\?"),
    (lambda: mlpx.MLP([4, 3], output="softmx"), ValueError, r"output: unknown name 'softmx'. Did you mean 'softmax'\?"),
    (lambda: mlpx.MLP([4, 3], init="he_normall"), ValueError, r"init: .*Did you mean 'he_normal'\?.*glorot_uniform"),
    (lambda: mlpx.MLP([4, 3], bias_init="zero"), ValueError, r"bias_init: .*Did you mean 'zeros'\?"),
    (lambda: mlpx.MLP([4, 3], loss="crossentropy"), ValueError, r"loss: .*Did you mean 'cross_entropy'\?.*huber"),
    (lambda: mlpx.MLP([4, 3], loss="custom"), ValueError, r"loss: unknown name 'custom'"),
    (lambda: mlpx.MLP([4, 3], dtype="float16"), ValueError, r"dtype: unknown name 'float16'.*Known: float32, float64"),
    (lambda: mlpx.MLP([4, 3], norm="bacth"), ValueError, r"norm: .*Did you mean 'batch'\?"),
    (lambda: mlpx.MLP([4, 5, 3], dropout=1.0), ValueError, r"dropout: expected a finite number in \[0, 1\), got 1.0"),
    (lambda: mlpx.Dropout(-0.1), ValueError, r"p: "),
    (lambda: mlpx.BatchNorm(3, momentum=2), ValueError, r"momentum: "),
    (lambda: mlpx.LayerNorm(3, eps=0), ValueError, r"eps: "),
    (lambda: mlpx.Uniform(1, 0), ValueError, r"high: "),
    (lambda: mlpx.Sequential(), TypeError, r"layers: expected one or more layers"),
    (lambda: mlpx.Sequential("dense"), TypeError, r"layers: expected one or more layers"),
    (lambda: mlpx.Sequential(*[Dense(3, 3)] * 2), ValueError, r"layers: the same layer object stands in two places"),
    (lambda: mlpx.Sequential(Dense(3, 4), Dense(5, 2)), ValueError, r"layers\[1\] Dense: x has 4 features.*expected 5"),
    (lambda: mlpx.TimeDistributed(), TypeError, r"TimeDistributed: expected one or more layers"),
    (lambda: schedules.find("cosinus"), ValueError, r"schedule: .*Did you mean 'cosine'\?.*warm_up"),
    (lambda: optimizers.Adam(schedule="cosin"), ValueError, r"schedule: .*'cosine'"),
    (lambda: optimizers.Adam(lr=0), ValueError, r"lr: expected a finite number in \(0, inf\]"),
    (lambda: optimizers.Adam(lr="0.1"), TypeError, r"lr: expected a number, got '0.1'"),
    (lambda: optimizers.Adam(beta1=1.0), ValueError, r"beta1: "),
    (lambda: optimizers.SGD(l2=-1), ValueError, r"l2: "),
    (lambda: optimizers.SGD(clip_norm=0), ValueError, r"clip_norm: "),
    (lambda: optimizers.SGD(clip_value=np.nan), ValueError, r"clip_value: "),
    (lambda: full_batch.LBFGS(tol=-1), ValueError, r"tol: "),
    (lambda: losses.Huber(0), ValueError, r"delta: "),
    (lambda: losses.Quantile((0.5, 1.0)), ValueError, r"q: "),
    (lambda: losses.Focal(-1.0), ValueError, r"focus: "),
    (lambda: losses.BinaryFocal("hard"), TypeError, r"focus: "),
    (lambda: losses.CrossEntropy(label_smoothing=2), ValueError, r"label_smoothing: "),
    (lambda: losses.CrossEntropy(class_weight=(1, -1, 1)), ValueError, r"class_weight: "),
    (lambda: mlpx.EarlyStopping(patience=0), ValueError, r"patience: "),
    (lambda: mlpx.EarlyStopping(monitor="val_loss"), ValueError, r"monitor: .*Did you mean 'validation_loss'\?"),
    (lambda: mlpx.MLP([4, 3], loss=losses.Huber), TypeError, r"loss: .*got the class Huber"),
    (lambda: mlpx.MLP([4, 3], loss=["huber"]), ValueError, r"loss: unknown name \['huber'\]"),
    (lambda: mlpx.MLP([4, 3], init=["ones"]), ValueError, r"init: unknown name \['ones'\]"),
    (lambda: mlpx.MLP([4, 3], norm=["batch"]), ValueError, r"norm: unknown name \['batch'\]"),
    (lambda: mlpx.MLP([4, 3], output=["softmax"]), ValueError, r"output: unknown name \['softmax'\]"),
    (lambda: optimizers.SGD(schedule=["cosine"]), ValueError, r"schedule: unknown name \['cosine'\]"),
    (lambda: network().copy(dtype="double"), ValueError, r"dtype: unknown name 'double'"),
    (lambda: mlpx.MLP(None), ValueError, r"sizes: expected at least two widths, .*got None"),
    (lambda: mlpx.MLP(np.int64(4)), ValueError, r"sizes: expected at least two widths"),
    (lambda: mlpx.MLP("64"), TypeError, r"sizes\[0\]: expected a whole number, got '6'"),
    (lambda: mlpx.MLP([4, 5, 3], None), TypeError, r"activation: expected a name, .*got None"),
    (lambda: mlpx.MLP([4, 3], "rellu"), ValueError, r"activation: .*Did you mean 'relu'\?"),
    (lambda: mlpx.MLP([4, 5, 3], dropout="x"), TypeError, r"dropout: expected a number, got 'x'"),
    (lambda: mlpx.MLP([4, 3], seed=-1), ValueError, r"seed: expected a whole number of at least 0, got -1"),
    (lambda: mlpx.MLP([4, 3], seed=None), TypeError, r"seed: expected a whole number, got None"),
    (lambda: mlpx.MLP([4, 3], seed=1.5), TypeError, r"seed: .*got 1.5"),
    (lambda: mlpx.Sequential([Dense(3, 3)]), TypeError, r"layers: .*Sequential\(\*layers\)"),
    (lambda: setattr(network(), "loss", "squared"), ValueError, r"loss: .*Did you mean 'squared_error'\?"),
    (lambda: optimizers.Adam(lr=np.ones(2)), TypeError, r"lr: expected a number, got array"),
    (lambda: optimizers.Rprop(grow=0.5), ValueError, r"grow: "),
    (lambda: optimizers.Rprop(shrink=0), ValueError, r"shrink: "),
    (lambda: optimizers.Rprop(smallest=5, largest=1), ValueError, r"largest: .*\(5, inf\]"),
    (lambda: optimizers.Rprop(largest=math.nan), ValueError, r"largest: "),
    (lambda: full_batch.LBFGS(memory=0), ValueError, r"memory: "),
    (lambda: full_batch.ScaledConjugateGradient(sigma=-1), ValueError, r"sigma: "),
    (lambda: full_batch.ScaledConjugateGradient(lambda_=0), ValueError, r"lambda_: "),
    (lambda: schedules.WarmUp(3, then="cosin"), ValueError, r"schedule: .*'cosine'"),
    (lambda: losses.Quantile(()), ValueError, r"q: is empty"),
    (lambda: losses.CrossEntropy(class_weight=5), TypeError, r"class_weight: expected one number per output, .*got 5"),
    (lambda: losses.CrossEntropy(class_weight={0: 1.0, 1: 5.0}), TypeError, r"class_weight: .*their order, got \{0: "),
    (lambda: losses.BinaryCrossEntropy(pos_weight={1.0, 2.0}), TypeError, r"pos_weight: .*in their order, got \{1.0, "),
    (lambda: Dense(3, 2, bias="no"), TypeError, r"bias: expected True or False, got 'no' \(str\)"),
    (lambda: mlpx.EarlyStopping(restore_best=1), TypeError, r"restore_best: expected True or False, got 1"),
    (lambda: mlpx.MLP.from_bias_rows([np.ones((5, 3))], norm="batch"), ValueError, r"norm: "),
    (lambda: mlpx.MLP.from_bias_rows([np.full((5, 3), "a")]), TypeError, r"weights\[0\]: .*dtype <U1"),
    (lambda: mlpx.MLP.from_bias_rows(None), TypeError, r"weights: expected one array .* per layer, got None"),
    (lambda: mlpx.MLP({8, 64, 2}), TypeError, r"sizes: expected widths in their order, .*got \{"),
    (lambda: mlpx.MLP({4: 5, 3: 2}), TypeError, r"sizes: expected widths in their order, .*got \{4: 5"),
    (lambda: mlpx.MLP([4, 5, 3], {"relu"}), TypeError, r"activation: expected a name, .*got \{'relu'\}"),
    (lambda: mlpx.MLP([4, 2**62, 3]), ValueError, r"sizes\[1\]: .*at most 2147483647, got 4611686018427387904"),
    (lambda: Dense(2**63, 1), ValueError, r"n_in: .*at most 2147483647"),
    (lambda: mlpx.MLP([2**31 - 1, 2**31 - 1, 3]), MemoryError, r"layers: [\d,]+ weights of float32.*Take smaller"),
    (lambda: mlpx.MLP([4, 3], output=np.array([1, 2])), ValueError, r"output: unknown name array\(\[1, 2\]\)"),
    (lambda: mlpx.MLP([4, 3], init=np.array(["a", "b"])), ValueError, r"init: unknown name array"),
    (lambda: mlpx.MLP([4, 3], dtype=np.array([1, 2])), ValueError, r"dtype: unknown name array"),
    (lambda: mlpx.MLP([4, 3], dtype=np.void(b"a")), ValueError, r"dtype: unknown name np.void"),
    (lambda: network().copy(dtype=np.array([1, 2])), ValueError, r"dtype: unknown name array"),
    (lambda: setattr(network(), "precision", np.array([1, 2])), ValueError, r"precision: unknown name array"),
    (lambda: mlpx.Uniform(-1e308, 1e308), ValueError, r"high: high - low is beyond float64"),
    (lambda: mlpx.MLP([4, 3], init=mlpx.Uniform(0, 1e300)), ValueError, r"init: Uniform.*float32 does not hold"),
    (lambda: losses.CrossEntropy(class_weight=b"abc"), TypeError, r"class_weight: expected one number per output"),
    (lambda: losses.Quantile(b"abc"), TypeError, r"q: expected one number per output"),
    (lambda: losses.Quantile({0.1, 0.9}), TypeError, r"q: expected one number per output, in their order"),
    (lambda: losses.CustomLoss(3), TypeError, r"function: expected one of \(prediction, target\), got 3"),
    (lambda: Dense(3, 2).initialize(dtype="int32"), ValueError, r"dtype: unknown name 'int32'"),
    (lambda: Dense(3, 2).initialize(seed="x"), TypeError, r"seed: expected a whole number, got 'x'"),
    (lambda: Dense(3, 2).initialize().value("weight"), ValueError, r"name: unknown name 'weight'.*Known: b, w"),
    (lambda: mlpx.check_gradients(network(), X, Y, directions=0), ValueError, r"directions: .*at least 1, got 0"),
    (lambda: mlpx.check_gradients(network(), X, Y, tol="x"), TypeError, r"tol: expected a number, got 'x'"),
    (lambda: network().loss_and_grad(X, Y, training="no"), TypeError, r"training: expected True or False, got 'no'"),
    (lambda: network().loss_and_grad(X, Y, step=1.5), TypeError, r"step: expected a whole number, got 1.5"),
    (lambda: network().loss_and_grad(X, Y, step=2**64), ValueError, r"step: .*at most 18446744073709551615"),
    (lambda: network().loss_and_grad(X, Y, seed=None), TypeError, r"seed: expected a whole number, got None"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "words"), OPTIONS, ids=[words for *_, words in OPTIONS])
def test_options_that_cannot_be(make, error, words) -> None:
    with pytest.raises(error, match=words):
        make()


FIT = [
    ({"epochs": -1}, ValueError, "epochs: .*at least 0, got -1"),
    ({"epochs": 1.5}, TypeError, "epochs: expected a whole number, got 1.5"),
    ({"batch_size": 0}, ValueError, "batch_size: .*at least 1, got 0"),
    ({"batch_size": "8"}, TypeError, "batch_size: expected a whole number, got '8'"),
    ({"optimizer": "adm"}, ValueError, r"optimizer: unknown name 'adm'. Did you mean 'adam'\?.*lbfgs"),
    ({"optimizer": optimizers.Adam}, ValueError, "optimizer: unknown name"),
    ({"optimizer": None}, ValueError, "optimizer: unknown name None"),
    ({"validation": 1.0}, ValueError, r"validation: expected a finite number in \(0, 1\)"),
    ({"validation": 0.99}, ValueError, "validation: a share of 0.99 of 12 rows leaves none to train on"),
    ({"validation": (X,)}, ValueError, r"validation: has 1 parts; expected \(x, y\)"),
    ({"validation": (X[:, :2], Y)}, ValueError, r"validation x: has shape \(12, 2\)"),
    ({"validation": (X, Y[:5])}, ValueError, r"validation y: has shape \(5,\)"),
    ({"shuffle": "no"}, TypeError, "shuffle: expected True or False, got 'no'"),
    ({"deterministic": None}, TypeError, "deterministic: expected True or False, got None"),
    ({"validation": "0.2"}, TypeError, "validation: expected a number"),
    (
        {"validation": np.zeros((N, N_IN))},
        TypeError,
        r"validation: .*got an array of shape \(12, 4\)",
    ),
    ({"seed": -1}, ValueError, "seed: .*at least 0"),
    ({"progress": np.array([1, 2])}, ValueError, r"progress: expected True, .*got array\(\[1, 2\]\)"),
    ({"precision": np.array([1, 2])}, ValueError, "precision: unknown name array"),
    ({"callbacks": np.array(0.5)}, TypeError, r"callbacks: .*got array\(0.5\)"),
    ({"validation": 0.5 + 0j}, TypeError, "validation: expected a number"),
    ({"n_threads": 0}, ValueError, "n_threads: "),
    ({"progress": "yes"}, ValueError, "progress: expected True, False or .auto., got 'yes'"),
    ({"optimizer": ["adam"]}, ValueError, r"optimizer: unknown name \['adam'\]"),
    ({"callbacks": mlpx.EarlyStopping()}, TypeError, "callbacks: expected a list of Callback objects or functions"),
    ({"callbacks": [mlpx.EarlyStopping]}, TypeError, "callbacks: expected Callback objects or functions, got <class"),
    ({"callbacks": print}, TypeError, "callbacks: expected a list of"),
    ({"callbacks": [3]}, TypeError, "callbacks: expected Callback objects or functions, got 3"),
    ({"mask": np.ones((N, C), bool)}, ValueError, r"mask: no layer of this network uses one.*masked_softmax"),
    ({"valid": np.ones((N, 1), bool)}, ValueError, r"valid: has shape \(12, 1\); expected \(12,\)"),
]


@pytest.mark.parametrize(("fit", "error", "words"), FIT, ids=[words for *_, words in FIT])
def test_fits_that_cannot_be(fit, error, words) -> None:
    refused(network(norm="batch"), error, words, X, Y, **fit)


def test_layers_without_weights_say_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"Dense: has no weights yet.*layer.initialize"):
        layers.Dense(3, 2).forward(np.ones((1, 3)))


@pytest.mark.parametrize("values", [(0.5,), (0.5, 0.6), (0.5, 0.6, 0.7, 0.8)])
def test_one_value_per_output_in_the_options_of_losses(values) -> None:
    for output, loss, y in (
        ("softmax", losses.CrossEntropy(class_weight=values), Y),
        ("sigmoid", losses.BinaryCrossEntropy(pos_weight=values), np.abs(T) % 1),
        ("linear", losses.Quantile(values), T),
    ):
        words = rf"(class_weight|pos_weight|q): has {len(values)} values; the network has 3 outputs"
        refused(network(output, loss=loss), ValueError, words, X, y)


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "linear", "exp"])
def test_a_mask_that_nothing_would_heed_is_refused(output) -> None:
    mask = np.ones((N, C), bool)
    net = network(output)
    for call in (lambda: net.predict(X, mask), lambda: net.loss_and_grad(X, np.abs(T) % 1, mask=mask)):
        with pytest.raises(ValueError, match=r"mask: no layer of this network uses one.*output='masked_softmax'"):
            call()


@pytest.mark.parametrize(
    ("loss", "error", "words"),
    [
        (lambda y, t: 5.0, TypeError, r"loss: .*returns \(loss, gradient\), not float"),
        (lambda y, t: (5.0, np.ones(3)), ValueError, r"loss: the gradient .*\(3,\); expected \(12, 3\)"),
        (lambda y, t: (5.0, [1.0]), ValueError, r"loss: the gradient .*\(\); expected"),
        (lambda y, t: (None, y - t), TypeError, r"loss: your function returns the loss None; expected one number"),
        (lambda y, t: ("x", y - t), TypeError, r"loss: your function returns the loss 'x'"),
        (lambda y, t: (1j, y - t), TypeError, r"loss: your function returns the loss 1j"),
        (lambda y, t: (1.0, (y - t) * 1j), TypeError, r"loss: the gradient .*expected real numbers.*complex"),
        (lambda y, t: (1.0, (y - t).astype(object)), TypeError, r"loss: the gradient .*dtype object"),
        (lambda y, t: (1.0, np.ma.masked_less(y - t, 9.0)), ValueError, r"loss: the gradient .*masked array"),
    ],
)
def test_functions_that_are_no_loss(loss, error, words) -> None:
    refused(network("linear", loss=loss), error, words, X, T, epochs=1)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_data_of_which_no_row_counts(optimizer) -> None:
    """As sample_weight of zeros: nothing would be learnt, and the loss would be a perfect 0."""
    mask, options = np.zeros((N, C), bool), {"epochs": 1, "optimizer": optimizer}
    refused(
        network("masked_softmax"), ValueError, "^mask: forbids every class in every row", X, Y, mask=mask, **options
    )
    held = X, Y, None, mask
    words = "^validation mask: forbids every class"
    refused(network("masked_softmax"), ValueError, words, X, Y, mask=~mask, validation=held, **options)
    for weight, y in (((0, 0, 0), Y), ((0, 1, 1), 0 * Y), ((0, 1, 1), np.eye(C)[0 * Y])):
        net = network(loss=losses.CrossEntropy(class_weight=weight))
        refused(net, ValueError, "^y: every row has a class whose class_weight is 0", X, y, **options)
    net = network(loss=losses.CrossEntropy(class_weight=(0, 1, 1)))
    refused(net, ValueError, "^y: every row", X, Y, sample_weight=1.0 * (Y == 0), **options)
    net.fit(X, Y, epochs=1, progress=False)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("spoil", [lambda h: h.loss.clear(), lambda h: h.loss.append(0.0), lambda h: h.loss.pop()])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_callbacks_that_spoil_the_curves(mode, spoil, optimizer) -> None:
    options = {"optimizer": optimizer, "epochs": 3, "progress": False}
    with using_fused(mode), pytest.raises(ValueError, match=r"callbacks: .*history.loss after epoch 0; .*Copy the"):
        network().fit(X, Y, callbacks=[lambda run: spoil(run.history)], **options)


def test_levenberg_marquardt_goes_to_the_limits_of_rounding() -> None:
    net = mlpx.Sequential(Dense(N_IN, C), dtype="float64")
    net.fit(X, T, epochs=20, optimizer=full_batch.LevenbergMarquardt(tol=0), progress=False)
    w = np.linalg.lstsq(np.c_[X, np.ones(N)], T, rcond=None)[0]
    np.testing.assert_allclose(net.layers[0].value("w"), w[:-1].T, atol=1e-9)


def test_levenberg_marquardt_takes_rows() -> None:
    net = mlpx.Sequential(Dense(N_IN, C), dtype="float64")
    words = r"x: has shape \(4, 3, 4\); LevenbergMarquardt takes rows.*reshape"
    refused(net, ValueError, words, X.reshape(4, 3, 4), T.reshape(4, 3, 3), optimizer="levenberg_marquardt")


def test_weights_may_come_from_any_row_of_numbers() -> None:
    for values in ([1, 2, 3], np.arange(1.0, 4.0), (n for n in (1.0, 2.0, 3.0))):
        assert losses.CrossEntropy(class_weight=values).class_weight == (1.0, 2.0, 3.0)


def test_numbers_of_numpy_are_numbers() -> None:
    net = mlpx.MLP(np.array([4, 5, 3]), dropout=np.float32(0.25), seed=np.int64(3))
    assert net.seed == 3
    assert type(net.seed) is int
    optimizer = optimizers.Adam(lr=np.float32(0.01), clip_norm=np.float64(1))
    net.fit(
        X,
        Y,
        epochs=np.int32(2),
        batch_size=np.int64(5),
        optimizer=optimizer,
        shuffle=np.True_,
        progress=False,
        seed=np.int64(3),
        n_threads=np.int8(1),
    )
    assert mlpx.MLP(iter([4, 5, 3])).n_out == 3
