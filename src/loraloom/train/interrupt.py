"""Ctrl-C and SIGTERM as a wish: the step that runs is finished and saved, then the run stops. A second Ctrl-C stops at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_wishes() -> Iterator[Callable[[], bool]]:
    """A function that says whether a stop was asked for. Outside the main thread, which alone hears signals, it never was."""
    asked = threading.Event()

    def hear(number: int, _: FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {each: signal.signal(each, hear) for each in _SIGNALS}
    try:
        yield asked.is_set
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
