"""How much work something is, in figures that no machine and no load changes: for laws that a clock cannot hold."""

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple


class Work(NamedTuple):
    calls: int  # of functions, Python's and C's
    characters: int  # of the strings whose methods were called: what those may have walked through
    peak: int  # bytes that were allocated at once


def work_of(function: Callable[[], Any]) -> tuple[Work, Any]:
    """The work of a call, and its result."""
    calls = characters = 0

    def count(_: FrameType, event: str, called: Any) -> None:
        nonlocal calls, characters
        calls += event in ("call", "c_call")
        owner = getattr(called, "__self__", None) if event == "c_call" else None
        characters += len(owner) if isinstance(owner, str) else 0

    tracemalloc.start()
    sys.setprofile(count)
    try:
        result = function()
    finally:
        sys.setprofile(None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return Work(calls, characters, peak), result
