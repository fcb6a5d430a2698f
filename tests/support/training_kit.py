"""The data and the network of the tests of training."""

from cases_kit import normal

import mlpx
from mlpx.steps import cpu
from mlpx.steps.thread_tuner import Choice

N, N_IN, C = 90, 4, 3
X = normal("x", N, N_IN)
Y = (X @ normal("w", N_IN, C)).argmax(axis=1)


def network(**options):
    return mlpx.MLP([N_IN, 7, C], **({"activation": "tanh", "seed": 1} | options))


def fit(net, **options):
    return net.fit(X, Y, **({"epochs": 4, "batch_size": 20, "progress": False} | options))


def cut_calls(monkeypatch, steps) -> None:
    """Let each call into compiled code take as many steps as the next number that ``steps()`` returns.

    Else how long a call has taken decides, which differs from run to run.
    """
    monkeypatch.setattr(cpu, "SLICE", 1.0)
    seconds = property(lambda _: 1.0 / (steps() + 0.5), lambda *_: None)
    monkeypatch.setattr(cpu.PlanSteps, "seconds_per_step", seconds, raising=False)
    monkeypatch.setattr(Choice, "next", lambda self, first: (self.candidates[0], 1.0))
