"""One job: how far it is, and how it ended. The worker writes, everybody reads."""

import math
import secrets
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
        """Of what is kept of it when it is over."""
        return 0

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
