"""What a killed process left half written: its names say who writes them, and whoever writes there next removes those of the dead.

.out.safetensors.5f3a91c2-1a2b-66f0c3d1.0123456789ab.partial      a file beside its place
.loraloom-5f3a91c2-1a2b-66f0c3d1-abcd_123                         a folder, in which files are looked at first
"""

import hashlib
import platform
import re
import secrets
import shutil
import tempfile
import time
from contextlib import suppress
from functools import cache
from os import getpid
from pathlib import Path

ASIDE = ".loraloom-"
_WRITER = r"[0-9a-f]{8}-[0-9a-f]{1,8}-[0-9a-f]{1,12}"  # computer, process, and when it began: numbers of processes are used again
_LEFT = re.compile(
    rf"{re.escape(ASIDE)}(?:(?P<folder>{_WRITER})-)?[a-z0-9_]{{8}}|\..{{1,32}}?\.(?:(?P<file>{_WRITER})\.)?[0-9a-f]{{12}}\.partial"
)
_DAY = 24 * 60 * 60  # seconds; nothing is written for so long
_CLOCK = 5  # seconds by which the begin of one process may differ between two looks: clocks are set
_looked: set[Path] = set()


def beside(path: Path) -> Path:
    """A hidden name beside `path` for a file on its way. Leftovers in the folder go, once for each process: folders may be large."""
    if path.parent not in _looked:
        _looked.add(path.parent)
        forget_leftovers(path.parent)
    # Cut, so that a long name still has room for the ending (255 bytes on most systems).
    return path.with_name(f".{path.name[:32]}.{_me(getpid())}.{secrets.token_hex(6)}.partial")


def aside(folder: Path) -> "tempfile.TemporaryDirectory[str]":
    """A hidden folder in `folder`, for the time of a `with`. Leftovers go first."""
    forget_leftovers(folder)
    return tempfile.TemporaryDirectory(prefix=f"{ASIDE}{_me(getpid())}-", dir=folder)


def forget_leftovers(folder: Path) -> None:
    """Delete what dead processes of this computer left in this folder, and what those of others left more than a day ago. Only names
    that are made here are looked at."""
    with suppress(OSError):
        for path in folder.iterdir():
            found = _LEFT.fullmatch(path.name)
            if found and _over(path, found["folder"] or found["file"]):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    with suppress(OSError):
                        path.unlink()


@cache
def _me(process: int) -> str:
    """The writer that this process is; asked with its number, as a fork is another."""
    import psutil  # takes ten milliseconds to import, and only what writes needs it

    computer = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
    return f"{computer}-{process:x}-{int(psutil.Process(process).create_time()):x}"


def _over(path: Path, writer: str | None) -> bool:
    """Whether nobody writes it any more."""
    computer, _, which = (writer or "").partition("-")
    if computer == _me(getpid()).partition("-")[0]:
        return not _alive(*(int(number, 16) for number in which.split("-")))
    try:
        return time.time() - path.lstat().st_mtime > _DAY
    except OSError:
        return False


def _alive(process: int, began: int) -> bool:
    import psutil

    try:
        found = psutil.Process(process)
        return found.status() != psutil.STATUS_ZOMBIE and abs(found.create_time() - began) <= _CLOCK
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # it is somebody else's
        return True
