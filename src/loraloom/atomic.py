"""Files that are complete or not there: written beside their place, then renamed. What was there stays until then."""

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from loraloom.errors import WriteFailed

ASIDE = ".loraloom-"  # a folder beside its place, in which a file is made and looked at before it gets its name
_LEFT = re.compile(rf"{re.escape(ASIDE)}[a-z0-9_]{{8}}|\..{{1,32}}\.[0-9a-f]{{12}}\.partial")
_DAY = 24 * 60 * 60  # seconds; nothing is written for so long


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` for the file that takes its place when the block ends well. The block writes the file and syncs it.

    However the block ends, a reader of `path` sees the old file or the new one, whole. Raises WriteFailed for what the system says;
    the old file is untouched then and after every other error, and what was written is gone.
    """
    # Cut, so that a long name still has room for the ending (255 bytes on most systems).
    temporary = path.with_name(f".{path.name[:32]}.{secrets.token_hex(6)}.partial")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        advice = "free some space and try again" if is_full(error) else "check the folder and its permissions"
        raise WriteFailed(
            f"{path}: could not be written: {error.strerror or error}; {advice}. Nothing that was there has changed"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def is_full(error: OSError) -> bool:
    """Whether it says that the disk, or what this user may have of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def sync_folder(folder: Path) -> None:
    """Make a rename in it survive a power cut, on systems that can open folders (not Windows, not every network disk)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def forget_leftovers(folder: Path) -> None:
    """Delete what a run that was killed left in this folder more than a day ago. Only names that are made here are looked at."""
    with suppress(OSError):
        for path in folder.iterdir():
            if _LEFT.fullmatch(path.name) and time.time() - path.lstat().st_mtime > _DAY:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
