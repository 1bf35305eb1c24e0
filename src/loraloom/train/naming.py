"""Files by their ending, and how a few of many are named in a sentence."""

from collections.abc import Callable, Sequence
from pathlib import Path

from loraloom.errors import DatasetError


def with_ending(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """The folder's own files with one of these endings, by name; hidden ones are left out. Raises DatasetError."""
    try:
        found = (path for path in folder.iterdir() if path.suffix.lower() in endings and not path.name.startswith("."))
        return sorted(path for path in found if path.is_file())
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read: {error.strerror or error}; check its permissions") from error


def file_name(path: Path) -> str:
    return path.name


def listed(paths: Sequence[Path], shown: Callable[[Path], str] = file_name, most: int = 3) -> str:
    """`a.png, b.png, c.png and 4 more`."""
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(shown(path) for path in paths[:most]) + more
