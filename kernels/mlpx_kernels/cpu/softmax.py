"""Row-wise softmax and its kin, as ops: forward in softmax_rows.py, gradients in softmax_grad.py."""

import numpy as np

from mlpx_kernels.cpu.loops.softmax_forward import log_softmax_rows, masked_softmax_rows, softmax_rows
from mlpx_kernels.cpu.loops.softmax_grad import log_softmax_grad_rows, masked_softmax_grad_rows, softmax_grad_rows
from mlpx_kernels.cpu.lowlevel.arrays import flat, real_array
from mlpx_kernels.cpu.lowlevel.compile import kernel
from mlpx_kernels.cpu.threading.parallel_rows import share_rows


@kernel
def run_softmax(x, y, rows, c):
    """Compiled entry point of `softmax_rows`."""
    softmax_rows(x, y, rows, c)


@kernel
def run_masked_softmax(x, mask, y, rows, c):
    """Compiled entry point of `masked_softmax_rows`."""
    masked_softmax_rows(x, mask, y, rows, c)


@kernel
def run_log_softmax(x, y, rows, c):
    """Compiled entry point of `log_softmax_rows`."""
    log_softmax_rows(x, y, rows, c)


@kernel
def run_softmax_grad(dy, y, dx, rows, c):
    """Compiled entry point of `softmax_grad_rows`."""
    softmax_grad_rows(dy, y, dx, rows, c)


@kernel
def run_masked_softmax_grad(dy, y, mask, dx, rows, c):
    """Compiled entry point of `masked_softmax_grad_rows`."""
    masked_softmax_grad_rows(dy, y, mask, dx, rows, c)


@kernel
def run_log_softmax_grad(dy, y, dx, rows, c):
    """Compiled entry point of `log_softmax_grad_rows`."""
    log_softmax_grad_rows(dy, y, dx, rows, c)


def _rowwise(compiled, arrays, masks=(), *, name):
    """Call a compiled row function on blocks of rows, over the threads; return its output array."""
    first = real_array(arrays[0], name=name)
    out = np.empty(first.shape, first.dtype)
    c = out.shape[-1]
    rest = [flat(a, out.size, out.dtype, name=name) for a in arrays[1:]]
    flags = [flat(m, out.size, np.bool_, name=name) for m in masks]
    given = (first.reshape(-1), *rest, *flags, out.reshape(-1))

    def some(start, stop):
        compiled(*(a[start * c : stop * c] for a in given), stop - start, c)

    share_rows(some, out.size // c, out.size)
    return out


def softmax(x):
    """One read and one write of each element beyond the cache; sums in the dtype of x, in blocks of vector width."""
    return _rowwise(run_softmax, (x,), name="softmax")


def softmax_grad(dy, y):
    """One pass; each row stays in cache between its sum and its result."""
    return _rowwise(run_softmax_grad, (dy, y), name="softmax_grad")


def masked_softmax(x, mask):
    """As `softmax`; forbidden logits are replaced before anything is computed from them."""
    return _rowwise(run_masked_softmax, (x,), (mask,), name="masked_softmax")


def masked_softmax_grad(dy, y, mask):
    """One pass, forward's mask again."""
    return _rowwise(run_masked_softmax_grad, (dy, y), (mask,), name="masked_softmax_grad")


def log_softmax(x):
    """The exponentials are summed without being stored; one logarithm a row."""
    return _rowwise(run_log_softmax, (x,), name="log_softmax")


def log_softmax_grad(dy, y):
    """One pass."""
    return _rowwise(run_log_softmax_grad, (dy, y), name="log_softmax_grad")
