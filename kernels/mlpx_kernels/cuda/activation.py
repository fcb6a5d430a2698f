"""Activations on CUDA by themselves: the kernels of dense.cu, without a bias."""

from mlpx_kernels.activations import CODES, SAVES_INPUT
from mlpx_kernels.cuda.dense import activation_grad_bias_grad, bias_activate
from mlpx_kernels.cuda.runtime.arrays import real_arrays


def activation(x, *, kind):
    """One read and one write of each element."""
    import cupy

    (x,) = real_arrays(x, name="activation")
    y = cupy.empty(x.shape, x.dtype)
    if x.size:
        bias_activate(x.reshape(1, -1), None, y.reshape(1, -1), None, kind)()
    return y, (x if CODES[kind] in SAVES_INPUT else y)


def activation_grad(dy, saved, *, kind):
    """Two reads and one write of each element."""
    import cupy

    dy, saved = real_arrays(dy, (saved, dy.size), name="activation_grad")
    dx = cupy.empty(dy.shape, dy.dtype)
    if dy.size:
        activation_grad_bias_grad(dy.reshape(1, -1), saved.reshape(1, -1), dx.reshape(1, -1), None, kind)()
    return dx
