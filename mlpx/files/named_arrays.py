"""Arrays that lie as a network's flat buffers do, cut into one for each parameter, and put together again."""

from typing import Any

import numpy as np

from mlpx.layers import Parameter
from mlpx.network import Network
from mlpx.typing import Array


def _pieces(parameters: dict[str, Parameter], flat: Array) -> dict[str, Array]:
    return {name: flat[p.offset : p.offset + p.size].reshape(p.shape) for name, p in parameters.items()}


def split(net: Network, parameters: Array, statistics: Array | None = None) -> dict[str, Array]:
    """Return views of flat arrays by the names of the network's parameters, and of its running statistics."""
    layers = list(enumerate(net.all_layers()))
    trained = {f"{number}.{name}": p for number, layer in layers for name, p in layer.parameters.items()}
    found = _pieces(trained, parameters)
    if statistics is not None:
        running = {f"{number}.{name}": p for number, layer in layers for name, p in layer.statistics.items()}
        found |= _pieces(running, statistics)
    return found


def joined(net: Network, pieces: Any, *, statistics: bool = False) -> tuple[Array, Array]:
    """Return flat host arrays of what `split` returned; without ``statistics`` the second one is all zeros.

    Raises
    ------
    ValueError
        If a piece is missing, left over, or of another shape or dtype.
    """
    made = np.zeros(net.parameters.shape, net.dtype), np.zeros(net.buffers.statistics.shape, net.dtype)
    places = split(net, made[0], made[1] if statistics else None)
    if not isinstance(pieces, dict) or pieces.keys() != places.keys():
        raise ValueError("arrays for the network's parameters are missing or left over")
    for name, place in places.items():
        piece = pieces[name]
        if not isinstance(piece, np.ndarray) or piece.shape != place.shape or piece.dtype != place.dtype:
            raise ValueError(f"the array for {name!r} is not {place.dtype} of shape {place.shape}")
        place[...] = piece
    return made
