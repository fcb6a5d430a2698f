"""Streams, events and graphs: work runs at once, but in an order that a GPU would also keep, or it is a fault.

Every stream numbers its operations. A stream knows of another's operations up to a number, by events that it waited
for or through the host, which learns by synchronising. An operation that touches memory which another stream wrote
(or writes what another read), later than it knows of, is a race: `StandInError`.
"""

import itertools
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from standin.device import CUDARuntimeError, Memory, StandInError, Work, device

_numbers = itertools.count(1)
_host: dict[int, int] = {}
"""Of each stream, the number of the last operation that the host has waited for."""


def _merge(into: dict[int, int], other: dict[int, int]) -> None:
    for stream, number in other.items():
        into[stream] = max(into.get(stream, 0), number)


class Stream:
    """``cupy.cuda.Stream``. Streams that are not ``non_blocking`` keep in step with the default one: one timeline."""

    null: "Stream"

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        device.check_driver()
        self.ptr = 0 if null else next(_numbers) * 16
        self.non_blocking = non_blocking
        self.device_id = 0
        self.timeline = self.ptr if non_blocking else 0
        self._done = itertools.count(1)
        self.last = 0
        self.known: dict[int, int] = {}
        self._graph: Graph | None = None
        self._broken = False
        self._before: list[Stream] = []
        _streams[self.ptr] = self

    def __enter__(self) -> "Stream":
        self._before.append(current())
        self.use()
        return self

    def __exit__(self, *error: object) -> None:
        self._before.pop().use()

    def use(self) -> "Stream":
        """Make this the current stream."""
        global _current
        _current = self
        return self

    def synchronize(self) -> None:
        """Wait for all work; not allowed while the stream is captured."""
        self.forbid("cudaStreamSynchronize")
        device.counters.synchronisations += 1
        self.host_waits()

    def host_waits(self) -> None:
        """The host has waited for all that this stream was asked to do, and so for what that work waited for."""
        _merge(_host, self.known)
        _host[self.timeline] = max(_host.get(self.timeline, 0), _timelines.get(self.timeline, 0))

    def record(self, event: "Event | None" = None) -> "Event":
        """Return an event that stands for the work so far."""
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: "Event") -> None:
        """Let later work wait for an event."""
        _merge(self.known, event.known)

    @property
    def done(self) -> bool:
        """True: work runs at once."""
        return True

    # --- capture

    def begin_capture(self, mode: int | None = None) -> None:
        """Record the work that follows instead of doing it."""
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if device.failures.capture:
            raise CUDARuntimeError(801, "cudaErrorNotSupported", "operation not supported")
        if self._graph is not None:
            raise CUDARuntimeError(10000, "cudaErrorIllegalState", "the operation cannot be performed in the state")
        self._graph, self._broken = Graph(), False

    def end_capture(self) -> "Graph":
        """Return what was recorded."""
        graph, self._graph = self._graph, None
        if graph is None:
            raise CUDARuntimeError(901, "cudaErrorStreamCaptureInvalidated", "the stream is not capturing")
        if self._broken:
            text = "operation failed due to a previous error during capture"
            raise CUDARuntimeError(901, "cudaErrorStreamCaptureInvalidated", text)
        return graph

    def is_capturing(self) -> bool:
        """Say whether work is recorded."""
        return self._graph is not None

    def forbid(self, what: str) -> None:
        """Raise, and spoil the capture, if ``what`` is asked for while capturing."""
        if self._graph is not None:
            self._broken = True
            text = f"operation not permitted when stream is capturing ({what})"
            raise CUDARuntimeError(900, "cudaErrorStreamCaptureUnsupported", text)

    # --- work

    def run(self, work: Work, reads: Iterable[Memory] = (), writes: Iterable[Memory] = ()) -> Any:
        """Do some work, or record it; return its result, None where recorded."""
        reads, writes = list(reads), list(writes)
        if self._graph is not None:
            self._graph.steps.append((work, _weak(reads), _weak(writes)))
            return None
        self.order(reads, writes)
        return work()

    def order(self, reads: Sequence[Memory], writes: Sequence[Memory]) -> None:
        """Number an operation, and raise if the memory it touches is another stream's business still."""
        number = _timelines[self.timeline] = _timelines.get(self.timeline, 0) + 1
        for memory in (*reads, *writes):
            if memory.write is not None:
                self._check(memory, *memory.write, "was written")
        for memory in writes:
            for timeline, last in memory.reads.items():
                self._check(memory, timeline, last, "is read")
            memory.write, memory.reads = (self.timeline, number), {}
        for memory in reads:
            memory.reads[self.timeline] = number

    def _check(self, memory: Memory, timeline: int, number: int, what: str) -> None:
        knows = max(self.known.get(timeline, 0), _host.get(timeline, 0))
        if timeline != self.timeline and number > knows:
            raise StandInError(
                f"race between streams: an array of {memory.nbytes} bytes {what} on stream {timeline}; stream "
                f"{self.timeline} uses it without waiting for that"
            )


_timelines: dict[int, int] = {}
_streams: "weakref.WeakValueDictionary[int, Stream]" = weakref.WeakValueDictionary()
_current: Stream


def start_streams() -> None:
    """Begin with the default stream alone."""
    global _current
    _timelines.clear()
    _host.clear()
    null = object.__new__(Stream)
    null.__dict__.update(
        ptr=0, non_blocking=False, device_id=0, timeline=0, known={}, _graph=None, _broken=False, _before=[]
    )
    Stream.null = _current = null


def current(device_id: int = -1) -> Stream:
    """Return the current stream: ``cupy.cuda.get_current_stream``."""
    return _current


def with_pointer(ptr: int) -> Stream:
    """Return the stream of an address."""
    return Stream.null if ptr == 0 else _streams[ptr]


class Event:
    """``cupy.cuda.Event``."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        device.check_driver()
        self.known: dict[int, int] = {}
        self.timed = not disable_timing
        self.recorded = 0

    def record(self, stream: Stream | None = None) -> None:
        """Stand for the work of a stream so far."""
        stream = stream or current()
        self.known = dict(stream.known)
        self.known[stream.timeline] = _timelines.get(stream.timeline, 0)
        self.recorded = sum(_timelines.values())

    def synchronize(self) -> None:
        """Wait for that work."""
        device.counters.synchronisations += 1
        _merge(_host, self.known)

    @property
    def done(self) -> bool:
        """True: work runs at once."""
        return True


def elapsed(start: Event, end: Event) -> float:
    """Return milliseconds between two events: the stand-in counts a microsecond for each operation."""
    if not (start.timed and end.timed):
        raise CUDARuntimeError(400, "cudaErrorInvalidResourceHandle", "invalid resource handle")
    return (end.recorded - start.recorded) * 1e-3


class Graph:
    """``cupy.cuda.Graph``: work that was recorded. It holds addresses, and keeps no array alive."""

    def __init__(self) -> None:
        self.steps: list[tuple[Work, list[weakref.ref[Memory]], list[weakref.ref[Memory]]]] = []

    def launch(self, stream: Stream | None = None) -> None:
        """Do the recorded work once more."""
        stream = stream or current()
        stream.forbid("a graph within a graph")
        device.counters.graphs += 1
        for work, reads, writes in self.steps:
            stream.order(_alive(reads), _alive(writes))
            work()

    def upload(self, stream: Stream | None = None) -> None:
        """Nothing to do here."""


def _weak(memories: Iterable[Memory]) -> "list[weakref.ref[Memory]]":
    return [weakref.ref(m) for m in memories]


def _alive(references: "list[weakref.ref[Memory]]") -> list[Memory]:
    memories = [r() for r in references]
    if any(m is None for m in memories):
        raise StandInError("a graph uses an array that is gone: whoever captured it must keep its arrays alive")
    return [m for m in memories if m is not None]


start_streams()
