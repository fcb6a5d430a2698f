"""Callbacks, the history, and the progress bar."""

import math

import numpy as np
import pytest
from training_kit import N, X, Y, fit, network

from mlpx import callbacks, optimizers
from mlpx.ops.dispatch import using_fused
from mlpx.optimizers import SGD


class Recorder(callbacks.Callback):
    def __init__(self, name, log) -> None:
        self.name, self.log = name, log

    def on_start(self, run) -> None:
        self.log.append((self.name, "start", run.n_epochs))

    def on_epoch(self, run) -> None:
        self.log.append((self.name, "epoch", run.epoch))

    def on_end(self, run) -> None:
        self.log.append((self.name, "end", run.history.epochs))


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "conjugate_gradient", "scaled_conjugate_gradient"])
def test_callbacks_are_called_in_order(optimizer) -> None:
    log = []
    fit(network(), epochs=2, optimizer=optimizer, callbacks=[Recorder("a", log), Recorder("b", log)])
    epochs = [(name, "epoch", epoch) for epoch in range(2) for name in "ab"]
    assert log == [("a", "start", 2), ("b", "start", 2), *epochs, ("b", "end", 2), ("a", "end", 2)]


@pytest.mark.parametrize("optimizer", ["adam", "rprop", "lbfgs", "conjugate_gradient", "scaled_conjugate_gradient"])
def test_a_function_that_returns_something_true_ends_the_fit(optimizer) -> None:
    history = fit(network(), epochs=50, optimizer=optimizer, callbacks=[lambda run: run.epoch == 2])
    assert history.epochs == 3
    assert history.stopped == "callback"


def test_a_failing_callback_ends_the_fit_and_the_others_are_told() -> None:
    log = []

    def fail(run) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        fit(network(), callbacks=[Recorder("a", log), fail])
    assert log == [("a", "start", 4), ("a", "epoch", 0), ("a", "end", 1)]


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_what_the_history_holds(mode) -> None:
    net = network()
    first = net.loss_and_grad(X, Y)[0]
    with using_fused(mode):
        history = fit(net, batch_size=N, optimizer=SGD(lr=0.1, schedule="exponential"), validation=(X, Y))
    assert history.epochs == len(history.loss) == 4
    assert history.loss[0] == pytest.approx(first, rel=1e-5)
    np.testing.assert_allclose(history.loss[1:], history.validation_loss[:-1], rtol=1e-5)
    np.testing.assert_allclose(history.learning_rate, 0.1 * 0.95 ** np.arange(4))
    assert all(second >= 0 and math.isfinite(second) for second in history.seconds)
    assert history.steps == 4
    assert history.stopped == "epochs"
    assert history.best_epoch is None


def test_no_epochs_check_the_data_and_train_nothing() -> None:
    for optimizer in ("adam", "lbfgs", "scaled_conjugate_gradient"):
        net = network()
        history = fit(net, epochs=0, optimizer=optimizer)
        assert (history.epochs, history.steps, history.loss) == (0, 0, [])
        np.testing.assert_array_equal(net.parameters, network().parameters)


def test_a_progress_bar_needs_no_terminal(capfd) -> None:
    fit(network(), progress=True, validation=0.2)
    out, err = capfd.readouterr()
    assert out == ""
    assert "4/4" in err
    fit(network(), progress="auto")
    assert capfd.readouterr() == ("", "")


def test_schedules_do_not_carry_over_between_optimisers() -> None:
    assert optimizers.SGD().schedule is not optimizers.SGD().schedule


@pytest.mark.parametrize("progress", [True, "auto"])
def test_a_program_without_a_console_draws_nothing(progress, monkeypatch) -> None:
    class Closed:
        closed = True

    for stream in (None, Closed(), object()):
        if progress is True and type(stream) is object:
            continue  # what to draw on was asked for, and is there
        monkeypatch.setattr("sys.stderr", stream)
        fit(network(), progress=progress)
