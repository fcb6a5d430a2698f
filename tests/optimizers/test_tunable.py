"""Options of optimisers and schedules as grid searches and ``clone`` read and set them."""

import numpy as np
import pytest
from sklearn.base import clone

from mlpx import schedules
from mlpx.optimizers import OPTIMIZERS, Adam, Momentum, full_batch
from mlpx.schedules import SCHEDULES, Cosine, WarmUp

MADE = [
    *(kind() for kind in OPTIMIZERS.values()),
    *(kind() for kind in full_batch.FULL_BATCH.values()),
    *(kind() for kind in SCHEDULES.values()),
    Adam(lr=0.5, schedule=WarmUp(3, Cosine(0.1)), clip_norm=1),
]


@pytest.mark.parametrize("made", MADE, ids=repr)
def test_clones_have_the_same_options(made) -> None:
    assert clone(made, safe=False) == made
    assert type(made)(**made.get_params(deep=False)) == made


def test_options_inside_options() -> None:
    adam = Adam(schedule=WarmUp(3, Cosine(0.1)))
    assert adam.get_params()["schedule__then__final"] == 0.1
    assert "schedule__steps" not in adam.get_params(deep=False)
    before = adam.schedule
    assert adam.set_params(lr=0.25, schedule__steps=9, schedule__then__final=0.5) is adam
    assert adam == Adam(lr=0.25, schedule=WarmUp(9, Cosine(0.5)))
    assert before == WarmUp(3, Cosine(0.1))  # another estimator may have it too


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"lr": -1.0}, ValueError, "^lr: expected"),
        ({"lr": 0.5, "beta1": 2.0}, ValueError, "^beta1: expected"),
        ({"rate": 1.0}, ValueError, "^set_params: unknown name 'rate'"),
        ({"lr__x": 1.0}, ValueError, "lr=0.001 has no options"),
        ({"schedule__final": 1.0}, ValueError, "unknown name 'final'"),
        ({"lr": "much"}, TypeError, "^lr: expected a number"),
    ],
)
def test_nothing_changes_where_an_option_cannot_be(options, error, words) -> None:
    adam = Adam()
    with pytest.raises(error, match=words):
        adam.set_params(**options)
    assert adam == Adam()


def test_the_state_stays() -> None:
    made = Momentum(lr=0.5)
    made.state = [np.ones(3)]
    np.testing.assert_array_equal(made.set_params(momentum=0.5, schedule=schedules.Step()).state[0], np.ones(3))
    assert made.momentum == 0.5
