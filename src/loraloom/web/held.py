"""Which bases are open: what a person and a load balancer want to know before they send work."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from loraloom.errors import LoraError

BaseState = Literal["closed", "opening", "open", "dropped", "failed"]
_BUG = "a bug in loraloom; the server's log has its traceback"


@dataclass(frozen=True)
class Holding:
    """`problem` says why a base is dropped or failed."""

    state: BaseState = "closed"
    problem: str = ""


class Held:
    """The state of each base by its source; for any thread.

    A base is `dropped` when a job on it ended in a bug: the next one opens it again. It is `failed` when it could not be opened.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, Holding] = {}

    def of(self, source: str) -> Holding:
        with self._lock:
            return self._found.get(source, Holding())

    @property
    def counts(self) -> Mapping[str, int]:
        """How many bases are in each state."""
        with self._lock:
            return Counter(each.state for each in self._found.values())

    @contextmanager
    def opening(self, source: str) -> Iterator[None]:
        """The base is open when the block ends well."""
        open_already = self.of(source).state == "open"
        if not open_already:
            self._set(source, Holding("opening"))
        try:
            yield
        except BaseException as error:  # of every kind, and raised again: "opening" must not stay
            self._set(source, Holding("failed", str(error) if isinstance(error, LoraError) else _BUG))
            raise
        self._set(source, Holding("open"))

    def drop(self, source: str) -> None:
        """A job on it ended in a bug."""
        if self.of(source).state != "failed":
            self._set(source, Holding("dropped", _BUG))

    def close(self, source: str) -> None:
        """Its session has ended in good order; what is known of a base that is not open stays."""
        with self._lock:
            if self._found.get(source, Holding()).state == "open":
                del self._found[source]

    def _set(self, source: str, holding: Holding) -> None:
        with self._lock:
            self._found[source] = holding
