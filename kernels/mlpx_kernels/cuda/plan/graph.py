"""Launches recorded once as a CUDA graph and replayed: no launch from Python, however many kernels a step has."""

from collections.abc import Callable, Sequence
from typing import Any

from mlpx_kernels.cuda.gemm.products import Launch

MANY = 16
"""Steps of the longer graph: a small network's step takes less time on the device than a launch does on the host."""


class Graphs:
    """A step as its launches: run as they are, or captured and replayed, one or `MANY` steps at a time.

    What differs from step to step must lie in device memory, and every array must outlive this object. The first run
    is never captured: it compiles kernels and lets libraries allocate.

    Parameters
    ----------
    launches : sequence of callables
        Each launches one kernel on CuPy's current stream and does nothing else.
    stream : cupy.cuda.Stream
        Not the default one, which cannot be captured.
    captured : bool
        False to launch one by one always, as products through CuPy need.
    on_failure : callable
        Called with the reason when a capture fails; from then on the launches run one by one.

    Attributes
    ----------
    replays : int
        Graph launches so far.
    """

    def __init__(
        self, launches: Sequence[Launch], stream: Any, *, captured: bool, on_failure: Callable[[str], None]
    ) -> None:
        self.launches, self.stream, self.captured, self.on_failure = tuple(launches), stream, captured, on_failure
        self.replays = 0
        self._warm = False
        self._graphs: dict[int, Any] = {}

    def __call__(self, times: int) -> None:
        """Run the launches ``times`` times on the stream."""
        if times and not self._warm:
            self._run()
            self._warm, times = True, times - 1
        for length in (MANY, 1):
            while times >= length:
                graph = self._graph(length)
                if graph is None:
                    for _ in range(length):
                        self._run()
                else:
                    graph.launch(stream=self.stream)
                    self.replays += 1
                times -= length

    def _run(self) -> None:
        for launch in self.launches:
            launch()

    def _graph(self, length: int) -> Any:
        """Return the graph of so many steps, captured on first use; None where there is none to be had."""
        if not self.captured:
            return None
        if length not in self._graphs:
            try:
                self._graphs[length] = self._capture(length)
            except Exception as error:  # whatever a driver or library objects to must not end the fit
                self.captured = False
                self.on_failure(f"{type(error).__name__}: {error}")
                return None
        return self._graphs[length]

    def _capture(self, length: int) -> Any:
        self.stream.begin_capture()
        try:
            for _ in range(length):
                self._run()
        except BaseException:
            # A stream left capturing would refuse everything that follows; ending the broken capture may itself fail.
            try:
                self.stream.end_capture()
            except Exception as error:
                raise RuntimeError("a capture failed and could not be ended") from error
            raise
        return self.stream.end_capture()
