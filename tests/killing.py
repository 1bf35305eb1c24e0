"""Children that kill themselves at a chosen write, as a power cut or `kill -9` would. For programs of their own: they fork."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def forked(work: Callable[[], None]) -> int:
    """The exit status of a child that did the work."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            work()
            sys.stdout.flush()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - a forked child must end here
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(point: int) -> None:
    """From here on the `point`-th fsync, rename or link is the last thing that this process does."""
    calls = iter(range(1, 1_000_000))

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **named: Any) -> Any:
            if next(calls) == point:
                die()
            return original(*values, **named)

        return call

    os.fsync = counted(os.fsync)
    for name in ("rename", "replace", "hardlink_to"):
        setattr(Path, name, counted(getattr(Path, name)))
