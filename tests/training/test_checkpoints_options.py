"""What a fit says of its checkpoints: those of other fits, damaged ones, Ctrl-C, callbacks, options that cannot be."""

import os
import signal

import numpy as np
import pytest
from checkpoint_kit import X, Y, check_same, fit, plain

import mlpx
from mlpx import optimizers, schedules
from mlpx.callbacks import Callback, Run
from mlpx.steps import cpu
from mlpx.training.checkpoints import NAME, Checkpoints


def stop_at(epoch):
    """Return a callback that fails at the end of an epoch, as a crash would."""

    def crash(run):
        if run.epoch == epoch:
            raise RuntimeError("crash")

    return crash


def crashed(folder, **more) -> None:
    with pytest.raises(RuntimeError, match="crash"):
        fit("clipped", checkpoint=folder, every=0, callbacks=[stop_at(1)], **more)


def test_a_fit_that_was_not_complete_is_not_begun_again_by_mistake(tmp_path) -> None:
    crashed(tmp_path)
    with pytest.raises(ValueError, match=r"checkpoint: '.*' is of a fit that was not complete\. Pass resume=True"):
        crashed(tmp_path)
    check_same(*fit("clipped", checkpoint=tmp_path, resume=True, callbacks=[stop_at(9)]), *fit("clipped"))
    other = fit("clipped", checkpoint=tmp_path, seed=8)  # which takes the place of the one that is complete
    check_same(*fit("clipped", checkpoint=tmp_path, seed=8, resume=True), *other)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"epochs": 5, "batch_size": 7}, "epochs was 3 and is 5; batch_size was 16 and is 7"),
        ({"optimizer": "sgd"}, "optimizer is another"),
        ({"optimizer": optimizers.AdamW(lr=0.02, clip_norm=0.5, l1=1e-3)}, "optimizer is another"),
        ({"x": X + 1}, "x and y is another"),
        ({"y": (Y + 1) % 3}, "x and y is another"),
        ({"validation": 0.5}, "validation is another"),
        ({"seed": 1}, "seed was 7 and is 1"),
        ({"callbacks": []}, r"callbacks was \['_Function'\] and is \[\]"),
    ],
)
def test_another_fit_is_refused_and_changes_nothing(other, message, tmp_path) -> None:
    crashed(tmp_path)
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(ValueError, match=f"checkpoint: .* is of another fit: .*{message}"):
        fit("clipped", checkpoint=tmp_path, resume=True, **{"callbacks": [stop_at(1)]} | other)
    assert (tmp_path / NAME).read_bytes() == before


def test_another_network_is_refused(tmp_path) -> None:
    crashed(tmp_path)
    net = plain(dtype="float64")
    with pytest.raises(ValueError, match="network is another"):
        net.fit(X, Y, epochs=3, batch_size=16, progress=False, checkpoint=tmp_path, resume=True)
    np.testing.assert_array_equal(net.parameters, plain(dtype="float64").parameters)


def test_damaged_checkpoints_and_other_files(tmp_path) -> None:
    crashed(tmp_path)
    data = bytearray((tmp_path / NAME).read_bytes())
    data[-1] ^= 1
    (tmp_path / NAME).write_bytes(data)
    for resume in (True, False):
        with pytest.raises(mlpx.ModelFileError, match="is not a usable mlpx model file"):
            fit("clipped", checkpoint=tmp_path, resume=resume)
    plain().save(tmp_path / NAME)
    with pytest.raises(mlpx.ModelFileError, match="a model of the kind 'network', and no checkpoint"):
        fit("clipped", checkpoint=tmp_path, resume=True)


def test_the_network_in_a_checkpoint(tmp_path) -> None:
    net, history = fit("clipped", checkpoint=tmp_path)
    loaded = mlpx.load(tmp_path / NAME)
    np.testing.assert_array_equal(loaded.parameters, net.parameters)
    assert loaded.history.loss == history.loss
    fit("a loss of one's own", checkpoint=tmp_path / "own")
    with pytest.raises(mlpx.ModelFileError, match="loss: unknown name 'custom'"):
        mlpx.load(tmp_path / "own" / NAME)


@pytest.mark.parametrize("name", ["clipped", "layer by layer", "dropout and batch norm"])
def test_ctrl_c_leaves_a_checkpoint_of_where_it_came(name, tmp_path, monkeypatch) -> None:
    expected = fit(name)
    monkeypatch.setattr(cpu, "SLICE", 1e-9)
    pressed = []
    due = Checkpoints.due

    def press(self):
        pressed.append(1)
        if len(pressed) == 4:
            signal.raise_signal(signal.SIGINT)
        return due(self)

    monkeypatch.setattr(Checkpoints, "due", press)
    with pytest.raises(mlpx.TrainingInterrupted) as caught:
        fit(name, checkpoint=tmp_path)
    assert 2 <= caught.value.history.steps == mlpx.load(tmp_path / NAME).history.steps < expected[1].steps
    monkeypatch.setattr(Checkpoints, "due", due)
    check_same(*fit(name, checkpoint=tmp_path, resume=True), *expected)


class Counting(Callback):
    """A callback that remembers something."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_epoch(self, run: Run) -> None:
        self.seen.append(run.history.loss[-1])
        if len(self.seen) == 2 and not self.went_on:
            raise RuntimeError("crash")

    went_on = False

    def state(self):
        return {"seen": self.seen}

    def restore(self, run, state) -> None:
        self.seen, self.went_on = state["seen"], True


def test_callbacks_that_remember_something(tmp_path) -> None:
    with pytest.raises(RuntimeError, match="crash"):
        fit("clipped", checkpoint=tmp_path, every=0, callbacks=[Counting()])
    counting = Counting()
    _, history = fit("clipped", checkpoint=tmp_path, resume=True, callbacks=[counting])
    assert counting.seen == history.loss == fit("clipped")[1].loss


def test_what_a_killed_write_left_is_removed(tmp_path) -> None:
    (tmp_path / ".mlpx-0123456789abcdef.tmp").touch()
    (tmp_path / "mine.tmp").touch()
    fit("clipped", checkpoint=str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == [NAME, "mine.tmp"]


class Odd(schedules.Schedule):
    """A schedule of a user's own."""

    def factor(self, step: int, n_steps: int, epoch: int) -> float:
        return 1.0


REFUSED = {
    "no folder": ({"resume": True}, ValueError, "resume: needs the folder of the checkpoint"),
    "resume": ({"resume": "yes"}, TypeError, "resume: expected True or False"),
    "resume and a folder": ({"checkpoint": "x", "resume": 1}, TypeError, "resume: expected True or False"),
    "every": ({"checkpoint": "x", "every": -1}, ValueError, "every: expected a finite number"),
    "every of another kind": ({"checkpoint": "x", "every": "1s"}, TypeError, "every: expected a number"),
    "folder": ({"checkpoint": 5}, TypeError, "checkpoint: expected the name of a file"),
    "all rows": ({"checkpoint": "x", "optimizer": "lbfgs"}, ValueError, "checkpoint: LBFGS sees all rows at once"),

    "code": ({"checkpoint": "x", "optimizer": optimizers.SGD(schedule=Odd())}, TypeError, "schedule: .*cannot be"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_options_that_cannot_be(name, tmp_path, monkeypatch) -> None:
    options, kind, message = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    net = plain()
    with pytest.raises(kind, match=message):
        net.fit(X, Y, epochs=1, progress=False, **options)
    np.testing.assert_array_equal(net.parameters, plain().parameters)
    assert not os.path.exists(os.path.join("x", NAME))


def test_folders_that_cannot_be_made(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="checkpoint: "):
        fit("clipped", checkpoint=tmp_path / "file")
    with pytest.raises(NotADirectoryError, match="checkpoint: "):
        fit("clipped", checkpoint=tmp_path / "file" / "inside")
    fit("clipped", checkpoint=tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder" / NAME).is_file()
