"""What has changed, told to everybody who listens: names of changed things, each once, however often it changed meanwhile."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from loraloom.web import limits
from loraloom.web.answers import Busy

NETWORKS = "networks"  # told after a scan; all other news are ids of jobs
_PAUSE_SECONDS = 0.1  # before each answer: steps may come faster than anybody sees


class Listener:
    """One who listens, in one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._news: dict[str, None] = {}
        self._some = asyncio.Event()
        self._over = False

    async def next(self) -> list[str]:
        """What has changed since the last call, waiting for it; empty when the server stops."""
        await asyncio.sleep(_PAUSE_SECONDS)
        await self._some.wait()
        self._some.clear()
        news, self._news = list(self._news), {}
        return [] if self._over else news

    def hear(self, news: str | None) -> None:
        """From any thread; None is the end."""
        try:
            self._loop.call_soon_threadsafe(self._add, news)
        except RuntimeError:  # its loop is closed: nobody is there any more
            return

    def _add(self, news: str | None) -> None:
        if news is None:
            self._over = True
        else:
            self._news[news] = None
            if len(self._news) > limits.NEWS:
                del self._news[next(iter(self._news))]
        self._some.set()


class Feed:
    """Tells all listeners; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: set[Listener] = set()

    def tell(self, news: str | None) -> None:
        with self._lock:
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener.hear(news)

    @contextmanager
    def listen(self) -> Iterator[Listener]:
        """Raises Busy if too many listen already."""
        listener = Listener()
        with self._lock:
            if len(self._listeners) >= limits.LISTENERS:
                raise Busy(f"{len(self._listeners)} programs listen to this server's events already")
            self._listeners.add(listener)
        try:
            yield listener
        finally:
            with self._lock:
                self._listeners.discard(listener)
