"""Orders of epochs: NumPy's and scikit-learn's, and the generator is left where it would be."""

from threading import Thread

import numpy as np
import pytest
from sklearn.utils import shuffle

from mlpx.estimators.randomness import random_state_of
from mlpx.ops.dispatch import using_fused
from mlpx.training.orders import shuffled
from mlpx_kernels import Unsupported
from mlpx_kernels.cpu.shuffle import orders as compiled_orders


class Backwards(np.random.RandomState):
    """A generator with a mind of its own."""

    def shuffle(self, x):
        x[...] = x[::-1].copy()


@pytest.mark.parametrize("mode", ["off", "auto"])
@pytest.mark.parametrize("epochs", [1, 4])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 9, 64, 65, 700, 5000])
def test_orders_are_scikit_learn_s(n, epochs, mode) -> None:
    ours, theirs = random_state_of(n), np.random.RandomState(n)
    order = ours.permutation(n)
    theirs.permutation(n)
    before = order.copy()
    with using_fused(mode):
        drawn = shuffled(ours, order, epochs, chained=True)
    np.testing.assert_array_equal(order, before)
    for following in drawn:
        order = shuffle(order, random_state=theirs)
        np.testing.assert_array_equal(following, order)
    assert ours.normal() == theirs.normal()


@pytest.mark.parametrize("mode", ["off", "auto"])
@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.Philox])
@pytest.mark.parametrize("n", [1, 2, 3, 9, 700, 70_000])
def test_orders_are_numpy_s(n, bits, chained, mode) -> None:
    ours, theirs = (np.random.Generator(bits(n)) for _ in range(2))
    ours.integers(9), theirs.integers(9)  # half of a word is left
    rows = np.arange(n)
    with using_fused(mode):
        drawn = shuffled(ours, rows, 3, chained=chained)
    for following in drawn:
        order = rows.copy()
        theirs.shuffle(order)
        np.testing.assert_array_equal(following, order)
        rows = order if chained else rows
    assert ours.integers(9) == theirs.integers(9)
    assert ours.normal() == theirs.normal()


def test_a_generator_of_another_kind_is_used_as_it_is() -> None:
    drawn = shuffled(Backwards(0), np.arange(3), 2, chained=True)
    np.testing.assert_array_equal(drawn, [[2, 1, 0], [0, 1, 2]])
    pcg = [np.random.RandomState(np.random.PCG64(3)) for _ in range(2)]
    drawn = shuffled(pcg[0], np.arange(99), 1, chained=True)
    np.testing.assert_array_equal(drawn[0], shuffle(np.arange(99), random_state=pcg[1]))


def test_the_kernel_declines_other_generators_and_waits_for_those_in_use() -> None:
    pytest.importorskip("numba", reason="Numba is not installed: there is nothing compiled")
    orders, state = compiled_orders, np.random.RandomState(0)
    with pytest.raises(Unsupported, match="Backwards shuffles by itself"):
        orders(Backwards(0), np.arange(5), 1, True)
    drawing = Thread(target=orders, args=(state, np.arange(9), 1, True))
    with state._bit_generator.lock:
        drawing.start()
        drawing.join(0.05)
        assert drawing.is_alive()
    drawing.join()
