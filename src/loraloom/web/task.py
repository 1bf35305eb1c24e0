"""One job: how far it is, and how it ended. The worker writes, everybody reads."""

import math
import secrets
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from loraloom.errors import Interrupted, LoraError
from loraloom.web.api.models import State

if TYPE_CHECKING:
    from loraloom.session import Session


_TASK_BYTES = 4096  # of the object itself, about


class Task(ABC):
    """A job on its way. `interrupt` of the queue ends it; what is finished stays."""

    def __init__(self, base: str, told: Callable[[str], None]) -> None:
        """`base`, as a session takes it, says which worker does it; `told` gets the job's id whenever it changes."""
        self.id = secrets.token_hex(8)
        self.created = datetime.now(UTC)
        self.base = base
        self.state: State = "queued"
        self.over: Future[None] = Future()
        self.step = self.steps = 0
        self.rate, self.seconds_left = 0.0, math.inf
        self.notes: tuple[str, ...] = ()
        self.error: LoraError | None = None
        self.interrupted = threading.Event()
        self._told = told

    @abstractmethod
    def run(self, session: "Session") -> None:
        """Do it, in the worker's thread. Raises Interrupted soon after `interrupted` is set."""

    @property
    def nbytes(self) -> int:
        """Of all that it keeps now."""
        return _TASK_BYTES + sum(map(text_bytes, (*self.notes, str(self.error or ""))))

    def let_go(self) -> None:
        """It is over: what only running needed is not kept. Tracebacks hold the variables of everything that ran."""
        if self.error is not None:
            _untraced(self.error)

    def change(self, state: State) -> None:
        """Tell everybody. A job that is over stays so."""
        self.state = state
        self._told(self.id)

    def _stop_if_asked(self) -> None:
        if self.interrupted.is_set():
            raise Interrupted("interrupted")

    def _pace(self, rate: float) -> None:
        """`rate` is in steps a second, 0 where it is not known."""
        self.rate = rate
        self.seconds_left = (self.steps - self.step) / rate if rate else math.inf


def text_bytes(value: object) -> int:
    """Of a text in memory, about: its characters may take one to four bytes each. Anything else is small."""
    return sys.getsizeof(value) if isinstance(value, str) else 0


def _untraced(error: BaseException) -> None:
    """The error and those that led to it, with what they say alone."""
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__ or error
