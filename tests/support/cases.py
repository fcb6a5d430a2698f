"""The calls that every op is tested on, as data: tests of references, of kernels and of other array modules walk them.

The families register their generators when they are imported: cases_dense, cases_softmax, cases_loss, cases_norm
(with dropout) and cases_update.
"""

from collections.abc import Iterable
from typing import Any

import cases_dense
import cases_loss
import cases_norm
import cases_softmax
import cases_update
import pytest
from cases_kit import GENERATORS, Case

__all__ = ["GENERATORS", "Case", "cases", "cases_dense", "cases_loss", "cases_norm", "cases_softmax", "cases_update"]


def cases(name: str) -> list[Case]:
    """Return the cases of an op."""
    return list(GENERATORS[name]())


def as_params(names: Iterable[str]) -> list[Any]:
    """Return (op name, case) for every case of some ops, with test ids such as ``dense-f32-7x2x5``."""
    return [pytest.param(name, case, id=f"{name}-{case.id}") for name in names for case in cases(name)]
