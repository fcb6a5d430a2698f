"""What bad input gets: an error that names the argument, what came and what is accepted, and nothing changed."""

import numpy as np
import pytest
from cases_kit import normal
from refusing import N_IN, C, N, T, X, Y, network, refused
from strict import STRICT

import mlpx
from mlpx.ops.dispatch import using_fused


def with_value(a, value, place=(3, 1)):
    a = a.astype("d").copy()
    a[place] = value
    return a


# --- shapes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x", [normal("x", N, 5), normal("x", N, 3, 5), normal("x", 5), np.array(1.0), normal("x", N, 0)]
)
def test_x_of_a_wrong_shape(x) -> None:
    net = network()
    words = rf"x: has shape \({', '.join(map(str, x.shape))},?\); expected \(n, 4\)"
    for call in (net.predict, lambda a: net.loss_and_grad(a, Y)):
        with pytest.raises(ValueError, match=words):
            call(x)
    refused(net, ValueError, words, x, Y)


def test_a_lone_instance_is_no_batch() -> None:
    refused(network(), ValueError, r"x: has shape \(4,\); expected rows.*x\[None, :\]", X[0], Y[:1])


def test_one_feature_per_row_gets_a_hint() -> None:
    with pytest.raises(ValueError, match=r"pass x\[:, None\]"):
        mlpx.MLP([1, 2]).predict(np.arange(5.0))


@pytest.mark.parametrize("y", [Y[:-1], Y[:, None], np.eye(C)[Y][:-1], np.eye(4)[Y], np.int64(1)])
def test_class_targets_of_a_wrong_shape(y) -> None:
    refused(
        network(), ValueError, r"y: has shape .*expected class numbers \(12,\) or one column per class \(12, 3\)", X, y
    )


@pytest.mark.parametrize("y", [T[:-1], T[:, :2], T[:, 0], T[None]])
@pytest.mark.parametrize("output", ["linear", "sigmoid", "exp"])
def test_other_targets_of_a_wrong_shape(y, output) -> None:
    refused(network(output), ValueError, r"y: has shape .*expected \(12, 3\)", X, np.abs(y) % 1)


def test_a_lone_output_may_lack_its_axis() -> None:
    net = mlpx.MLP([N_IN, 1], output="linear")
    one, other = (net.loss_and_grad(X, y)[0] for y in (T[:, 0], T[:, :1]))
    assert one == other


# --- dtypes -----------------------------------------------------------------------------------------------------

STRANGE = {
    "object": (lambda a: a.astype(object), "dtype object"),
    "string": (lambda a: a.astype(str), "dtype <U"),
    "complex": (lambda a: a.astype(complex), "dtype complex128"),
    "bytes": (lambda a: a.astype("S8"), r"dtype \|S8"),
    "datetime": (lambda a: a.astype("i8").astype("M8[s]"), "dtype datetime64"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_dtypes_are_errors_that_name_them(kind) -> None:
    convert, words = STRANGE[kind]
    net = network()
    for call in (net.predict, lambda a: net.loss_and_grad(a, Y)):
        with pytest.raises(TypeError, match=f"x: expected real numbers.*{words}"):
            call(convert(X))
    refused(net, TypeError, f"x: .*{words}", convert(X), Y)
    refused(network("linear"), TypeError, f"y: .*{words}", X, convert(T))
    refused(net, TypeError, f"y: .*{words}", X, convert(Y))
    refused(net, TypeError, f"sample_weight: .*{words}", X, Y, sample_weight=convert(np.ones(N)))


def test_names_for_numbers_in_lists() -> None:
    with pytest.raises(TypeError, match="x: expected real numbers"):
        network().predict([["a", "b", "c", "d"]])
    for nothing, words in ((None, "got NoneType"), ((row for row in X), "got generator"), ({"a": 1}, "got dict")):
        with pytest.raises(TypeError, match=f"x: expected real numbers.*{words}"):
            network().predict(nothing)


def test_advice_never_spoils_numbers() -> None:
    """NumPy turns dates into floats without a word, and drops imaginary parts with a warning."""
    for dtype, words in (
        ("M8[s]", r"\(x - x.min\(\)\) / numpy.timedelta64"),
        ("m8[s]", r"x / numpy.timedelta64"),
        ("c16", "imaginary part"),
    ):
        with pytest.raises(TypeError, match=f"x: expected real numbers.*{words}"):
            network().predict(X.astype("i8").astype(dtype))


def test_class_numbers_as_floats_get_a_hint() -> None:
    refused(network(), TypeError, r"y: class numbers have dtype float64.*y.astype\(int\)", X, Y.astype(float))


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "i8", "u8", "f2", "f4", "f8", ">f8", "?"])
@pytest.mark.parametrize("own", ["float32", "float64"])
def test_integers_bools_and_other_floats_are_converted(dtype, own) -> None:
    x = (np.abs(3 * X)).astype(dtype)
    net = network(dtype=own)
    y = net.predict(x)
    assert y.dtype == own
    np.testing.assert_array_equal(y, net.predict(x.astype(own)))
    net.fit(x, Y.astype("?" if dtype == "?" else "i4"), epochs=1, progress=False)
    assert net.predict(x.tolist()).dtype == own


# --- nothing, NaN and infinity, labels ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_an_empty_batch(mode) -> None:
    net = network()
    with using_fused(mode):
        assert net.predict(np.empty((0, N_IN))).shape == (0, C)
        assert net.predict(np.empty((0, 7, N_IN))).shape == (0, 7, C)
        y, backprop = net.forward(np.empty((0, N_IN), "f"))
        assert backprop(y).shape == (0, N_IN)
        assert not net.gradient.any()
        refused(net, ValueError, r"x: is empty, shape \(0, 4\)", np.empty((0, N_IN)), np.empty(0, int))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_at_fit(bad) -> None:
    refused(network(), ValueError, r"x: holds NaN or infinity, first at index \(3, 1\)", with_value(X, bad), Y)
    refused(network("linear"), ValueError, r"y: holds NaN or infinity, first at index \(3, 1\)", X, with_value(T, bad))
    held = with_value(X, bad), Y
    refused(network(), ValueError, r"validation x: holds NaN or infinity", X, Y, validation=held)
    refused(network(), ValueError, "sample_weight: holds", X, Y, sample_weight=with_value(np.ones(N), bad, (3,)))


def test_numbers_too_large_for_the_dtype_are_infinite_in_it() -> None:
    words = r"x: holds NaN or infinity, first at index \(3, 1\); .*for float32 of at most 3.4e\+38"
    refused(network(), ValueError, words, with_value(X, 1e300), Y)
    network(dtype="float64").fit(with_value(X, 1e200), Y, epochs=0, progress=False)


@pytest.mark.parametrize(
    ("label", "words"), [(-1, "from -1 to 2"), (3, "from 0 to 3"), (10**9, "from 0 to 1000000000")]
)
def test_labels_out_of_range(label, words) -> None:
    y = Y.copy()
    y[4] = label
    refused(network(), ValueError, f"y: holds class numbers {words}; expected 0 to 2 for 3 outputs", X, y)


def test_targets_out_of_a_loss_range() -> None:
    refused(network(), ValueError, "y: holds -1; probabilities are at least 0", X, -np.eye(C)[Y])
    refused(network("sigmoid"), ValueError, "y: holds values from .*expected 0 to 1", X, 3 * np.abs(T))
    refused(network("exp"), ValueError, "y: holds .*at least 0", X, -np.abs(T))


SEVERAL = np.eye(C)[Y] + np.eye(C)[(Y + (np.arange(N) == 5)) % C] * (np.arange(N) == 5)[:, None]
"""One class a row, but two in row 5."""


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_several_classes_at_once_are_no_probabilities(loss) -> None:
    net = network(loss=loss)
    refused(net, ValueError, r"^y: row 5 sums to 2;.*output='sigmoid'\).*divide each row", X, SEVERAL)
    refused(net, ValueError, r"^y: row 0 sums to 0;", X, np.zeros((N, C)))
    refused(net, ValueError, r"^y: row 3 sums to 1\.0\d", X, with_value(np.eye(C)[Y], 1.01, (3, Y[3])))
    refused(net, ValueError, r"^validation y: row 5 sums to 2", X, Y, validation=(X, SEVERAL))
    network("sigmoid").fit(X, SEVERAL, epochs=1, progress=False)


@pytest.mark.parametrize("backend", ["numpy", STRICT], ids=str)
def test_soft_labels_are_probabilities(backend) -> None:
    soft = np.round(np.abs(T) / np.abs(T).sum(axis=1, keepdims=True), 4)
    with mlpx.using_backend(backend):
        net = network()
        history = net.fit(mlpx.asarray(X), mlpx.asarray(soft), epochs=1, progress=False)
        assert np.isfinite(history.loss).all()
        with pytest.raises(ValueError, match=r"^y: row 5 sums to 2"):
            net.fit(mlpx.asarray(X), mlpx.asarray(SEVERAL), epochs=1, progress=False)


def test_rows_that_do_not_count_may_sum_to_anything() -> None:
    network().fit(X, SEVERAL, sample_weight=(np.arange(N) != 5) * 1.0, epochs=1, progress=False)
    allowed = np.ones((N, C), bool)
    allowed[5] = False
    network("masked_softmax").fit(X, SEVERAL, mask=allowed, epochs=1, progress=False)
    steps, targets, real = X.reshape(4, 3, N_IN), SEVERAL.reshape(4, 3, C), np.ones((4, 3), bool)
    net = mlpx.Sequential(mlpx.layers.TimeDistributed(mlpx.layers.Dense(N_IN, C)), mlpx.layers.Softmax(), seed=1)
    refused(net, ValueError, r"^y: row \(1, 2\) sums to 2", steps, targets, valid=real)
    real[1, 2] = False
    net.fit(steps, targets, valid=real, epochs=1, progress=False)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_rows_that_do_not_count_may_have_forbidden_classes(mode) -> None:
    steps, targets, real = X.reshape(4, 3, N_IN), Y.reshape(4, 3), np.ones((4, 3), bool)
    allowed = np.eye(C, dtype=bool)[targets]
    real[1, 2], allowed[1, 2] = False, [False, True, True]  # a padded step's class becomes 0
    net = mlpx.Sequential(mlpx.layers.TimeDistributed(mlpx.layers.Dense(N_IN, C)), mlpx.layers.MaskedSoftmax(), seed=1)
    refused(
        net,
        ValueError,
        "^y: the target of row 5 is a class that its mask forbids",
        steps,
        0 * targets,
        mask=allowed | (np.arange(12).reshape(4, 3, 1) != 5),
    )
    with using_fused(mode):
        padded = net.fit(steps, targets, mask=allowed, valid=real, epochs=2, progress=False)
        assert np.isfinite(padded.loss).all()
        forbidden = np.roll(np.eye(C, dtype=bool)[Y], 1, axis=1)
        forbidden[:6] |= np.eye(C, dtype=bool)[Y[:6]]
        weighed = network("masked_softmax")
        history = weighed.fit(X, Y, mask=forbidden, sample_weight=1.0 * (np.arange(N) < 6), epochs=2, progress=False)
        half = network("masked_softmax")
        expected = half.fit(X[:6], Y[:6], mask=forbidden[:6], epochs=2, progress=False)
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-6)
    np.testing.assert_allclose(weighed.parameters, half.parameters, atol=1e-6)


@pytest.mark.parametrize("weight", [np.ones(N - 1), np.ones((N, 1)), -np.ones(N), np.zeros(N)])
def test_sample_weights_that_cannot_be(weight) -> None:
    refused(
        network(), ValueError, "sample_weight: (has shape|holds negative|is 0 everywhere)", X, Y, sample_weight=weight
    )
