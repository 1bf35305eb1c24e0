"""Files as the system gives them: opened, told apart from what is no safetensors, and known again when they change."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from loraloom.errors import FileError
from loraloom.tensorfile.foreign import HEAD, is_pickled

CHUNK = 2**20  # bytes read at once


@contextmanager
def readable(path: Path) -> Iterator[IO[bytes]]:
    """The open file; every complaint of the system, within the block too, is a FileError."""
    with opened(path) as file:
        try:
            yield file
        except OSError as error:
            raise unreadable(path, error) from error


def opened(path: Path) -> IO[bytes]:
    """The open file; raises FileError. A pipe or a device is refused: it would be waited for without end."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise FileError(f"{path}: is a {'folder' if path.is_dir() else 'device or pipe'}, not a file")
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> FileError:
    return FileError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")


def stamp_of(status: os.stat_result) -> tuple[int, ...]:
    """What changes when somebody writes to the file: `Header.stamp`."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def is_pickle(path: Path) -> bool:
    """By its first bytes: a zip of torch's, or a pickle from before. Raises FileError."""
    with readable(path) as file:
        return is_pickled(file.read(HEAD))
