"""What the cold-start and memory suites run in processes of their own: ``python -m benchmarks.children TASK ...``.

Each task prints one line of JSON. Nothing is imported before the task asks for it.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any


def import_beyond_numpy() -> dict[str, Any]:
    """Return the seconds of ``import numpy`` and what ``import mlpx`` adds."""
    began = time.perf_counter()
    import numpy  # noqa: F401

    numpy_done = time.perf_counter()
    import mlpx  # noqa: F401

    return {"numpy": numpy_done - began, "mlpx": time.perf_counter() - numpy_done}


def first_fit() -> dict[str, Any]:
    """Return the seconds of a process's first fit, its imports apart."""
    import numpy as np

    import mlpx

    x = np.random.default_rng(0).standard_normal((256, 64))
    y = (x[:, 0] > 0).astype(int)
    net = mlpx.MLP([64, 128, 10])
    began = time.perf_counter()
    history = net.fit(x, y, epochs=1, progress=False)
    taken = time.perf_counter() - began
    return {"fit": taken, "loss": history.loss[-1], "declined": net.plan_declined}


def train(kind: str, path: str, rows: str, features: str) -> dict[str, Any]:
    """Return peak anonymous memory in MB and the fastest epoch's seconds of training on a file of float32 rows.

    ``kind`` "mapped" reads the file as training goes; "memory" copies it first.
    """
    import numpy as np

    import mlpx

    shape = (int(rows), int(features))
    x: Any = np.memmap(path, np.float32, "r", shape=shape)
    if kind == "memory":
        x = np.array(x)
    y = np.arange(shape[0]) % 10
    net = mlpx.MLP([shape[1], 64, 10])
    with Peak() as peak:
        history = net.fit(x, y, epochs=2, batch_size=512, progress=False)
    return {
        "peak_mb": peak.megabytes,
        "seconds": min(history.seconds),
        "loss": history.loss[-1],
        "declined": net.plan_declined,
    }


class Peak:
    """Watches this process's anonymous memory for a ``with`` block, from a thread, 50 times a second.

    Pages of a mapped file belong to the system's cache and are not counted; ``ru_maxrss`` would count them.
    """

    def __enter__(self) -> "Peak":
        self.kilobytes = anonymous()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.kilobytes = max(self.kilobytes, anonymous())

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()
        self.kilobytes = max(self.kilobytes, anonymous())

    @property
    def megabytes(self) -> float:
        """The most that was seen."""
        return self.kilobytes / 1e3


def anonymous() -> int:
    """Return the process's anonymous memory in use, in kB (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise OSError("/proc/self/status has no RssAnon")


TASKS = {"import": import_beyond_numpy, "fit": first_fit, "train": train}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](*sys.argv[2:])))
