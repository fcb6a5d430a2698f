"""Gradients against central differences, along random directions, in float64."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from mlpx.backend import Backend, backend_name, backend_of, to_numpy
from mlpx.errors import GradientError, check_count, check_number
from mlpx.layers import Context, Layer
from mlpx.network import Network
from mlpx.ops.dispatch import Op
from mlpx.typing import Array

STEPS = (1e-2, 1e-3, 1e-4, 1e-5)
"""Relative sizes of the differences; the best of them counts, since truncation and rounding pull opposite ways."""

Function = Callable[[list[Array]], float]


def check_gradients(
    subject: Op[..., Any] | Layer | Network,
    *arrays: Array,
    tol: float = 1e-6,
    directions: int = 8,
    seed: int = 0,
    **params: Any,
) -> float:
    """Compare analytic gradients with central differences; raise where they disagree.

    Parameters
    ----------
    subject : Op, Layer or Network
        An op of `mlpx.ops` whose first output is differentiated, for every float array among ``arrays``; a layer that
        holds float64 weights (for its input and its weights); a network (for its loss and its weights; it is copied to
        float64, and ``arrays`` are those of ``loss_and_grad``).
    *arrays : array
        The point to check at, on the subject's backend (for a network on NumPy too); floats are taken as float64. None,
        ints and bools are passed on.
    tol : float
        Largest relative error allowed, at least 0.
    directions : int
        Random directions for each array, at least 1.
    seed : int
        Chooses the directions, and the masks of a subject that drops.
    **params
        Passed on to the op, the layer's forward, or ``loss_and_grad``.

    Returns
    -------
    error : float
        The largest relative error met: the difference of the two derivatives along a unit direction, over the larger
        of them and of the gradient's root mean square.

    Raises
    ------
    GradientError
        If it exceeds ``tol`` or is NaN; the message says for which array.

    Notes
    -----
    At a kink (relu at 0) there is no derivative to compare with; choose other inputs there.
    """
    tol = check_number("tol", tol, 0.0)
    directions, seed = check_count("directions", directions), check_count("seed", seed, 0)
    if isinstance(subject, Op):
        if "seed" in subject.__signature__.parameters:
            params = {**params, "seed": seed}
        names, point, function, gradients = _of_op(subject, arrays, params, seed)
    elif isinstance(subject, Network):
        names, point, function, gradients = _of_network(subject, arrays, {**params, "seed": seed})
    elif isinstance(subject, Layer):
        names, point, function, gradients = _of_layer(subject, arrays, params, seed)
    else:
        raise TypeError(f"subject: expected an op, a layer or a network, got {type(subject).__name__}.")
    rng = np.random.default_rng(seed)
    worst = 0.0
    for number, (name, gradient) in enumerate(zip(names, gradients, strict=True)):
        if gradient.shape != point[number].shape:
            raise GradientError(
                f"{name}: its gradient has shape {gradient.shape}, the array itself {point[number].shape}."
            )
        for _ in range(directions if point[number].size else 0):
            direction = rng.standard_normal(point[number].shape)
            direction /= np.linalg.norm(direction)
            error = _error(function, point, number, direction, gradient)
            worst = max(worst, error)
            if not error <= tol:  # NaN fails too
                raise GradientError(
                    f"{name}: analytic gradient and central differences disagree by {error:.3g} relative; allowed "
                    f"{tol:g}."
                )
    return worst


def _error(function: Function, point: list[Array], number: int, direction: Array, gradient: Array) -> float:
    analytic = float(np.sum(gradient * direction))
    typical = float(np.linalg.norm(gradient)) / max(gradient.size, 1) ** 0.5
    size = max(float(np.linalg.norm(point[number])), 1.0)

    def along(t: float) -> float:
        moved = list(point)
        moved[number] = np.asarray(point[number] + t * direction)  # a sum of 0-d arrays is none
        return function(moved)

    # What rounding of the function alone makes of the widest difference: a gradient that is exactly 0, such as that of
    # a bias below a batch norm, is met by differences of this size.
    rounding = 10.0 * float(np.finfo(np.float64).eps) * abs(along(0.0)) / (STEPS[0] * size)
    rounding = rounding if np.isfinite(rounding) else 0.0
    errors = []
    for step in STEPS:
        h = step * size
        # Central differences of fourth order: their error falls with h^4.
        numeric = (8.0 * (along(h) - along(-h)) - (along(2.0 * h) - along(-2.0 * h))) / (12.0 * h)
        scale = max(abs(analytic), abs(numeric), typical)
        excess = abs(analytic - numeric) - rounding
        errors.append(0.0 if excess <= 0.0 else excess / scale)
    finite = [error for error in errors if error == error]
    return min(finite) if finite else float("nan")


Problem = tuple[list[str], list[Array], Function, list[Array]]


def _of_op(subject: Op[..., Any], arrays: tuple[Array, ...], params: dict[str, Any], seed: int) -> Problem:
    if subject.vjp is None:
        raise TypeError(f"subject: {subject.name} has no gradient to check.")
    # Targets and weights of a loss are floats too, but gradients are for its first argument alone.
    given = [_as_float64(a) for a in arrays]
    backend = backend_of(*arrays, caller="check_gradients")
    out = subject(*_there(backend, given), **params)
    first = out[0] if isinstance(out, tuple) else out
    dy = np.random.default_rng(seed + 1).standard_normal(getattr(first, "shape", ()))
    gradients = [to_numpy(g) for g in subject.vjp(backend.asarray(dy), out, *_there(backend, given), **params)]
    places = [i for i, a in enumerate(given) if isinstance(a, np.ndarray) and a.dtype.kind == "f"][: len(gradients)]

    def function(point: list[Array]) -> float:
        moved = list(given)
        for place, value in zip(places, point, strict=True):
            moved[place] = value
        y = subject(*_there(backend, moved), **params)
        return float(np.sum(dy * to_numpy(y[0] if isinstance(y, tuple) else y)))

    parameter_names = list(subject.__signature__.parameters)
    names = [f"{subject.name}, {parameter_names[place]}" for place in places]
    return names, [given[place] for place in places], function, gradients


def _of_layer(subject: Layer, arrays: tuple[Array, ...], params: dict[str, Any], seed: int) -> Problem:
    (x,) = (_as_float64(a) for a in arrays)
    held = [(n, p) for layer in subject.walk() for n, p in layer.parameters.items()]
    context = params["context"] if "context" in params else Context(**params, seed=seed)
    backend = backend_of(*arrays, caller="check_gradients")
    y, backprop = subject.forward(backend.asarray(x), context)
    dy = np.random.default_rng(seed + 1).standard_normal(y.shape)
    gradients = [to_numpy(backprop(backend.asarray(dy))), *(_copied(p.grad) for _, p in held)]

    point = [x, *(_copied(p.value) for _, p in held)]

    def move(values: list[Array]) -> None:
        for (_, p), value in zip(held, values, strict=True):
            p.value[...] = backend.asarray(value)

    def function(moved: list[Array]) -> float:
        move(moved[1:])
        loss = float(np.sum(dy * to_numpy(subject.forward(backend.asarray(moved[0]), context)[0])))
        move(point[1:])  # the layer is the caller's: its weights stay
        return loss

    kind = type(subject).__name__
    return [f"{kind}, x", *(f"{kind}, {name}" for name, _ in held)], point, function, gradients


def _of_network(subject: Network, arrays: tuple[Array, ...], params: dict[str, Any]) -> Problem:
    twin = subject.copy(dtype="float64")  # type: ignore[attr-defined]
    backend = twin.backend
    arrays = tuple(_there(backend, arrays))
    params = dict(zip(params, _there(backend, params.values()), strict=True))
    held = [(f"{i}.{n}", p) for i, layer in enumerate(twin.all_layers()) for n, p in layer.parameters.items()]
    twin.loss_and_grad(*arrays, **params)
    gradients = [_copied(p.grad) for _, p in held]

    def function(point: list[Array]) -> float:
        for (_, p), value in zip(held, point, strict=True):
            p.value[...] = backend.asarray(value)
        return float(twin.loss_and_grad(*arrays, **params)[0])

    return [f"network, {name}" for name, _ in held], [_copied(p.value) for _, p in held], function, gradients


def _as_float64(a: Array) -> Array:
    a = to_numpy(a) if backend_name(a) else a
    return a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a


def _there(backend: Backend, values: Iterable[Any]) -> list[Any]:
    """Return values with the host's arrays among them on a backend."""
    return [backend.asarray(value) if isinstance(value, np.ndarray) else value for value in values]


def _copied(a: Array) -> Array:
    return np.array(to_numpy(a))
