"""The LoRA files below some folders. Directory entries only: no file is opened."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loraloom.errors import FileError, NotFound, suggestion

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Item:
    """One file of the library."""

    path: Path
    folder: Path  # of the library, as it was given
    size: int  # bytes
    mtime_ns: int

    @property
    def name(self) -> str:
        """The file's name without its ending: what a tag says."""
        return self.path.name.removesuffix(SUFFIX)

    @property
    def below(self) -> str:
        """The path below the library without its ending: `styles/neon`."""
        return self.path.relative_to(self.folder).as_posix().removesuffix(SUFFIX)

    @property
    def names(self) -> frozenset[str]:
        """Every spelling that the file's place gives; the last one tells files of two libraries apart."""
        return frozenset((self.name, self.below, f"{self.folder.name}/{self.below}"))

    @property
    def identity(self) -> tuple[Path, int, int]:
        """Changes whenever the file does."""
        return self.path, self.size, self.mtime_ns


def scan(folders: Iterable[Path]) -> tuple[Item, ...]:
    """Every `.safetensors` file at any depth, each once, in order of folders and names. Hidden ones are not looked at.

    Links are followed only to places inside these folders. Raises NotFound for a folder that is not there.
    """
    given = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100 - Path.absolute() keeps `..`
    inside = [folder.resolve() for folder in given]
    found: dict[Path, Item] = {}
    visited: set[Path] = set()
    for folder in given:
        if not folder.is_dir():
            near = suggestion(folder.name, _folders_beside(folder))
            raise NotFound(f"{folder}: there is no such folder of LoRAs{near}; see --lora-folder and the setting lora_folders")
        for item in _walk(folder, folder, inside, visited):
            found.setdefault(item.path.resolve(), item)
    return tuple(found.values())


def _walk(place: Path, folder: Path, inside: list[Path], visited: set[Path]) -> Iterator[Item]:
    real = place.resolve()
    if real in visited:
        return
    visited.add(real)
    try:
        with os.scandir(place) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise FileError(f"{place}: this folder cannot be read: {error.strerror or error}") from error
    for entry in listed:
        path = Path(entry.path)
        if entry.name.startswith(".") or (entry.is_symlink() and not any(path.resolve().is_relative_to(root) for root in inside)):
            continue
        if entry.is_dir():
            yield from _walk(path, folder, inside, visited)
        elif entry.name.endswith(SUFFIX) and entry.is_file():
            status = entry.stat()
            yield Item(path, folder, status.st_size, status.st_mtime_ns)


def _folders_beside(folder: Path) -> list[str]:
    try:
        return [item.name for item in folder.parent.iterdir() if item.is_dir()]
    except OSError:
        return []
