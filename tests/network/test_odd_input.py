"""Input that is good, though it looks odd: read-only, strided, data frames, and whatever has the array protocol."""

import numpy as np
import pytest
from cases_kit import LAYOUTS
from refusing import C, N, X, Y, network

from mlpx.ops.dispatch import using_fused


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_read_only_and_non_contiguous_arrays_work_and_stay(layout, dtype, mode) -> None:
    plain = [X.astype(dtype), np.eye(C)[Y].astype(dtype), np.ones(N, dtype)]
    odd = [LAYOUTS[layout](a.copy()) for a in plain[:2]] + [np.repeat(plain[2], 2)[::2]]
    for a in odd:
        a.flags.writeable = False
    results = []
    for x, y, weight in (plain, odd):
        net = network(dtype=dtype)
        with using_fused(mode):
            net.fit(x, y, sample_weight=weight, epochs=2, batch_size=5, validation=(x, y), progress=False)
            results.append((net.parameters.copy(), net.predict(x), net.predict(x[0])))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
    for now, before in zip(odd, plain, strict=True):
        np.testing.assert_array_equal(now, before)


def test_data_frames_and_lists_come_in() -> None:
    net = network()
    np.testing.assert_array_equal(net.predict(X.tolist()), net.predict(X))
    np.testing.assert_array_equal(net.predict(tuple(map(tuple, X))), net.predict(X))


def test_pandas_data_frames_come_in() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame, labels = pandas.DataFrame(X, columns=list("abcd")), pandas.Series(Y)
    results = []
    for x, y in ((X, Y), (frame, labels)):
        net = network()
        net.fit(x, y, epochs=2, progress=False)
        results.append(net.predict(x))
    np.testing.assert_array_equal(*results)
    with pytest.raises(TypeError, match=r"x: .*dtype object"):
        net.predict(frame.assign(a="text"))


class Column:
    """A column that gives its numbers by the array protocol alone, as data frames do."""

    def __init__(self, values) -> None:
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype)


def test_what_has_the_array_protocol_comes_in() -> None:
    net = network()
    np.testing.assert_array_equal(net.predict(Column(X)), net.predict(X))
    assert net.loss_and_grad(Column(X), Column(Y))[0] == net.loss_and_grad(X, Y)[0]


@pytest.mark.parametrize("dtype", [">i4", ">u2", "?", "u8"])
def test_class_numbers_of_any_integer_dtype_come_in(dtype) -> None:
    labels, net = np.minimum(Y, 1).astype(dtype), network()
    assert net.loss_and_grad(X, labels)[0] == net.loss_and_grad(X, np.minimum(Y, 1))[0]


def test_polars_columns_come_in() -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    net = network()
    assert net.loss_and_grad(polars.DataFrame(X), polars.Series(Y))[0] == net.loss_and_grad(X, Y)[0]
