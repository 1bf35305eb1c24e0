"""Ctrl-C and SIGTERM as a wish: the step that runs is finished and saved, then the run stops.

Who cannot wait for the end of a step is heard as well: a second Ctrl-C or SIGTERM, and five seconds after the first SIGTERM, leave
the step where it is and save what the steps before it made. A third Ctrl-C stops at once.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE = 5.0  # seconds that a SIGTERM leaves to the step that runs; service managers often wait ten before they kill
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Abandoned(Exception):
    """Raised inside `Wishes.abandonable` where nobody waits for its end."""


class Wishes:
    """What was asked for so far."""

    def __init__(self) -> None:
        self.stop = False
        self._hurry = False
        self._inside = False
        self._timer: threading.Timer | None = None

    @contextmanager
    def abandonable(self) -> Iterator[None]:
        """Work that may be left at any point because it changes nothing that lasts; Abandoned is raised in it and comes out of it."""
        self._inside = True
        try:
            if self._hurry:
                raise Abandoned
            yield
        finally:
            self._inside = False

    def hear(self, number: int, _: FrameType | None = None) -> None:
        if self._hurry and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.stop:
            self.stop = True
            if number == signal.SIGTERM:
                self._timer = threading.Timer(PATIENCE, signal.raise_signal, (signal.SIGTERM,))
                self._timer.daemon = True
                self._timer.start()
            return
        self._hurry = True
        if self._inside:
            self._inside = False  # once is enough
            raise Abandoned

    def forget(self) -> None:
        """No signal of ours comes any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()


@contextmanager
def listening(wishes: Wishes) -> Iterator[None]:
    """Signals are wishes inside. Outside the main thread, which alone hears signals, nothing is ever asked for."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, wishes.hear) for each in _SIGNALS}
    try:
        yield
    finally:
        wishes.forget()
        for each, handler in before.items():
            signal.signal(each, handler)
