"""Files by their ending, and how a few of many are named in a sentence."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from loraloom.errors import DatasetError


def with_ending(folder: Path, endings: Collection[str]) -> list[Path]:
    """Whatever the folder itself holds with one of these endings, by name, but for folders and what is hidden; a link that leads to
    nothing too, so that its reader names it. Raises DatasetError."""
    try:
        found = (path for path in folder.iterdir() if path.suffix.lower() in endings and not path.name.startswith("."))
        return sorted(path for path in found if not path.is_dir())
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read: {error.strerror or error}; check its permissions") from error


def file_name(path: Path) -> str:
    return path.name


def listed(paths: Sequence[Path], shown: Callable[[Path], str] = file_name, most: int = 3) -> str:
    """`a.png, b.png, c.png and 4 more`."""
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(shown(path) for path in paths[:most]) + more
