"""Deviances of positive quantities, from the logarithm of their mean; weighted means as in `mlpx.ops.weighing`."""

from mlpx.ops._weighing import of_elements, own_gradient, weighted_mean
from mlpx.ops.dispatch import op
from mlpx.typing import Array, Namespace


@op(
    numpy="mlpx_kernels.cpu.deviance:poisson",
    cupy="mlpx_kernels.cuda.deviance:poisson",
    takes=of_elements("z"),
    vjp=own_gradient,
)
def poisson(
    xp: Namespace, z: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
) -> tuple[Array, Array]:
    """Poisson deviance up to a constant, from the logarithm z of the rate: ``l_i = sum_o e^z - t z``, in nats.

    ``target`` holds counts or rates of at least 0. Gradient ``(e^z - t) r_i / sum r``. Overflows to inf above
    z = 88 in float32, which stops a fit.
    """
    rate = xp.exp(z)
    return weighted_mean(xp, rate - target * z, rate - target, sample_weight, mask)


@op(
    numpy="mlpx_kernels.cpu.deviance:gamma",
    cupy="mlpx_kernels.cuda.deviance:gamma",
    takes=of_elements("z"),
    vjp=own_gradient,
)
def gamma(
    xp: Namespace, z: Array, target: Array, sample_weight: Array | None = None, mask: Array | None = None
) -> tuple[Array, Array]:
    """Half the gamma deviance up to a constant, from the logarithm z of the mean: ``l_i = sum_o z + t e^-z``.

    ``target`` holds numbers above 0. Gradient ``(1 - t e^-z) r_i / sum r``. A factor between target and mean costs
    the same at every size; see `poisson` for overflow, here below z = -88. Source: McCullagh and Nelder 1989.
    """
    ratio = target * xp.exp(-z)
    return weighted_mean(xp, z + ratio, 1.0 - ratio, sample_weight, mask)
