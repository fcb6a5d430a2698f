"""Every op of the library, by family. `ALL` maps each name to its `mlpx.op.Op`."""

from mlpx.op import ALL
from mlpx.ops.activation import activation, activation_grad
from mlpx.ops.dense import dense, dense_grad, dense_grad_rows
from mlpx.ops.deviance import gamma, poisson
from mlpx.ops.dropout import dropout
from mlpx.ops.loss import (
    absolute_error,
    huber,
    quantile,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    squared_error,
)
from mlpx.ops.margin import hinge, sigmoid_focal, softmax_focal
from mlpx.ops.norm import (
    batch_norm,
    batch_norm_grad,
    batch_norm_inference,
    batch_norm_inference_grad,
    layer_norm,
    layer_norm_grad,
)
from mlpx.ops.softmax import (
    log_softmax,
    log_softmax_grad,
    masked_softmax,
    masked_softmax_grad,
    softmax,
    softmax_grad,
)
from mlpx.ops.update import (
    adadelta_inplace,
    adagrad_inplace,
    adam_inplace,
    momentum_inplace,
    rmsprop_inplace,
    rprop_inplace,
    sgd_inplace,
)

__all__ = [
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
