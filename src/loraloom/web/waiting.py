"""Answers that take a while: waited for as long as the one who asked is there."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from fastapi import Request

from loraloom.errors import Interrupted

_LOOK_SECONDS = 0.25  # whether the one who asked is still there

Value = TypeVar("Value")


async def waited_for(future: "Future[Value]", connection: Request, left: Callable[[], object]) -> Value:
    """The future's result; `left` is called once if the one who asked hangs up meanwhile. Raises what the future holds, and Interrupted
    if it was cancelled."""
    outcome = asyncio.wrap_future(future)
    gone = False
    while not (await asyncio.wait({outcome}, timeout=_LOOK_SECONDS))[0]:
        if not gone and await connection.is_disconnected():
            gone = True
            left()
    if outcome.cancelled():
        raise Interrupted("nobody waits for this any more")
    return outcome.result()
