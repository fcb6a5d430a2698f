"""Networks drawn by chance, trained by the plan and layer by layer: the same numbers, wherever calls are cut.

Each network has a number; ``compare(number)`` repeats it. Where the two part by more than rounding usually does, the
reference is asked what rounding does to this network: some are unstable by nature, such as Rprop where a gradient is 0
or nearly so, Adam on gradients that are rounding alone, and batch norm over one or two rows.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from training_kit import cut_calls

import mlpx
from mlpx import layers, losses, optimizers
from mlpx.ops.dispatch import using_fused
from mlpx.steps import cpu

pytestmark = pytest.mark.filterwarnings("ignore:batch_size. is 1, and batch norm")
USUAL = {"float32": 2e-3, "float64": 1e-8}
"""Differences, relative to the largest number, that need no explanation."""
BY_NATURE = 10.0
"""How many times as far as a reference that starts one rounding off it may be."""
ACTIVATIONS = ("identity", "relu", "tanh", "sigmoid", "gelu", "leaky_relu", "softplus")
"""All are tried elsewhere, one by one; each compiles pieces of its own."""
HEADS = {
    losses.CrossEntropy: ("softmax", "masked_softmax"),
    losses.Focal: ("softmax", "masked_softmax"),
    losses.BinaryCrossEntropy: ("sigmoid",),
    losses.BinaryFocal: ("sigmoid",),
    losses.Poisson: ("exp",),
    losses.Gamma: ("exp",),
}


@dataclass
class Case:
    """A network, its data and its fit, drawn from a number."""

    number: int
    fit: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = self.rng = np.random.default_rng(self.number)
        self.dtype = str(rng.choice(["float32", "float64"]))
        self.n, self.n_in, self.n_out = (int(rng.integers(1, high)) for high in (60, 9, 6))
        self.x = rng.standard_normal((self.n, self.n_in)) * rng.choice([0.1, 1.0, 3.0])
        self.stack = self._draw_stack()
        self.loss, self.head = self._draw_loss()
        self.y = self._draw_targets()
        self._draw_masks()
        self.fit |= {
            "epochs": int(rng.integers(1, 4)),
            "batch_size": int(rng.integers(1, self.n + 1)),
            "shuffle": bool(rng.integers(2)),
            "seed": int(rng.integers(100)),
            "n_threads": int(rng.integers(1, 3)),
            "deterministic": bool(rng.integers(2)),
        }
        self.calls = int(rng.integers(100))
        self.kind, self.options = self._draw_optimizer()

    def _maybe(self, value: Any, otherwise: Any, chance: float = 0.25) -> Any:
        return value if self.rng.random() < chance else otherwise

    def _draw_stack(self) -> list[tuple[type, dict[str, Any]]]:
        rng, width, stack = self.rng, self.n_in, []
        for _ in range(rng.integers(0, 7)):
            kind = rng.choice(["dense", "dense", "activation", "dropout", "layer", "batch"])
            activation = str(rng.choice(ACTIVATIONS))
            if kind == "dense":
                n_out = int(rng.integers(1, 20))
                factors = {"lr_factor": self._maybe(float(rng.choice([0.0, 0.5])), 1.0, 0.15)}
                factors["bias_lr_factor"] = self._maybe(float(rng.choice([0.0, 2.0])), None, 0.15)
                options = {"n_in": width, "n_out": n_out, "activation": activation, "bias": rng.random() > 0.2}
                stack.append((layers.Dense, options | factors))
                width = n_out
            elif kind == "activation":
                stack.append((layers.Activation, {"kind": activation}))
            elif kind == "dropout":
                stack.append((layers.Dropout, {"p": float(rng.choice([0.0, 0.3, 0.7]))}))
            elif kind == "layer":
                stack.append((layers.LayerNorm, {"n": width, "eps": float(rng.choice([1e-5, 0.1]))}))
            else:
                options = {"momentum": float(rng.choice([0.1, 1.0])), "eps": float(rng.choice([1e-5, 0.1]))}
                stack.append((layers.BatchNorm, {"n": width} | options))
        return [*stack, (layers.Dense, {"n_in": width, "n_out": self.n_out})]

    def _draw_loss(self) -> tuple[losses.Loss, str]:
        rng, o = self.rng, self.n_out
        smoothing, weights = self._maybe(0.2, 0.0), self._maybe(tuple((rng.integers(0, 4, o) + 0.5).tolist()), None)
        loss = [
            losses.CrossEntropy(smoothing, weights),
            losses.CrossEntropy(0.0, weights),
            losses.BinaryCrossEntropy(smoothing, weights),
            losses.SquaredError(),
            losses.AbsoluteError(),
            losses.Huber(float(rng.choice([0.3, 1.0]))),
            losses.Quantile(tuple(rng.uniform(0.1, 0.9, o).tolist())),
            losses.Poisson(),
            losses.Gamma(),
            losses.Hinge(),
            losses.BinaryFocal(float(rng.choice([0.0, 1.5, 2.0]))),
            losses.Focal(float(rng.choice([0.0, 1.5, 2.0]))),
        ][rng.integers(12)]
        return loss, str(rng.choice([*HEADS.get(type(loss), ("linear", "tanh")), "linear"]))

    def _draw_targets(self) -> np.ndarray:
        rng, shape = self.rng, (self.n, self.n_out)
        if isinstance(self.loss, losses.ClassLoss):
            labels = rng.integers(0, self.n_out, self.n)
            return self._maybe(rng.dirichlet(np.ones(self.n_out), self.n), labels, 0.4)
        if isinstance(self.loss, losses.LabelLoss):
            return (rng.random(shape) > 0.5).astype(float)
        if isinstance(self.loss, losses.Poisson | losses.Gamma):
            return rng.uniform(0.1, 3.0, shape)
        return rng.standard_normal(shape)

    def _draw_masks(self) -> None:
        rng, weight = self.rng, self.rng.random(self.n) * (self.rng.random(self.n) > 0.2)
        self.mask = None
        if weight.any():
            self.fit |= self._maybe({"sample_weight": weight}, {}, 0.4)
        if self.head != "masked_softmax":
            return
        mask = rng.random((self.n, self.n_out)) > 0.4
        if self.y.ndim == 1:
            mask[np.arange(self.n), self.y] = True
        else:
            mask |= self.y > 0
        mask[(rng.random(self.n) < 0.2) & (np.arange(self.n) > 0)] = False
        self.mask = mask
        self.fit["mask"] = mask
        if "sample_weight" in self.fit and not self.fit["sample_weight"][mask.any(axis=1)].any():
            del self.fit["sample_weight"]

    def _draw_optimizer(self) -> tuple[type[optimizers.Optimizer], dict[str, Any]]:
        rng, kinds = self.rng, list(optimizers.OPTIMIZERS.values())
        kind = kinds[rng.integers(len(kinds))]
        options = {
            "lr": float(rng.choice([0.001, 0.01, 0.05])),
            "clip_norm": self._maybe(float(rng.choice([0.01, 1.0])), None),
            "clip_value": self._maybe(0.01, None, 0.15),
            "l1": self._maybe(0.01, 0.0, 0.15),
            "l2": self._maybe(0.1, 0.0),
            "weight_decay": self._maybe(0.1, 0.0, 0.15),
            "schedule": str(rng.choice(["constant", "constant", "cosine", "step", "inverse_scaling", "exponential"])),
        }
        return kind, options

    def network(self) -> mlpx.Sequential:
        """Return the network, with its initial weights."""
        heads = {"softmax": layers.Softmax, "masked_softmax": layers.MaskedSoftmax, "linear": None}
        kind = heads.get(self.head, lambda: layers.Activation(self.head))
        inside = [made(**options) for made, options in self.stack]
        last = [] if kind is None else [kind()]
        return mlpx.Sequential(*inside, *last, loss=self.loss, dtype=self.dtype, seed=self.number)

    def train(self, mode: str, *, off: int = 0) -> tuple[mlpx.Sequential, np.ndarray, int]:
        """Return the network, all numbers that a fit leaves, and the step at which it diverged (-1: none).

        With ``off``, from weights and inputs that are some roundings off, and with gradients that are.
        """
        net, optimizer, x, fit = self.network(), self.kind(**self.options), self.x, self.fit
        if off:
            rng, eps = np.random.default_rng(off), float(np.finfo(self.dtype).eps)
            x = x * (1.0 + eps * rng.standard_normal(x.shape))
            for value in net.named_parameters().values():
                value += eps * rng.standard_normal(value.shape) * max(1e-3, float(np.abs(value).max()))

            def noise(gradient) -> None:
                size = eps * max(1e-3, float(np.abs(gradient).max()))
                for p in (p for layer in net.all_layers() for p in layer.parameters.values()):
                    p.grad += size * rng.standard_normal(p.shape)

            fit = fit | {"gradient_hook": noise}
        diverged, curve = -1, []
        with using_fused(mode), np.errstate(all="ignore"):
            try:
                curve = net.fit(x, self.y, optimizer=optimizer, progress=False, **fit).loss
            except mlpx.DivergenceError as error:
                diverged = error.step
        parts = (curve, net.parameters, net.buffers.statistics, *optimizer.state, [optimizer.steps])
        return net, np.concatenate([np.asarray(part, np.float64) for part in parts]), diverged


def distance(one: tuple, other: tuple) -> float:
    """Return the largest difference between two fits, relative to the largest number; infinite of other outcomes."""
    a, b = one[1], other[1]
    if one[2] != other[2] or a.shape != b.shape or not np.isfinite(a).all() or not np.isfinite(b).all():
        return 0.0 if one[2] == other[2] >= 0 else np.inf
    return float(np.abs(a - b).max() / max(1.0, float(np.abs(b).max())))


def compare(number: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Raise unless a network is trained alike; return whether by the plan."""
    case = Case(number)
    calls = np.random.default_rng(case.calls)
    most = calls.choice([2, 4, 1000])
    cut_calls(monkeypatch, lambda: int(calls.integers(1, most)))
    monkeypatch.setattr(cpu, "WORTH_THREADS", 0.0)
    fused, plain = case.train("auto"), case.train("off")
    apart = distance(fused, plain)
    if apart > USUAL[case.dtype]:
        by_nature = max(distance(case.train("off", off=off), plain) for off in range(1, 6))
        assert apart <= BY_NATURE * by_nature, f"{number}: {apart:.3g}, rounding alone {by_nature:.3g}: {case}"
    fused[0].parameters[...], fused[0].buffers.statistics[...] = plain[0].parameters, plain[0].buffers.statistics
    with np.errstate(all="ignore"):
        y = fused[0].predict(case.x, case.mask)
        with using_fused("off"):
            t = plain[0].predict(case.x, case.mask)
    far = ~np.isfinite(t)  # an exponential of a large number
    y[far] = t[far] = 0.0
    np.testing.assert_allclose(y, t, rtol=100 * USUAL[case.dtype], atol=USUAL[case.dtype] * max(1.0, np.abs(t).max()))
    return not fused[0].plan_declined


SLOW = [pytest.param(first, 500, marks=pytest.mark.slow) for first in range(1000, 5000, 500)]


@pytest.mark.parametrize(("first", "count"), [*((first, 50) for first in range(0, 300, 50)), *SLOW])
def test_networks_drawn_by_chance(monkeypatch, first, count) -> None:
    assert all(compare(number, monkeypatch) for number in range(first, first + count))


def _later_dropout(rows):
    return [replace(row, number=row.number + (row.op == "dropout")) for row in rows]


def _other_eps(rows):
    return [replace(row, real=1.1 * row.real) if row.op.endswith("norm") else row for row in rows]


def _other_momentum(rows):
    return [replace(row, momentum=0.9 * row.momentum) for row in rows]


@pytest.mark.parametrize("fault", [_later_dropout, _other_eps, _other_momentum])
def test_a_plan_that_is_wrong_would_be_seen(monkeypatch, fault) -> None:
    describe = cpu.describe
    monkeypatch.setattr(cpu, "describe", lambda *given, **options: fault(describe(*given, **options)))
    with pytest.raises(AssertionError, match=r"rounding alone|not equal"):
        any(compare(number, monkeypatch) is None for number in range(100))  # till one raises
