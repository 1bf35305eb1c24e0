"""Work that no signal interrupts: Ctrl-C, a service manager's SIGTERM, an alarm. What came meanwhile is heard when the work is done."""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

# Those that programs give a handler that raises; which of them there are depends on the system.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGBREAK")
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


def uninterrupted(work: Callable[[], T]) -> T:
    """The result of `work`. Handlers of signals that are written in Python run after it, and may raise then.

    Python runs them in the main thread only, so in other threads there is nothing to wait for.
    """
    waiting = _Waiting()
    try:
        try:
            waiting.begin()
            return work()
        finally:
            waiting.end()
    finally:
        waiting.end()  # again: an exception that another thread sends could have hit the first


class _Waiting:
    """The handlers of the process's signals while ours stand in their place."""

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._heard: list[int] = []

    def begin(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                self._handlers[number] = handler
                signal.signal(number, self._hear)

    def end(self) -> None:
        """The handlers are back, then each runs that was called for."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        while self._heard:
            number = self._heard.pop(0)
            self._handlers[number](number, sys._getframe())

    def _hear(self, number: int, _: FrameType | None) -> None:
        self._heard.append(number)
