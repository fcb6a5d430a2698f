"""What the tests of losses compute with."""

import numpy as np
from cases_kit import flags, normal

N, C = 8, 5
Z, Y = 3.0 * normal("z", N, C), np.arange(N) * 7 % C
P = np.abs(normal("p", N, C)) / np.abs(normal("p", N, C)).sum(axis=1, keepdims=True)
R = np.where(np.arange(N) % 3 == 1, 0.0, 0.5 + np.abs(normal("r", N)))
CLASS_WEIGHT = 0.2 + np.abs(normal("class", C))
MASK = flags("mask", N, C) | np.eye(C, dtype=bool)[Y]
ELEMENTWISE = ["squared_error", "absolute_error", "huber", "quantile", "poisson", "gamma", "hinge", "sigmoid_focal"]
T = np.where(flags("hard", N, C), normal("t", N, C) > 0, 1 / (1 + np.exp(-normal("t", N, C))))
"""Targets of yes and no, and some in between."""
