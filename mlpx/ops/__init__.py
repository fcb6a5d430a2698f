"""Every op of the library, by family. `ALL` maps each name to its `mlpx.ops.dispatch.Op`."""

from mlpx.ops._activation import ACTIVATIONS, activation, activation_grad
from mlpx.ops._dense import dense, dense_grad, dense_grad_rows
from mlpx.ops._deviance import gamma, poisson
from mlpx.ops._dropout import dropout
from mlpx.ops._loss import absolute_error, huber, quantile, sigmoid_cross_entropy, softmax_cross_entropy, squared_error
from mlpx.ops._margin import hinge, sigmoid_focal, softmax_focal
from mlpx.ops._norm import (
    batch_norm,
    batch_norm_grad,
    batch_norm_inference,
    batch_norm_inference_grad,
    layer_norm,
    layer_norm_grad,
)
from mlpx.ops._softmax import log_softmax, log_softmax_grad, masked_softmax, masked_softmax_grad, softmax, softmax_grad
from mlpx.ops._update import (
    adadelta_inplace,
    adagrad_inplace,
    adam_inplace,
    momentum_inplace,
    rmsprop_inplace,
    rprop_inplace,
    sgd_inplace,
)
from mlpx.ops.dispatch import ALL

__all__ = [
    "ACTIVATIONS",
    "ALL",
    "absolute_error",
    "activation",
    "activation_grad",
    "adadelta_inplace",
    "adagrad_inplace",
    "adam_inplace",
    "batch_norm",
    "batch_norm_grad",
    "batch_norm_inference",
    "batch_norm_inference_grad",
    "dense",
    "dense_grad",
    "dense_grad_rows",
    "dropout",
    "gamma",
    "hinge",
    "huber",
    "layer_norm",
    "layer_norm_grad",
    "log_softmax",
    "log_softmax_grad",
    "masked_softmax",
    "masked_softmax_grad",
    "momentum_inplace",
    "poisson",
    "quantile",
    "rmsprop_inplace",
    "rprop_inplace",
    "sgd_inplace",
    "sigmoid_cross_entropy",
    "sigmoid_focal",
    "softmax",
    "softmax_cross_entropy",
    "softmax_focal",
    "softmax_grad",
    "squared_error",
]
