"""Ctrl-C during a fit: held back until the step that runs is complete."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether Ctrl-C was pressed."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def held_back() -> Iterator[Interrupt]:
    """Note Ctrl-C instead of raising KeyboardInterrupt in the middle of an update; the second one raises at once.

    Python delivers signals to the main thread alone, so in other threads nothing is changed. A program that has put
    its own handler in place of Python's keeps it.
    """
    interrupt = Interrupt()
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupt
        return

    def note(number: int, frame: FrameType | None) -> None:
        interrupt.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        if signal.getsignal(signal.SIGINT) is note:  # not one that a callback has put there
            signal.signal(signal.SIGINT, signal.default_int_handler)
