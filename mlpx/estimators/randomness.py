"""scikit-learn's random numbers, in less time."""

from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from sklearn.utils import check_random_state

from mlpx.plan import kernels
from mlpx.typing import Array
from mlpx_kernels import Unsupported


class _Unseeded(ISeedSequence):
    """Words for a generator that is seeded later."""

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
        """Return zeros: a list, from which NumPy takes them one by one ten times as fast as from an array."""
        return [0] * n_words


def random_state_of(given: Any) -> np.random.RandomState:
    """Return ``check_random_state(given)``; NumPy, which seeds a generator from the system first, takes three times as
    long for a number.
    """
    if type(given) is not int or not 0 <= given < 2**32:
        made: np.random.RandomState = check_random_state(given)
        return made
    made = np.random.RandomState(np.random.MT19937(_Unseeded()))  # type: ignore[arg-type]
    made.seed(given)
    return made


def shuffled(state: np.random.RandomState, order: Array, epochs: int) -> Array:
    """Return orders (epochs, n), int64: the first shuffles ``order`` (n,), each other one the one above it.

    They are those of ``sklearn.utils.shuffle``, called again and again.
    """
    try:
        drawn: Array = kernels("shuffle").orders(state, order, epochs)
    except Unsupported:
        drawn = np.empty((epochs, order.size), np.int64)
        for following in drawn:
            following[...] = order
            state.shuffle(following)
            order = following
    return drawn
