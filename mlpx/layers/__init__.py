"""Layers: parameters and joining. Every layer has ``forward(x) -> (y, backprop)``."""

from mlpx.layers.base import INFERENCE, MOST_FEATURES, Backprop, Context, Layer
from mlpx.layers.buffers import Buffers, Parameter, bind, owners
from mlpx.layers.dense import Activation, Dense
from mlpx.layers.dropout import Dropout
from mlpx.layers.norm import BatchNorm, LayerNorm
from mlpx.layers.softmax import MaskedSoftmax, Softmax
from mlpx.layers.time_distributed import TimeDistributed

__all__ = [
    "INFERENCE",
    "MOST_FEATURES",
    "Activation",
    "Backprop",
    "BatchNorm",
    "Buffers",
    "Context",
    "Dense",
    "Dropout",
    "Layer",
    "LayerNorm",
    "MaskedSoftmax",
    "Parameter",
    "Softmax",
    "TimeDistributed",
    "bind",
    "owners",
]
