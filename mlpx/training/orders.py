"""The order in which each epoch takes the rows: NumPy's shuffles, in less time where there are kernels."""

import numpy as np

from mlpx.ops.dispatch import declined
from mlpx.plan import compiled_engine
from mlpx.typing import Array
from mlpx_kernels import Unsupported


def shuffled(
    generator: np.random.RandomState | np.random.Generator, before: Array, epochs: int, *, chained: bool
) -> Array:
    """Return orders (epochs, n), int64, that ``generator.shuffle`` gives.

    Each shuffles ``before`` (n,), int64; or, if ``chained``, all but the first shuffle the one above them, as
    ``sklearn.utils.shuffle`` does that is called again and again.
    """
    try:
        with compiled_engine():
            from mlpx_kernels.cpu import shuffle
        drawn: Array = shuffle.orders(generator, before, epochs, chained)
    except Unsupported as reason:
        declined(reason)
        drawn = np.empty((epochs, before.size), np.int64)
        for epoch, order in enumerate(drawn):
            order[...] = drawn[epoch - 1] if chained and epoch else before
            generator.shuffle(order)
    return drawn
