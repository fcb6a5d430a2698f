"""Deviances with their gradients: the kernels' entry points; the loop is in element_loss.py."""

from mlpx_kernels.cpu.loops.element_loss import GAMMA, POISSON
from mlpx_kernels.cpu.loss import elementwise


def poisson(z, target, sample_weight=None, mask=None):
    """One read of z and target, one write of dz; one exponential an element."""
    return elementwise(POISSON, z, target, sample_weight, None, mask, 0.0, name="poisson")


def gamma(z, target, sample_weight=None, mask=None):
    """One read of z and target, one write of dz; one exponential an element."""
    return elementwise(GAMMA, z, target, sample_weight, None, mask, 0.0, name="gamma")
