"""Curves of mixes: answered while somebody waits, a few at a time, and each within its time."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from loraloom.errors import Interrupted, SettingsError
from loraloom.web import limits
from loraloom.web.answers import Busy, ShuttingDown

if TYPE_CHECKING:
    from loraloom.combine import CombineRequest, Curve, OnModule
    from loraloom.session import Session

Work = Callable[["Session"], "Curve"]


class Curves:
    """Has a thread of its own, so that no curve waits for a picture. One that needs a base's weights goes to the base's thread."""

    def __init__(self) -> None:
        self._room = threading.BoundedSemaphore(limits.CURVES)
        self._thread = ThreadPoolExecutor(1, "loraloom-curves")
        self._closing = threading.Event()

    def here(self, session: "Session") -> "Callable[[Work], Future[Curve]]":
        """Runs work with this session, in the thread for it."""
        return lambda work: self._thread.submit(work, session)

    def submit(self, request: "CombineRequest", left: threading.Event, call: "Callable[[Work], Future[Curve]]") -> "Future[Curve]":
        """The request's curve, by a session that `call` has; it ends early when `left` is set. Raises Busy, ShuttingDown."""
        if self._closing.is_set():
            raise ShuttingDown("this server is shutting down")
        if not self._room.acquire(blocking=False):
            raise Busy(f"{limits.CURVES} curves are waited for already; try again when they are there")
        try:
            future = call(lambda session: session.curve(request, self._watch(left)))
        except ShuttingDown:
            self._room.release()
            raise
        future.add_done_callback(lambda _: self._room.release())
        return future

    def close(self) -> None:
        """The curve that is being made ends with its module."""
        self._closing.set()

    def _watch(self, left: threading.Event) -> "OnModule":
        until = time.monotonic() + limits.CURVE_SECONDS

        def on_module(done: int, modules: int) -> None:
            if self._closing.is_set():
                raise ShuttingDown("this server is shutting down")
            if left.is_set():
                raise Interrupted("nobody waits for this curve any more")
            if time.monotonic() > until:
                raise SettingsError(
                    f"the curve of this mix takes longer than {limits.CURVE_SECONDS:g} seconds ({done} of {modules} modules); "
                    "it can be extracted all the same"
                )

        return on_module
