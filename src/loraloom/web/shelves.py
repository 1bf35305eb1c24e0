"""The library's folders that new files may go into. Requests name them by id; where they are stays on this computer."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loraloom.errors import SettingsError, Taken, suggestion
from loraloom.filenames import SUFFIX
from loraloom.newfile import writable_folders
from loraloom.settings import Settings


@dataclass(frozen=True)
class Shelf:
    """`path` never leaves the server."""

    path: Path
    name: str  # its last part; numbered where two are alike

    @property
    def id(self) -> str:
        return hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]

    def place(self, name: str, *, overwrite: bool) -> Path:
        """Where a file of this name goes, which is no path. Raises Taken if one is there, and shall not be replaced."""
        path = self.path / f"{name}{SUFFIX}"
        if os.path.lexists(path) and not overwrite:
            raise Taken(f'there is a LoRA "{name}" in {self.name} already; give another name, or overwrite it', fields=("name",))
        return path


def shelves(settings: Settings, more: Iterable[Path] = ()) -> tuple[Shelf, ...]:
    """The folders of the settings, `./loras`, which is made if it is missing, and `more`: those that can be written into."""
    folders = writable_folders(settings, more)
    return tuple(_named(dict.fromkeys(Path(os.path.abspath(folder)) for folder in folders)))  # noqa: PTH100 - keeps links


def find_shelf(known: tuple[Shelf, ...], identity: str | None) -> Shelf:
    """The one of this id, the first for None. Raises SettingsError."""
    if not known:
        raise SettingsError("folder: no folder of the library can be written into; see the setting lora_folders")
    if identity is None:
        return known[0]
    found = next((shelf for shelf in known if identity in (shelf.id, shelf.name)), None)
    if found is None:
        names = [shelf.name for shelf in known]
        raise SettingsError(f"folder: no folder of the library is {identity!r}{suggestion(identity, names)}; there are {', '.join(names)}")
    return found


def _named(paths: Iterable[Path]) -> Iterator[Shelf]:
    seen: dict[str, int] = {}
    for path in paths:
        seen[path.name] = seen.get(path.name, 0) + 1
        yield Shelf(path, path.name if seen[path.name] == 1 else f"{path.name} ({seen[path.name]})")
