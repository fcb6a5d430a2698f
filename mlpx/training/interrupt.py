"""Ctrl-C during a fit: held back until the step that runs is complete."""

import signal
import sys
import threading
from types import FrameType
from typing import Self


class Interrupt:
    """A ``with`` block in which Ctrl-C is noted and raises no KeyboardInterrupt; the second one raises at once.

    Python delivers signals to the main thread alone, so in other threads nothing is changed. A
    program that has put its own handler in place of Python's keeps it.

    Attributes
    ----------
    requested : bool
        Whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._handler = self._note  # one object, to be known again
        self._frame: FrameType | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread() and _is_free(signal.getsignal(signal.SIGINT)):
            self._frame = sys._getframe(1)
            signal.signal(signal.SIGINT, self._handler)
        return self

    def __exit__(self, *error: object) -> None:
        if self._frame is not None and signal.getsignal(signal.SIGINT) is self._handler:  # not a callback's
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self._frame = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not self.in_force(frame):
            raise KeyboardInterrupt
        self.requested = True

    def in_force(self, frame: FrameType | None) -> bool:
        """Return whether the code at ``frame`` runs inside the ``with`` block.

        Another signal's handler may raise just before the block's end puts Python's own handler back.
        """
        while frame is not None and frame is not self._frame:
            frame = frame.f_back
        return frame is not None


def _is_free(handler: object) -> bool:
    """Return whether a handler of Ctrl-C is Python's own, or one that a block before has left behind."""
    ours = getattr(handler, "__self__", None)
    left = isinstance(ours, Interrupt) and not ours.in_force(sys._getframe())
    return left or handler is signal.default_int_handler
