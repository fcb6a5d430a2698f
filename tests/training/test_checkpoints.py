"""Fits that go on from a checkpoint: they end with the bits of one that nothing interrupted, wherever it was made."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoint_kit import FITS, check_same, fit

from mlpx.steps import cpu
from mlpx.training.checkpoints import NAME, Checkpoints


@pytest.mark.parametrize("name", FITS)
def test_from_every_checkpoint_of_a_fit(name, tmp_path, monkeypatch) -> None:
    expected = fit(name)
    monkeypatch.setattr(cpu, "SLICE", 1e-9)  # a call takes one step: checkpoints lie between any two
    written = []
    write = Checkpoints.write

    def also_kept(self, *args, **options):
        write(self, *args, **options)
        written.append(Path(self.path).read_bytes())

    monkeypatch.setattr(Checkpoints, "write", also_kept)
    check_same(*fit(name, checkpoint=tmp_path / "all", every=0), *expected)
    steps = expected[1].steps
    assert len(written) >= steps
    monkeypatch.setattr(Checkpoints, "write", write)
    for number, content in enumerate(written):
        if name.startswith("two threads") and number % 4:
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / NAME).write_bytes(content)
        check_same(*fit(name, checkpoint=folder, every=1e9, resume=True), *expected)


KILLED = """
import os, random, signal, sys, time
import numpy as np, mlpx
folder, n_threads, kills = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
x, y = rng.standard_normal((1500, 20)), rng.integers(0, 3, 1500)
def fit(**options):
    net = mlpx.MLP([20, 128, 128, 3], norm="batch", dropout=0.2, seed=1)
    adam = mlpx.optimizers.Adam(lr=0.01, schedule="one_cycle")
    stopping = mlpx.EarlyStopping(patience=50)
    history = net.fit(x, y, epochs=EPOCHS, batch_size=64, optimizer=adam, validation=0.2, callbacks=[stopping],
        n_threads=n_threads, progress=False, **options)
    return net.parameters.tobytes(), net.buffers.statistics.tobytes(), history.loss, history.validation_loss,
    history.steps
EPOCHS = 1
fit(checkpoint=folder + "/warm", every=0)  # compiles
EPOCHS = 4
began = time.perf_counter()
expected = fit()
length = time.perf_counter() - began
chance, killed, rounds, over = random.Random(n_threads), 0, 1, False
while killed < kills or not over:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            done = fit(checkpoint=f"{folder}/{rounds}", every=chance.choice((0, 0, 0.05)), resume=True)
            os.write(writer, b"y" if done == expected else b"n")
        finally:
            os._exit(0)
    os.close(writer)
    if killed < kills:
        time.sleep(length * chance.random())
        os.kill(child, signal.SIGKILL)
    killed += os.waitpid(child, 0)[1] != 0
    answer = os.read(reader, 1)
    os.close(reader)
    assert answer != b"n", "other bits"
    over = answer == b"y"
    rounds += over and killed < kills
print(killed, rounds)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_killed_at_any_moment(n_threads, tmp_path) -> None:
    code = [sys.executable, "-c", KILLED, str(tmp_path), str(n_threads), "20"]
    done = subprocess.run(code, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    killed, rounds = map(int, done.stdout.split())
    assert killed >= 20
    assert rounds >= 1
    for folder in tmp_path.iterdir():
        assert [each.name for each in folder.iterdir()] == [NAME], "left over"
