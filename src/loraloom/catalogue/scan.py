"""The LoRA files below some folders, and what lies beside each. Directory entries only: no file is opened."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from loraloom.catalogue.sidecar import ENDINGS, Beside
from loraloom.errors import FileError, NotFound, suggestion
from loraloom.newfile import SUFFIX

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = -62_135_596_800, 253_402_300_799  # seconds: the years 1 and 9999


@dataclass(frozen=True)
class Item:
    """One file of the library."""

    path: Path
    folder: Path  # of the library, as it was given
    size: int  # bytes
    mtime_ns: int
    beside: tuple[Beside, ...] = ()  # its sidecars

    def __hash__(self) -> int:
        """Of the place alone, which a Path keeps: a search looks up every file, and hashing all fields takes half of its time."""
        return hash(self.path)

    @cached_property
    def id(self) -> str:
        """16 hex digits that stand for the file's place: the same in every process, whatever the file holds."""
        return hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]

    @cached_property
    def name(self) -> str:
        """The file's name without its ending: what a tag says."""
        return _text(self.path.name).removesuffix(SUFFIX)

    @cached_property
    def below(self) -> str:
        """The path below the library without its ending: `styles/neon`."""
        inside = str(self.path)[len(str(self.folder)) :].lstrip(os.sep)  # relative_to takes ten times as long
        return _text(inside).replace(os.sep, "/").removesuffix(SUFFIX)

    @property
    def names(self) -> tuple[str, ...]:
        """Every spelling that the file's place gives, shortest first; the last one tells files of two libraries apart."""
        return self.name, self.below, f"{_text(self.folder.name)}/{self.below}"

    @property
    def modified(self) -> datetime:
        """When the file was written, in UTC; the nearest time that a calendar has for stamps that mean none."""
        return _EPOCH + timedelta(seconds=max(_FIRST, min(_LAST, self.mtime_ns // 10**9)))

    @property
    def identity(self) -> tuple[Path, int, int]:
        """Changes whenever the file does."""
        return self.path, self.size, self.mtime_ns


def scan(folders: Iterable[Path]) -> tuple[Item, ...]:
    """Every `.safetensors` file at any depth, each once, in order of folders and names. Hidden ones are not looked at.

    Links are followed only to places inside these folders. What goes away meanwhile is not there. Raises NotFound for a folder
    that is not there, FileError for one that cannot be read.
    """
    given = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100 - Path.absolute() keeps `..`
    inside = [folder.resolve() for folder in given]
    found: dict[str, Item] = {}
    visited: set[str] = set()
    for folder in given:
        if not folder.is_dir():
            near = suggestion(folder.name, _folders_beside(folder))
            raise NotFound(f"{folder}: there is no such folder of LoRAs{near}; see the setting lora_folders", fields=("lora_folder",))
        for real, item in _walk(folder, inside, visited):
            found.setdefault(real, item)
    return tuple(found.values())


def _walk(folder: Path, inside: list[Path], visited: set[str]) -> Iterator[tuple[str, Item]]:
    """Each file with its real place. A stack instead of recursion: folders may be nested deeper than Python calls."""
    pending: list[tuple[str, str, Item | None]] = [(str(folder), str(folder.resolve()), None)]
    while pending:
        place, real, item = pending.pop()
        if item is not None:
            yield real, item
        elif real not in visited:
            visited.add(real)
            pending += reversed(list(_listed(place, real, folder, inside)))


def _listed(place: str, real: str, folder: Path, inside: list[Path]) -> Iterator[tuple[str, str, Item | None]]:
    """(place, real place, item or None for a folder) of what a folder holds, in order of names."""
    try:
        with os.scandir(place) as entries:
            listed = {entry.name: entry for entry in entries if not entry.name.startswith(".")}
    except FileNotFoundError:
        return
    except OSError as error:
        raise FileError(f"{place}: this folder cannot be read: {error.strerror or error}") from error
    for name in sorted(listed):
        entry = listed[name]
        try:
            own = _real(entry, real, inside)
            if own is None:
                continue
            if entry.is_dir():
                yield entry.path, own, None
            elif name.endswith(SUFFIX) and entry.is_file():
                status = entry.stat()
                beside = tuple(_beside(name.removesuffix(SUFFIX), listed, real, inside))
                yield entry.path, own, Item(Path(entry.path), folder, status.st_size, status.st_mtime_ns, beside)
        except OSError:  # gone meanwhile, or a link to nowhere
            continue


def _beside(stem: str, listed: "Mapping[str, os.DirEntry[str]]", real: str, inside: list[Path]) -> Iterator[Beside]:
    for ending in ENDINGS:
        entry = listed.get(stem + ending)
        if entry is None:
            continue
        with suppress(OSError):
            if _real(entry, real, inside) is not None and entry.is_file():
                status = entry.stat()
                yield Beside(ending, status.st_size, status.st_mtime_ns)


def _real(entry: "os.DirEntry[str]", folder: str, inside: list[Path]) -> str | None:
    """Where an entry really is; None for a link that leads out of the library."""
    if not entry.is_symlink():
        return os.path.join(folder, entry.name)  # noqa: PTH118 - a Path for each of 10,000 files takes longer than the scan
    real = Path(os.path.realpath(entry.path))
    return str(real) if any(real.is_relative_to(root) for root in inside) else None


def _text(name: str) -> str:
    """A name that can be shown and encoded: bytes that are no text in the system's encoding become �."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "replace")


def _folders_beside(folder: Path) -> list[str]:
    try:
        return [item.name for item in folder.parent.iterdir() if item.is_dir()]
    except OSError:
        return []
