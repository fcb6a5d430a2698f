"""Deviances on CUDA: losses of single outputs, by the kernel of loss.py."""

from mlpx_kernels.cuda.loss import GAMMA, POISSON, of_elements


def poisson(z, target, sample_weight=None, mask=None):
    """Two reads and one write an element."""
    return of_elements(POISSON, z, target, sample_weight, mask, name="poisson")


def gamma(z, target, sample_weight=None, mask=None):
    """Two reads and one write an element."""
    return of_elements(GAMMA, z, target, sample_weight, mask, name="gamma")
