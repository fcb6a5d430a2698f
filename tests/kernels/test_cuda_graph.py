"""A step's launches are run, captured and replayed in the right numbers, and a capture that fails ends nothing."""

from collections.abc import Callable

import pytest

from mlpx_kernels.cuda.plan.graph import MANY, Graphs


class Recorded:
    def __init__(self, launches: list[str], done: list[str]) -> None:
        self.launches, self.done = launches, done

    def launch(self, stream: object) -> None:
        self.done.extend(self.launches)


class Stream:
    """Takes launches down while it captures, as CUDA does, and carries them out otherwise."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.capturing: list[str] | None = None

    def launch(self, name: str) -> None:
        (self.done if self.capturing is None else self.capturing).append(name)

    def begin_capture(self) -> None:
        assert self.capturing is None
        self.capturing = []

    def end_capture(self) -> Recorded:
        assert self.capturing is not None
        graph, self.capturing = Recorded(self.capturing, self.done), None
        return graph


def step(stream: Stream, *names: str) -> list[Callable[[], None]]:
    return [lambda name=name: stream.launch(name) for name in names]


def silent(reason: str) -> None:
    raise AssertionError(reason)


@pytest.mark.parametrize("calls", [[1], [2, 3], [MANY + 1], [3 * MANY + 5], [0, 1, 0, 40], [1] * 20])
def test_steps_are_taken_as_often_as_asked(calls: list[int]) -> None:
    stream = Stream()
    graphs = Graphs(step(stream, "a", "b"), stream, captured=True, on_failure=silent)
    for times in calls:
        graphs(times)
    assert stream.done == ["a", "b"] * sum(calls)


def test_a_step_is_one_graph_and_many_steps_are_one_too() -> None:
    stream = Stream()
    graphs = Graphs(step(stream, "a", "b"), stream, captured=True, on_failure=silent)
    graphs(1)
    assert graphs.replays == 0  # the first one warms up
    graphs(3)
    assert graphs.replays == 3
    graphs(2 * MANY)
    assert graphs.replays == 5


def test_without_capture_kernels_are_launched_one_by_one() -> None:
    stream = Stream()
    graphs = Graphs(step(stream, "a"), stream, captured=False, on_failure=silent)
    graphs(MANY + 3)
    assert graphs.replays == 0
    assert stream.done == ["a"] * (MANY + 3)


def test_a_capture_that_fails_says_why_and_the_steps_go_on() -> None:
    stream = Stream()
    reasons: list[str] = []

    def stubborn() -> None:
        if stream.capturing is not None:
            raise NotImplementedError("not during capture")
        stream.launch("b")

    graphs = Graphs([*step(stream, "a"), stubborn], stream, captured=True, on_failure=reasons.append)
    graphs(5)
    graphs(MANY + 2)
    assert stream.done == ["a", "b"] * (MANY + 7)
    assert reasons == ["NotImplementedError: not during capture"]
    assert stream.capturing is None


def test_a_capture_that_cannot_even_be_ended() -> None:
    class Broken(Stream):
        def end_capture(self) -> Recorded:
            self.capturing = None
            raise RuntimeError("invalidated")

    stream, reasons = Broken(), []
    graphs = Graphs(step(stream, "a"), stream, captured=True, on_failure=reasons.append)
    graphs(4)
    assert stream.done == ["a"] * 4
    assert len(reasons) == 1
