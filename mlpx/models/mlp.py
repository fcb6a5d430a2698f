"""Multi-layer perceptrons: what is chosen for each layer, and the layers that come of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, Self

from mlpx.backend import NUMPY, host_array
from mlpx.backend.conversion import as_float_array
from mlpx.errors import check_count, check_name, check_number, shown
from mlpx.initializers import Uniform
from mlpx.layers import MOST_FEATURES, Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm, MaskedSoftmax, Softmax
from mlpx.losses import Loss
from mlpx.models.sequential import Sequential
from mlpx.typing import ArrayLike

OUTPUTS = ("softmax", "sigmoid", "linear", "masked_softmax", "exp")
NORMS: dict[str, type[BatchNorm] | type[LayerNorm]] = {"batch": BatchNorm, "layer": LayerNorm}


class MLP(Sequential):
    """A multi-layer perceptron: dense layers, with normalisation and dropout between them where asked.

    Parameters
    ----------
    sizes : sequence of int
        Width of the input, of each hidden layer, and of the output; at least two.
    activation : str or sequence of str
        Of the hidden layers: one name for all, or one for each.
    output : str
        "softmax" (classes), "sigmoid" (independent yes/no outputs), "linear" (regression), "masked_softmax" (classes
        of which some are impossible for some rows), "exp" (rates).
    dropout : float
        Probability of dropping after each hidden layer, in [0, 1).
    norm : str, optional
        "batch" or "layer": normalise before each hidden activation.
    init, bias_init : str or Uniform
        Initialisers; "auto" suits the activation.
    loss, dtype, seed
        As in `Sequential`.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str | Sequence[str] = "relu",
        output: str = "softmax",
        *,
        dropout: float = 0.0,
        norm: str | None = None,
        init: str | Uniform = "auto",
        bias_init: str | Uniform = "zeros",
        loss: str | Loss | Callable[..., Any] | None = None,
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        layers = mlp_layers(sizes, activation, output, dropout, norm, init, bias_init)
        super().__init__(*layers, loss=loss, dtype=dtype, seed=seed)

    @classmethod
    def from_bias_rows(
        cls,
        weights: Sequence[ArrayLike],
        activation: str | Sequence[str] = "relu",
        output: str = "softmax",
        **options: Any,
    ) -> Self:
        """Return the network whose layers are arrays (n_in + 1, n_out) with the bias as the last row.

        Raises
        ------
        ValueError
            If an array has not two axes, its columns do not match the rows of the next one, or a norm is asked for.
        """
        if options.get("norm") is not None:
            raise ValueError("norm: layers before a norm have no bias; build the network with MLP(...) instead.")
        if not isinstance(weights, Iterable) or is_scalar(weights):
            raise TypeError(f"weights: expected one array (n_in + 1, n_out) per layer, got {shown(weights)}.")
        arrays = [
            as_float_array(f"weights[{number}]", host_array(f"weights[{number}]", v), "float64", NUMPY)
            for number, v in enumerate(weights)
        ]
        for number, v in enumerate(arrays):
            if v.ndim != 2 or v.shape[0] < 2:
                raise ValueError(f"weights[{number}]: has shape {v.shape}; expected (n_in + 1, n_out).")
            if number and v.shape[0] != arrays[number - 1].shape[1] + 1:
                raise ValueError(
                    f"weights[{number}]: has shape {v.shape}; expected {arrays[number - 1].shape[1] + 1} rows to match "
                    f"weights[{number - 1}] {arrays[number - 1].shape}: one per input and one for the bias."
                )
        if not arrays:
            raise ValueError("weights: is empty; expected one array (n_in + 1, n_out) per layer.")
        sizes = [arrays[0].shape[0] - 1, *(v.shape[1] for v in arrays)]
        net = cls(sizes, activation, output, **options)
        dense = [layer for layer in net.all_layers() if isinstance(layer, Dense)]
        for layer, v in zip(dense, arrays, strict=True):
            layer.value("w")[...] = net.backend.asarray(v[:-1].T, net.dtype)
            layer.value("b")[...] = net.backend.asarray(v[-1], net.dtype)
        return net


def is_scalar(value: object) -> bool:
    """Return whether a value is an array without axes, which Python counts as iterable and cannot iterate over."""
    return getattr(value, "shape", None) == ()


def mlp_layers(
    sizes: Sequence[int],
    activation: str | Sequence[str],
    output: str,
    dropout: float,
    norm: str | None,
    init: str | Uniform,
    bias_init: str | Uniform,
) -> list[Layer]:
    """Return the layers of an `MLP`, whose parameters these are."""
    if isinstance(sizes, Set | Mapping):  # which have no order of their own
        raise TypeError(f"sizes: expected widths in their order, such as [64, 32, 10], got {shown(sizes)}.")
    given = list(sizes) if isinstance(sizes, Iterable) and not is_scalar(sizes) else []
    if len(given) < 2:
        raise ValueError(f"sizes: expected at least two widths, input and output, got {shown(sizes)}.")
    widths = [check_count(f"sizes[{i}]", size, 1, MOST_FEATURES) for i, size in enumerate(given)]
    n_hidden = len(widths) - 2
    if not isinstance(activation, Iterable) or isinstance(activation, Set | Mapping | bytes) or is_scalar(activation):
        raise TypeError(f"activation: expected a name, or one for each hidden layer, got {shown(activation)}.")
    names = [activation] * n_hidden if isinstance(activation, str) else list(activation)
    for name in {activation} if isinstance(activation, str) else names:
        Activation(name)  # raises for unknown names, even where no hidden layer wants one
    dropout = check_number("dropout", dropout, 0.0, 1.0, open_high=True)
    if len(names) != n_hidden:
        raise ValueError(f"activation: has {len(names)} names; expected one, or {n_hidden}, one per hidden layer.")
    output = check_name("output", output, OUTPUTS)
    norm = None if norm is None else check_name("norm", norm, NORMS)
    layers: list[Layer] = []
    for n_in, n_out, name in zip(widths, widths[1:-1], names, strict=False):
        if norm is None:
            layers.append(Dense(n_in, n_out, name, init=init, bias_init=bias_init))
        else:
            # The norm's shift takes the place of the bias.
            layers += [Dense(n_in, n_out, bias=False, init=init), NORMS[norm](n_out), Activation(name)]
        if dropout:
            layers.append(Dropout(dropout))
    layers.append(Dense(widths[-2], widths[-1], init=init, bias_init=bias_init))
    heads: dict[str, Layer | None] = {
        "softmax": Softmax(),
        "masked_softmax": MaskedSoftmax(),
        "sigmoid": Activation("sigmoid"),
        "exp": Activation("exp"),
        "linear": None,
    }
    head = heads[output]
    return layers if head is None else [*layers, head]
