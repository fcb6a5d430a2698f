"""Learning-rate schedules: their curves, and that a fit follows them step by step."""

import math

import numpy as np
import pytest
from cases_kit import normal

import mlpx
from mlpx import schedules
from mlpx.ops.dispatch import using_fused
from mlpx.optimizers import SGD
from mlpx.schedules import SCHEDULES


def curve(schedule, n_steps=100, per_epoch=10):
    return np.array([schedule.factor(step, n_steps, step // per_epoch) for step in range(n_steps)])


def test_constant() -> None:
    assert (curve(schedules.Constant()) == 1.0).all()


def test_step_and_exponential() -> None:
    epochs = np.arange(100) // 10
    np.testing.assert_allclose(curve(schedules.Step(every=3, gamma=0.5)), 0.5 ** (epochs // 3))
    np.testing.assert_allclose(curve(schedules.Exponential(gamma=0.9)), 0.9**epochs)


def test_inverse_scaling() -> None:
    np.testing.assert_allclose(curve(schedules.InverseScaling(0.5)), 1 / np.sqrt(np.arange(1, 101)))


def test_cosine() -> None:
    factors = curve(schedules.Cosine(final=0.2))
    assert factors[0] == 1.0
    assert factors[50] == pytest.approx(0.6)
    assert schedules.Cosine(final=0.2).factor(100, 100, 10) == pytest.approx(0.2)
    assert (np.diff(factors) < 0).all()
    np.testing.assert_allclose(factors, [0.2 + 0.4 * (1 + math.cos(math.pi * t / 100)) for t in range(100)])


def test_one_cycle() -> None:
    factors = curve(schedules.OneCycle(rise=0.3, start_factor=0.1, final=0.01))
    assert factors[0] == pytest.approx(0.1)
    assert factors[30] == pytest.approx(1.0)
    assert factors.argmax() == 30
    assert (np.diff(factors[:31]) > 0).all()
    assert (np.diff(factors[30:]) < 0).all()
    assert schedules.OneCycle(final=0.01).factor(100, 100, 10) == pytest.approx(0.01)


def test_warm_up_then_another() -> None:
    factors = curve(schedules.WarmUp(20, then=schedules.Cosine()))
    np.testing.assert_allclose(factors[:20], np.arange(1, 21) / 20)
    np.testing.assert_allclose(factors[20:], curve(schedules.Cosine(), n_steps=80))


def test_warm_up_takes_a_name_too() -> None:
    np.testing.assert_array_equal(
        curve(schedules.WarmUp(20, then="cosine")), curve(schedules.WarmUp(20, then=schedules.Cosine()))
    )


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_a_schedule_may_be_set_by_name_later(mode) -> None:
    optimizer = SGD(lr=0.1)
    optimizer.schedule = "exponential"
    with using_fused(mode):
        history = mlpx.MLP([4, 3]).fit(
            normal("x", 9, 4), np.arange(9) % 3, epochs=3, optimizer=optimizer, progress=False
        )
    np.testing.assert_allclose(history.learning_rate, 0.1 * 0.95 ** np.arange(3))


def test_warm_up_longer_than_the_fit() -> None:
    assert curve(schedules.WarmUp(1000)).max() == pytest.approx(0.1)


def test_reduce_on_plateau() -> None:
    schedule = schedules.ReduceOnPlateau(gamma=0.1, patience=2, min_delta=0.5, smallest=0.005)
    factors = []
    for loss in (10, 9, 8.9, 8.8, 8, 8, 8, 8, 8, 8, 8):
        schedule.observe(loss)
        factors.append(schedule.factor(0, 1, 0))
    np.testing.assert_allclose(factors, [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.005, 0.005, 0.005])
    schedule.start()
    assert schedule.factor(0, 1, 0) == 1.0


def test_warm_up_passes_on_what_plateaus_observe() -> None:
    schedule = schedules.WarmUp(1, then=schedules.ReduceOnPlateau(gamma=0.5, patience=1))
    for loss in (1.0, 1.0):
        schedule.observe(loss)
    assert schedule.factor(5, 10, 0) == 0.5
    schedule.start()
    assert schedule.factor(5, 10, 0) == 1.0


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_fit_follows_its_schedule_step_by_step(name, mode) -> None:
    # A network y = b with target 0 and plain descent: each step multiplies b by 1 - lr * factor.
    net = mlpx.Sequential(mlpx.layers.Dense(1, 1, init="zeros", bias_init="ones"), dtype="float64")
    schedule = schedules.WarmUp(7) if name == "warm_up" else SCHEDULES[name]()
    with using_fused(mode):
        history = net.fit(
            np.zeros((10, 1)),
            np.zeros(10),
            epochs=12,
            batch_size=4,
            optimizer=SGD(lr=0.1, schedule=schedule),
            progress=False,
        )
    expected, b, rates = SCHEDULES[name]() if name != "warm_up" else schedules.WarmUp(7), 1.0, []
    expected.start()
    for epoch in range(12):
        for step in range(3 * epoch, 3 * epoch + 3):
            rate = 0.1 * expected.factor(step, 36, epoch)
            b *= 1 - rate
        rates.append(rate)
        expected.observe(history.loss[epoch])
    np.testing.assert_allclose(history.learning_rate, rates)
    np.testing.assert_allclose(net.layers[0].value("b"), [b], rtol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_names_stand_for_objects_with_their_defaults(name) -> None:
    assert type(schedules.find(name)) is SCHEDULES[name]
    schedule = SCHEDULES[name]()
    assert schedules.find(schedule) is schedule
    net = mlpx.MLP([4, 3])
    net.fit(normal("x", 9, 4), np.arange(9) % 3, epochs=2, optimizer=SGD(schedule=name), progress=False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: schedules.Step(every=0), "every: "),
        (lambda: schedules.Step(gamma=0), "gamma: "),
        (lambda: schedules.Exponential(gamma=-1), "gamma: "),
        (lambda: schedules.Cosine(final=-0.1), "final: "),
        (lambda: schedules.OneCycle(rise=1), "rise: "),
        (lambda: schedules.InverseScaling(power=-1), "power: "),
        (lambda: schedules.ReduceOnPlateau(gamma=1), "gamma: "),
        (lambda: schedules.ReduceOnPlateau(patience=0), "patience: "),
        (lambda: schedules.WarmUp(steps=0), "steps: "),
    ],
)
def test_options_that_cannot_be(make, words) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_schedule_of_one_s_own_that_is_no_dataclass_has_a_repr() -> None:
    class Odd(schedules.Schedule):
        def factor(self, step: int, n_steps: int, epoch: int) -> float:
            return 1.0

    assert "Odd" in repr(Odd())
    assert "Odd" in repr(SGD(schedule=Odd()))
