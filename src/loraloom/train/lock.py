"""One run at a time for one output. The system holds the lock for the process, so a run that was killed holds none."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from loraloom.errors import TrainingError, WriteFailed


@contextmanager
def held(path: Path) -> Iterator[None]:
    """The lock file `path`, made here and gone afterwards, is this run's. Raises TrainingError naming the process that has it."""
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise _in_use(path) from error
    except OSError as error:
        raise WriteFailed(f"{path}: this folder takes no lock: {error.strerror or error}; choose another --output") from error
    try:
        with suppress(OSError):  # who waits would read less, and that is all
            path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now():%H:%M}"}))
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is held: whoever opened it before asks again
        lock.release()


def require_free(path: Path) -> None:
    """Raises TrainingError naming the process that holds the lock; writes nothing."""
    if not path.exists():
        return
    try:
        with FileLock(path, timeout=0):
            pass
    except Timeout as error:
        raise _in_use(path) from error
    except OSError:  # `held` says what it is, if it still is when the run begins
        return


def _in_use(path: Path) -> TrainingError:
    try:
        told = json.loads(path.read_text())
        who = f"process {told['pid']} on {told['host']}, since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "a process that has not said which"
    return TrainingError(f"another run writes to this output ({who}; {path} is its lock); wait until it ends, or choose another --output")
