"""What cannot be read as an array: ragged lists, masked values, sparse matrices, tensors that record gradients."""

import numpy as np
import pytest
from refusing import N_IN, C, N, T, Tensor, X, Y, network, refused
from strict import STRICT, to_strict

import mlpx
from mlpx.network.host_rows import moved

WEIGHT = np.ones(N)


def refused_everywhere(error: type[Exception], words: str, convert) -> None:
    """Raise unless an array that became unreadable is refused by its name, as each argument of each call."""
    net, numbers = network(), network("linear")
    for call in (mlpx.asarray, mlpx.to_numpy, net.predict, lambda x: net.loss_and_grad(x, Y)):
        with pytest.raises(error, match=f"^x: {words}"):
            call(convert(X))
    refused(net, error, f"^x: {words}", convert(X), Y)
    refused(net, error, f"^y: {words}", X, convert(Y))
    refused(net, error, f"^y: {words}", X, convert(np.eye(C)[Y]))
    refused(numbers, error, f"^y: {words}", X, convert(T))
    refused(net, error, f"^sample_weight: {words}", X, Y, sample_weight=convert(WEIGHT))
    held_out = convert(X), Y
    refused(net, error, f"^validation x: {words}", X, Y, validation=held_out)


def ragged(array):
    """Return lists whose last one lacks its end, or holds one where the others hold numbers."""
    rows = array.tolist()
    rows[-1] = rows[-1][:-1] if array.ndim > 1 else [rows[-1]]
    return rows


def test_ragged_lists() -> None:
    refused_everywhere(ValueError, "its rows differ in length or depth; expected a rectangle", ragged)
    refused(network("masked_softmax"), ValueError, "^mask: its rows differ", X, Y, mask=ragged(np.ones((N, C), bool)))
    with pytest.raises(ValueError, match=r"^x: its rows differ"):
        mlpx.MLP([N_IN, C]).predict([np.ones(N_IN), np.ones(2)])


@pytest.mark.parametrize("mask", ["one", "all"])
def test_masked_values(mask) -> None:
    def convert(array):
        hidden = np.zeros(array.shape, bool)
        hidden[-1 if mask == "one" else slice(None)] = True
        return np.ma.array(array, mask=hidden)

    refused_everywhere(ValueError, r"is a masked array with \d+ of \d+ values masked.*filled\(0\), or drop", convert)
    refused(
        network("masked_softmax"), ValueError, "^mask: is a masked array", X, Y, mask=convert(np.ones((N, C), bool))
    )
    net = mlpx.Sequential(mlpx.layers.TimeDistributed(mlpx.layers.Dense(N_IN, C)), seed=1)
    steps, targets, real = X.reshape(4, 3, N_IN), T.reshape(4, 3, C), np.ones((4, 3), bool)
    refused(net, ValueError, "^y: is a masked array", steps, convert(targets), valid=real)
    refused(net, ValueError, "^valid: is a masked array", steps, targets, valid=convert(real))


def test_weights_with_bias_rows_are_named_too() -> None:
    good = np.ones((N_IN + 1, C))
    for bad, words in ((ragged(good), "its rows differ"), (np.ma.masked_equal(good, 1.0), "is a masked array")):
        with pytest.raises(ValueError, match=rf"^weights\[1\]: {words}"):
            mlpx.MLP.from_bias_rows([np.ones((N_IN + 1, N_IN)), bad])


def test_a_masked_array_that_hides_nothing_is_an_array() -> None:
    net = network()
    for mask in (np.ma.nomask, np.zeros(X.shape, bool)):
        x = np.ma.array(X, mask=mask)
        np.testing.assert_array_equal(net.predict(x), net.predict(X))
        assert type(mlpx.asarray(x)) is np.ndarray


def test_masked_values_are_refused_on_every_backend() -> None:
    hidden = np.ma.masked_greater(X, 0.0)
    with mlpx.using_backend(STRICT), pytest.raises(ValueError, match=r"^x: is a masked array"):
        mlpx.asarray(hidden)
    gpu = mlpx.backend.Backend("cupy", None)
    assert moved(hidden, gpu) is hidden  # left for the check that names the argument


def test_tensors_that_record_gradients() -> None:
    words = r"is a Tensor that records gradients.*Pass \w+\.detach\(\)"
    refused_everywhere(TypeError, words, lambda a: Tensor(a, "torch.float64", requires_grad=True))


def test_tensors_of_a_dtype_that_numpy_lacks() -> None:
    words = r"this Tensor of torch.bfloat16 cannot be read as an array.*with \w+\.float\(\)"
    net = network()

    def tensor(array):
        return Tensor(array, "torch.bfloat16", requires_grad=False)

    for call in (mlpx.asarray, net.predict):
        with pytest.raises(TypeError, match=f"^x: {words}"):
            call(tensor(X))
    refused(net, TypeError, f"^x: {words}", tensor(X), Y)
    refused(net, TypeError, f"^y: {words}", X, tensor(np.eye(C)[Y]))
    refused(net, TypeError, f"^y: {words}", X, tensor(Y))


def test_tensors_without_a_record_come_in() -> None:
    net = network()
    x, y = (Tensor(a, f"torch.{a.dtype}", requires_grad=False) for a in (X, Y))
    np.testing.assert_array_equal(net.predict(x), net.predict(X))
    assert net.loss_and_grad(x, y)[0] == net.loss_and_grad(X, Y)[0]


@pytest.mark.parametrize("kind", ["csr_array", "coo_matrix"])
def test_sparse_matrices(kind) -> None:
    sparse = getattr(pytest.importorskip("scipy.sparse"), kind)
    net = network()
    words = rf"is a sparse {kind}; expected dense rows. Pass \w+\.toarray\(\)"
    for call in (mlpx.asarray, mlpx.to_numpy, net.predict):
        with pytest.raises(TypeError, match=f"^x: {words}"):
            call(sparse(X))
    refused(net, TypeError, f"^x: {words}", sparse(X), Y)
    refused(net, TypeError, f"^y: {words}", X, sparse(np.eye(C)[Y]))
    net.fit(sparse(X).toarray(), Y, epochs=1, progress=False)


def test_pytorch_itself() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net = network()
    x = torch.tensor(X)
    np.testing.assert_array_equal(net.predict(x), net.predict(X))
    with pytest.raises(TypeError, match=r"^x: is a Tensor that records gradients.*x\.detach\(\)"):
        net.predict(x.requires_grad_())
    np.testing.assert_array_equal(net.predict(x.detach()), net.predict(X))
    with pytest.raises(TypeError, match=r"^x: this Tensor of torch.bfloat16.*x\.float\(\)"):
        net.predict(x.detach().bfloat16())


def test_bfloat16_arrays() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    with pytest.raises(TypeError, match=r"^x: expected real numbers.*dtype bfloat16.*numpy\.asarray\(x, dtype="):
        mlpx.MLP([N_IN, C]).predict(X.astype(ml_dtypes.bfloat16))


def test_arrays_of_a_strict_backend_still_come_to_the_host() -> None:
    np.testing.assert_array_equal(mlpx.to_numpy(to_strict(X)), X)
