"""Files that are complete or not there: written beside their place, then named. What was there stays until then, or for good."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from loraloom.errors import Taken, WriteFailed
from loraloom.leftovers import beside


@contextmanager
def replacing(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A name beside `path` for the file that takes its place when the block ends well. The block writes the file and syncs it.

    However the block ends, a reader of `path` sees the old file or the new one, whole. Without `overwrite` a file that is there when
    the block ends stays, and Taken says as which file the new one was kept. Raises WriteFailed for what the system says; the old
    file is untouched then and after every other error, and what was written is gone.
    """
    with written_beside(path) as temporary:
        yield temporary
        if overwrite:
            temporary.replace(path)
        else:
            give_name(temporary, path)


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A name beside `path` for a file that the block writes, syncs and names; what has no other name when it ends is gone.

    Raises WriteFailed for what the system says.
    """
    temporary = beside(path)
    try:
        yield temporary
    except OSError as error:
        advice = "free some space and try again" if is_full(error) else "check the folder and its permissions"
        raise WriteFailed(
            f"{path}: could not be written: {error.strerror or error}; {advice}. Nothing that was there has changed"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """The folder is there and can be written to afterwards, or WriteFailed; better before the work than after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        file = next((path for path in (folder, *folder.parents) if os.path.lexists(path) and not path.is_dir()), folder)
        raise WriteFailed(f"{file}: is there and is no folder, so nothing can be put into it; choose another place") from error
    except OSError as error:
        advice = "free some space and try again" if is_full(error) else "choose another folder, or check its permissions"
        raise WriteFailed(f"{folder}: this folder could not be made: {error.strerror or error}; {advice}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WriteFailed(f"{folder}: this folder cannot be written to; choose another one, or check its permissions")


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raises Taken if something is there and nobody asked to replace it: before the work, so that none is done in vain."""
    if not overwrite and os.path.lexists(path):
        raise Taken(f"{path} is there already and was not touched; give another name, or overwrite it", fields=("overwrite",))


def give_name(finished: Path, path: Path) -> None:
    """The finished file or folder gets the name `path` if nothing has it. Otherwise it gets the next free name (`zvz-2.safetensors`),
    and Taken says so: what took long to make is not lost. Raises OSError where the system says no."""
    try:
        take_name(finished, path)
    except FileExistsError as error:
        kept = _kept_beside(finished, path)
        raise Taken(
            f"{path} is there already and was not touched: it appeared while this was made, which is kept as {kept.name}; "
            "rename either, or overwrite it",
            kept=kept,
            fields=("overwrite",),
        ) from error


def take_name(finished: Path, path: Path) -> None:
    """Rename a file or folder to a name that nothing has; raises FileExistsError, with nothing changed, if something has it.

    The system decides, so of two programs that want one name exactly one gets it.
    """
    if finished.is_dir():
        _take_folder_name(finished, path)
        return
    try:
        path.hardlink_to(finished)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: the name is reserved by an empty file, which the finished one replaces
        path.open("xb").close()
        finished.replace(path)
    else:
        finished.unlink()


def _take_folder_name(finished: Path, path: Path) -> None:
    """The system renames a folder over an empty one, and over nothing else."""
    try:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        finished.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        raise


def _kept_beside(finished: Path, path: Path) -> Path:
    for number in count(2):
        with suppress(FileExistsError):
            other = path.with_name(f"{path.stem}-{number}{path.suffix}")
            take_name(finished, other)
            sync_folder(path.parent)
            return other
    raise AssertionError("there is always a next number")


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
