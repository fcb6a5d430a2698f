"""Orders of epochs: those of scikit-learn's ``shuffle``, and the generator is left where it would be."""

from threading import Thread

import numpy as np
import pytest
from sklearn.utils import shuffle

from mlpx.estimators.randomness import random_state_of, shuffled
from mlpx.op import using_fused
from mlpx.plan import kernels
from mlpx_kernels import Unsupported


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
        drawn = shuffled(ours, order, epochs)
    np.testing.assert_array_equal(order, before)
    for following in drawn:
        order = shuffle(order, random_state=theirs)
        np.testing.assert_array_equal(following, order)
    assert ours.normal() == theirs.normal()


def test_a_generator_of_another_kind_is_used_as_it_is() -> None:
    np.testing.assert_array_equal(shuffled(Backwards(0), np.arange(3), 2), [[2, 1, 0], [0, 1, 2]])
    pcg = [np.random.RandomState(np.random.PCG64(3)) for _ in range(2)]
    np.testing.assert_array_equal(shuffled(pcg[0], np.arange(99), 1)[0], shuffle(np.arange(99), random_state=pcg[1]))


def test_the_kernel_declines_other_generators_and_waits_for_those_in_use() -> None:
    pytest.importorskip("numba", reason="Numba is not installed: there is nothing compiled")
    orders, state = kernels("shuffle").orders, np.random.RandomState(0)
    with pytest.raises(Unsupported, match="Backwards shuffles by itself"):
        orders(Backwards(0), np.arange(5), 1)
    drawing = Thread(target=orders, args=(state, np.arange(9), 1))
    with state._bit_generator.lock:
        drawing.start()
        drawing.join(0.05)
        assert drawing.is_alive()
    drawing.join()
