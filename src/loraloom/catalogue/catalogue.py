"""Which file a name means: file name, path below the library, alias, hash, absolute path."""

import re
from collections.abc import Iterable
from pathlib import Path

from loraloom.catalogue.facts import Facts, read_facts
from loraloom.catalogue.scan import SUFFIX, Item, scan
from loraloom.errors import Ambiguous, NotFound, suggestion

_HASH = re.compile(r"(?:0x)?([0-9a-fA-F]{8,64})")


class Catalogue:
    """The LoRAs below some folders. Names are looked up in it, never joined to a folder.

    A scan is a snapshot; `Catalogue(folders)` is cheap and sees what has changed since.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = tuple(folders)
        self.items = scan(self.folders)

    def facts(self, item: Item) -> Facts:
        return read_facts(item)

    def find(self, name: str, *, paths: bool = True) -> Item:
        """The one file that `name` means; `paths` allows absolute ones, which a server must not. What a file is called counts
        before what its metadata says. Raises NotFound with the nearest names, Ambiguous with all that match.
        """
        if paths and Path(name).expanduser().is_absolute():
            return self._at(Path(name).expanduser())
        if name.startswith("hf:"):
            raise NotFound(f'"{name}": LoRAs are not fetched from the hub yet; download the file into one of your folders')
        plain = name.removesuffix(SUFFIX)
        for matches in (self._called(plain), self._aliased(plain), self._hashed(name)):
            if len(matches) > 1:
                raise Ambiguous(self._which(name, matches))
            if matches:
                return matches[0]
        raise NotFound(self._nothing(name))

    def _called(self, name: str) -> list[Item]:
        return [item for item in self.items if name in item.names]

    def _aliased(self, name: str) -> list[Item]:
        return [item for item in self.items if name in read_facts(item).aliases]

    def _hashed(self, name: str) -> list[Item]:
        digits = _HASH.fullmatch(name)
        return [item for item in self.items if digits and read_facts(item).hash.lower().startswith(digits[1].lower())]

    def _at(self, path: Path) -> Item:
        try:
            status = path.stat()
        except OSError as error:
            beside = [str(item) for item in path.parent.glob(f"*{SUFFIX}")] if path.parent.is_dir() else []
            raise NotFound(f'no file "{path}"{suggestion(str(path), beside)}') from error
        return Item(path, path.parent, status.st_size, status.st_mtime_ns)

    def _which(self, name: str, matches: list[Item]) -> str:
        """All matches, each with the shortest spelling that means it alone."""
        lines = [f"  {self._own_name(item)}" for item in matches]
        return f'"{name}" is the name of {len(matches)} LoRAs; write one of\n' + "\n".join(lines)

    def _own_name(self, item: Item) -> str:
        for spelling in (item.below, f"{item.folder.name}/{item.below}"):
            if len(self._called(spelling)) == 1:
                return spelling
        return str(item.path)

    def _nothing(self, name: str) -> str:
        near = suggestion(name, [spelling for item in self.items for spelling in (item.below, item.name, *read_facts(item).aliases)])
        if near or not self.items:
            where = ", ".join(str(folder) for folder in self.folders) or "no folder"
            return f'no LoRA named "{name}"{near}' if near else f'no LoRA named "{name}"; there are no LoRAs in {where}'
        known = sorted({item.name for item in self.items})
        listed = ", ".join(known[:8]) + (f" and {len(known) - 8} more (loraloom list)" if len(known) > 8 else "")
        return f'no LoRA named "{name}"; there are {listed}'
