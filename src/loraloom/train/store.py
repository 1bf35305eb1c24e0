"""A folder of tensors that were computed once, known by what they were computed from. One safetensors file each.

A key is the sha256 of everything that decides the tensors, the weights that made them included, so an entry is never read for another
base, picture or size. An entry says what it is of and the hash of its tensors; what does not agree is made anew and counted.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from loraloom import tensorfile
from loraloom.errors import FileError, WriteFailed
from loraloom.home import expanded
from loraloom.tensorfile import Header
from loraloom.train.naming import listed

if TYPE_CHECKING:
    from torch import Tensor

_VERSION = "1"  # of what entries hold
_LEFTOVER = 3600  # seconds after which a half-written file has no writer any more


class Store:
    """`tensors` gives what is kept, or makes and keeps it. Counts how often it did which; `damaged` names files that were made anew."""

    def __init__(self, folder: str, *, base: str = "") -> None:
        """An empty name keeps nothing; `base` says what computes and is in every key.

        Raises WriteFailed for a folder that cannot be made.
        """
        self._base = base
        self.folder = expanded(folder).resolve() if folder else None
        self.found, self.made = 0, 0
        self.damaged: list[Path] = []
        if self.folder is not None:
            _prepare(self.folder)

    def tensors(self, kind: str, key: Mapping[str, str], make: "Callable[[], Mapping[str, Tensor]]") -> "Mapping[str, Tensor]":
        """`make()`, or what it gave the last time for this kind and key. Raises WriteFailed."""
        if self.folder is None:
            return make()
        told = {"kind": kind, "version": _VERSION, "base": self._base, **key}
        path = self.folder / f"{kind}-{hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()}.safetensors"
        kept = self._read(path, told)
        if kept is not None:
            self.found += 1
            return kept
        self.made += 1
        fresh = make()
        if path in self.damaged or not path.exists():  # another run may have made it meanwhile, and may be reading it
            tensorfile.write(path, fresh, told | {"content": tensorfile.content_hash(fresh)})
        return fresh

    def told(self) -> Iterator[str]:
        """What a run says of it once everything is there."""
        if self.damaged:
            yield f"{len(self.damaged)} damaged entries of the cache were made anew: {listed(self.damaged)}"
        if self.folder is not None:
            yield f"cache {self.folder}: {self.found} entries found, {self.made} made"

    def _read(self, path: Path, told: Mapping[str, str]) -> "Mapping[str, Tensor] | None":
        if not path.exists():
            return None
        try:
            header = Header.read(path)
            found = tensorfile.load_tensors(header, header.entries)
            expected = dict(told) | {"content": tensorfile.content_hash(found)}
        except FileError:
            expected, found = {}, {}
        if not found or dict(header.metadata) != expected:
            self.damaged.append(path)
            return None
        return found


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".*.partial"):
            with suppress(FileNotFoundError):  # another run may be writing beside
                if time.time() - path.stat().st_mtime > _LEFTOVER:
                    path.unlink()
    except OSError as error:
        raise WriteFailed(f"{folder}: the cache cannot be made: {error.strerror or error}; choose another --cache") from error
