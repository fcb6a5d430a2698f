"""Parameter updates against plain loops of their formulas, and against torch.optim where the definitions agree."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from cases_kit import normal
from cases_update import OWN, SHARED, arrays
from hypothesis import given
from hypothesis import strategies as st

from mlpx import ops
from mlpx.ops.dispatch import using_fused

STEPS, SIZE = 12, 23


@pytest.fixture(autouse=True, params=["off", "auto"], ids=["reference", "fused"])
def _both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    with using_fused(request.param):
        yield


def sign(v: float) -> float:
    return float((v > 0) - (v < 0))


# --- one weight at a time -------------------------------------------------------------------------------------------


def sgd(w: float, g: float, s: list[float], *, lr: float) -> float:
    return w - lr * g


def momentum(w: float, g: float, s: list[float], *, lr: float, momentum: float, nesterov: bool = False) -> float:
    s[0] = momentum * s[0] - lr * g
    return w + (momentum * s[0] - lr * g if nesterov else s[0])


def adagrad(w: float, g: float, s: list[float], *, lr: float, eps: float) -> float:
    s[0] += g * g
    return w - lr * g / (math.sqrt(s[0]) + eps)


def rmsprop(w: float, g: float, s: list[float], *, lr: float, rho: float, eps: float) -> float:
    s[0] = rho * s[0] + (1 - rho) * g * g
    return w - lr * g / (math.sqrt(s[0]) + eps)


def adadelta(w: float, g: float, s: list[float], *, lr: float, rho: float, eps: float) -> float:
    s[0] = rho * s[0] + (1 - rho) * g * g
    u = math.sqrt(s[1] + eps) / math.sqrt(s[0] + eps) * g
    s[1] = rho * s[1] + (1 - rho) * u * u
    return w - lr * u


def adam(w: float, g: float, s: list[float], *, lr: float, beta1: float, beta2: float, eps: float, step: int) -> float:
    s[0] = beta1 * s[0] + (1 - beta1) * g
    s[1] = beta2 * s[1] + (1 - beta2) * g * g
    m, v = s[0] / (1 - beta1**step), s[1] / (1 - beta2**step)
    return w - lr * m / (math.sqrt(v) + eps)


def rprop(
    w: float, g: float, s: list[float], *, lr: float, shrink: float, grow: float, smallest: float, largest: float
) -> float:
    agree = s[0] * g
    if agree > 0:
        s[1] = min(s[1] * grow, largest)
    elif agree < 0:
        s[1] = max(s[1] * shrink, smallest)
        g = 0.0
    s[0] = g
    return w - sign(g) * s[1]


PLAIN: dict[str, Callable[..., float]] = {
    "sgd_inplace": sgd, "momentum_inplace": momentum, "adagrad_inplace": adagrad, "rmsprop_inplace": rmsprop,
    "adadelta_inplace": adadelta, "adam_inplace": adam, "rprop_inplace": rprop,
}  # fmt: skip


def plain_step(name: str, given: Any, own: dict[str, Any], shared: dict[str, float]) -> list[Any]:
    """Return what an update makes of its arrays, one weight at a time."""
    scale, clip = shared.get("scale", 1.0), shared.get("clip", math.inf)
    l1, l2, decay = (shared.get(key, 0.0) for key in ("l1", "l2", "decay"))
    out = [np.array(a, dtype="float64") for a in given]
    for j in range(out[0].size):
        w, g, *s = (float(a[j]) for a in given)
        g = min(max(scale * g, -clip), clip) + l2 * w + l1 * sign(w)
        w *= 1.0 - own["lr"] * decay
        out[0][j] = PLAIN[name](w, g, s, **own)
        for array, value in zip(out[2:], s, strict=True):
            array[j] = value
    return out


@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("name", OWN)
def test_update_equals_its_definition(name: str, shared: str) -> None:
    for options in OWN[name][1]:
        given = arrays(name, SIZE, "float64")
        if name == "rprop_inplace":
            given[3].clip(options["smallest"], options["largest"], out=given[3])
        expected = plain_step(name, given, {"lr": 0.1, **options}, SHARED[shared])
        assert ops.ALL[name](*given, lr=0.1, **options, **SHARED[shared]) is None
        for got, wanted in zip(given, expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)


def test_every_update_is_tried() -> None:
    assert set(PLAIN) == set(OWN) == {name for name in ops.ALL if name.endswith("_inplace")}


def test_penalties_of_all_look_at_the_weights_before_the_decay() -> None:
    w, g = np.array([2.0]), np.array([1.0])
    ops.sgd_inplace(w, g, lr=0.5, l2=0.1, l1=0.01, decay=0.2)
    np.testing.assert_allclose(w, [2.0 * 0.9 - 0.5 * (1.0 + 0.2 + 0.01)], rtol=1e-15)


def test_clip_comes_after_the_scale_and_before_the_penalties() -> None:
    w, g = np.array([10.0, 10.0]), np.array([4.0, -0.1])
    ops.sgd_inplace(w, g, lr=1.0, scale=0.5, clip=1.0, l2=0.1)
    np.testing.assert_allclose(w, [10.0 - 2.0, 10.0 + 0.05 - 1.0], rtol=1e-15)


@pytest.mark.parametrize("name", OWN)
def test_no_gradient_and_no_state_move_nothing(name: str) -> None:
    w, g, *state = (np.zeros(9) if i else normal("w", 9) for i in range(2 + OWN[name][0]))
    before = w.copy()
    for options in OWN[name][1]:
        ops.ALL[name](w, g, *state, lr=0.1, **options)
    np.testing.assert_array_equal(w, before)


@pytest.mark.parametrize("name", OWN)
def test_gradient_may_be_read_only_and_is_never_written(name: str) -> None:
    w, g, *state = arrays(name, SIZE, "float64")
    g.flags.writeable = False
    before = g.tobytes()
    ops.ALL[name](w, g, *state, lr=0.1, **OWN[name][1][0], **SHARED["all"])
    assert g.tobytes() == before


@given(size=st.integers(0, 200), start=st.integers(0, 5))
def test_only_the_given_part_of_a_buffer_moves(size: int, start: int) -> None:
    buffer, gradient = normal("w", 220), normal("g", 220)
    before = buffer.copy()
    part = slice(start, start + size)
    ops.sgd_inplace(buffer[part], gradient[part], lr=0.1)
    before[part] -= 0.1 * gradient[part]
    np.testing.assert_allclose(buffer, before, rtol=1e-15)


# --- PyTorch --------------------------------------------------------------------------------------------------------

ADAM = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
ORACLES: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    # op, torch.optim class, our parameters, its arguments. Its momentum multiplies the velocity by lr at the end,
    # which is the same while lr is constant; its weight_decay is our l2, and AdamW's our decay.
    ("sgd_inplace", "SGD", {}, {}),
    ("sgd_inplace", "SGD", {"l2": 0.1}, {"weight_decay": 0.1}),
    ("momentum_inplace", "SGD", {"momentum": 0.9}, {"momentum": 0.9}),
    ("momentum_inplace", "SGD", {"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "nesterov": True}),
    ("adagrad_inplace", "Adagrad", {"eps": 1e-8}, {"eps": 1e-8}),
    ("rmsprop_inplace", "RMSprop", {"rho": 0.9, "eps": 1e-8}, {"alpha": 0.9, "eps": 1e-8}),
    ("adadelta_inplace", "Adadelta", {"rho": 0.9, "eps": 1e-6}, {"rho": 0.9, "eps": 1e-6}),
    ("adam_inplace", "Adam", ADAM, {}),
    ("adam_inplace", "Adam", {**ADAM, "l2": 0.1}, {"weight_decay": 0.1}),
    ("adam_inplace", "AdamW", {**ADAM, "decay": 0.1}, {"weight_decay": 0.1}),
]


@pytest.mark.parametrize(("name", "oracle", "params", "arguments"), ORACLES, ids=str)
def test_torch_agrees(name: str, oracle: str, params: dict[str, Any], arguments: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    w = normal("w", SIZE)
    theirs = torch.tensor(w, requires_grad=True)
    optimizer = getattr(torch.optim, oracle)([theirs], lr=0.05, **arguments)
    state = [np.zeros(SIZE) for _ in range(OWN[name][0])]
    for step in range(1, STEPS + 1):
        g = normal(f"g{step}", SIZE)
        theirs.grad = torch.tensor(g)
        optimizer.step()
        counted = {"step": step} if name == "adam_inplace" else {}
        ops.ALL[name](w, g, *state, lr=0.05, **params, **counted)
    np.testing.assert_allclose(w, theirs.detach().numpy(), rtol=1e-10, atol=1e-12)


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
def test_arrays_that_do_not_fit_are_refused_before_any_write(name: str) -> None:
    for wrong in (np.ones(SIZE + 1), np.ones(SIZE, "float32"), np.ones((1, SIZE))):
        for place in range(1, 2 + OWN[name][0]):
            given = [*arrays(name, SIZE, "float64")]
            given[place] = wrong
            before = [a.copy() for a in given]
            with pytest.raises((ValueError, TypeError), match=rf"^{name}: \w+ has (shape|dtype) .*to match w \(23,\)"):
                ops.ALL[name](*given, lr=0.1, **OWN[name][1][0])
            for a, b in zip(given, before, strict=True):
                np.testing.assert_array_equal(a, b)
