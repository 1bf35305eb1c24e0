"""The library: which file a name means, what is known about each, and searching. Safe to use from several threads."""

import os
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from loraloom.catalogue.facts import Facts, Structure, read_facts, read_told
from loraloom.catalogue.index import Index
from loraloom.catalogue.looking import looking_at
from loraloom.catalogue.scan import Item, LeftOut, config_beside, survey
from loraloom.catalogue.sidecar import beside
from loraloom.catalogue.snapshot import Snapshot, loose
from loraloom.errors import Ambiguous, NotFound, suggestion
from loraloom.filenames import SUFFIX, has_ending, stem
from loraloom.home import expanded
from loraloom.peek import peek
from loraloom.prompts import spelled, unquoted

_HASH = re.compile(r"(?:0x)?([0-9a-fA-F]{8,64})")
_BATCH = 250  # files that are read before others may read, and what they say is stored


class Catalogue:
    """The LoRAs below some folders. Names are looked up in it, never joined to a folder.

    A scan is a snapshot: `rescan` replaces it at once, so whoever asks meanwhile sees the old one or the new. Facts come from
    the index where it has them, else from the file: first metadata and sidecars (0.2 ms), then all of the header (up to 30 ms).
    """

    def __init__(self, folders: Iterable[Path], *, index: Path | None = None, follow_links: bool = False) -> None:
        """Looks at the folders; `index` is a file of facts to share with other processes. Links lead out of the folders only with
        `follow_links`. Raises NotFound for a missing folder."""
        self.folders, self.follow_links = tuple(folders), follow_links
        self.index = Index(index)
        self._scanning, self._reading = threading.Lock(), threading.Lock()
        self._structures: dict[object, Structure] = {}
        self._snapshot = Snapshot()
        self.rescan()

    @property
    def items(self) -> tuple[Item, ...]:
        """Every file of the last scan, in order of folders and names."""
        return self._snapshot.items

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What the last scan could not follow or read."""
        return self._snapshot.left_out

    def rescan(self) -> None:
        """See what has changed, by size and time of files and sidecars; nothing is opened. Raises what `scan` raises, and the
        catalogue stays as it was."""
        with self._scanning:
            found = survey(self.folders, follow_links=self.follow_links)
            self._snapshot = self._snapshot.followed_by(found)

    def facts(self, item: Item, *, complete: bool = True) -> Facts:
        """What is known about a file. Not `complete`: metadata and sidecars are enough."""
        return self._facts(self._snapshot, [item], complete=complete)[0]

    def complete(self) -> None:
        """Read all that is not known yet, so that nothing that follows has to wait, and let the index forget files that are gone.
        For a thread of its own: others are not held up."""
        snapshot = self._snapshot
        self._facts(snapshot, snapshot.items, complete=True)
        self.index.forget(self.folders, snapshot.items)

    def may_show(self, path: Path) -> bool:
        """Whether a file may be given to others: links lead out of the folders only where the settings say so."""
        real = path.resolve()
        return self.follow_links or any(real.is_relative_to(folder.resolve()) for folder in self.folders)

    def metadata(self, item: Item) -> Mapping[str, str]:
        """All metadata of a file: a stranger's text. Raises FileError."""
        with looking_at(item.path):
            return peek(item.path).metadata

    def get(self, identity: str) -> Item:
        """The file with this `Item.id`; raises NotFound."""
        found = self._snapshot.by_id.get(identity)
        if found is None:
            raise NotFound(f'no LoRA has the id "{identity[:40]}"; it may have been moved or deleted: look at the list again')
        return found

    def search(self, words: str = "", *, family: str | None = None, type: str | None = None, complete: bool = True) -> tuple[Item, ...]:
        """Every file with all of these words (in any case, also within other words) in its name, the path below the library,
        triggers, tags, aliases, family or types; of this family ("sd1" or "SD 1.x"), and with this type among its own.

        Not `complete`: does not wait for headers, so types, and families that no metadata tells, may be missing.
        """
        snapshot, wanted = self._snapshot, words.lower().split()
        found = zip(snapshot.items, self._facts(snapshot, snapshot.items, complete=complete), strict=True)
        return tuple(
            item
            for item, facts in found
            if (family is None or family.lower() in (facts.family.lower(), facts.title.lower()))
            and (type is None or type.lower() in facts.types)
            and (not wanted or all(word in text for text in [snapshot.text(item, facts)] for word in wanted))
        )

    def tag(self, item: Item) -> str:
        """The shortest name that means this file alone, as a tag says it: in quotes where it needs them. `find` leads back to it, and
        so does a prompt. Where no name means it alone it is the file's hash, else its id."""
        snapshot = self._snapshot
        digits = self.facts(item, complete=False).hash[:12]
        for name in (*item.names, *(f"{name}{SUFFIX}" for name in item.names), digits):
            if name and self._matches(snapshot, name) == self._matches(snapshot, spelled(name)) == (item,):
                return spelled(name)
        return item.id

    def called(self, item: Item) -> str:
        """What reports and recipes call the file: a name that means it alone; of a file that is not of the library its own."""
        return unquoted(self.tag(item)) if item.id in self._snapshot.by_id else item.name

    def find(self, name: str, *, paths: bool = True) -> Item:
        """The one file that `name` means, in quotes or not; `paths` allows those of this computer, which a server must not: absolute
        ones, and files below the current folder. What a file is called counts before what its metadata says, and a name as it is
        written before one that differs in case, Unicode form, slashes or spaces at its ends. Raises NotFound with the nearest names,
        Ambiguous with all that match.
        """
        if paths and (path := expanded(name)).is_absolute():
            return _at(path)
        snapshot = self._snapshot
        matches = self._matches(snapshot, name)
        if matches and all(_same_file(matches[0], other) for other in matches[1:]):
            return matches[0]
        if matches:
            lines = "\n".join(f"  {self.tag(item)}" for item in matches)
            raise Ambiguous(f'"{name}" is the name of {len(matches)} LoRAs; write one of\n{lines}')
        if paths and (here := _here(name)):
            return _at(here)
        if name.startswith("hf:"):
            raise NotFound(f'"{name}": LoRAs are not fetched from the hub yet; download the file into one of your folders')
        raise NotFound(self._nothing(snapshot, name))

    def _matches(self, snapshot: Snapshot, name: str) -> tuple[Item, ...]:
        """All files that a name means, paths aside. In quotes it may also be a name that has them itself."""
        plain = unquoted(name)
        both = (name,) if plain == name else (name, plain)
        return tuple(dict.fromkeys(item for each in both for item in self._meant(snapshot, each)))

    def _meant(self, snapshot: Snapshot, name: str) -> tuple[Item, ...]:
        """The files of the first kind of name that any has: by place, alias, hash, id, and place and alias loosely."""
        if called := _by(snapshot.by_name, name):
            return called
        facts = list(zip(snapshot.items, self._facts(snapshot, snapshot.items, complete=False), strict=True))
        if aliased := tuple(item for item, known in facts if not {name, stem(name)}.isdisjoint(known.aliases)):
            return aliased
        digits = _HASH.fullmatch(name)
        if hashed := tuple(item for item, known in facts if digits and known.hash.lower().startswith(digits[1].lower())):
            return hashed
        if name in snapshot.by_id:
            return (snapshot.by_id[name],)
        wanted = {loose(name), loose(stem(name))}
        near = _by(snapshot.by_letters, loose(name))
        return near or tuple(item for item, known in facts if any(loose(alias) in wanted for alias in known.aliases))

    def _facts(self, snapshot: Snapshot, items: Sequence[Item], *, complete: bool) -> list[Facts]:
        """The facts of these files, of the snapshot or not."""
        missing = [item for item in items if not snapshot.knows(item, complete=complete)]
        if missing:
            self._learn(snapshot, missing, complete=complete)
        return [snapshot.facts[item] for item in items]

    def _learn(self, snapshot: Snapshot, missing: Sequence[Item], *, complete: bool) -> None:
        """From the index, else from the files. Two threads that ask for the same files read them once."""
        for item, facts in self.index.load(missing).items():
            if not snapshot.knows(item, complete=facts.complete):
                snapshot.facts[item] = facts
        unknown = [item for item in missing if not snapshot.knows(item, complete=complete)]
        for start in range(0, len(unknown), _BATCH):
            with self._reading:
                unread = [item for item in unknown[start : start + _BATCH] if not snapshot.knows(item, complete=complete)]
                fresh = {item: read_facts(item, self._structures) if complete else read_told(item) for item in unread}
                snapshot.facts.update(fresh)
                self.index.store(fresh)

    def _nothing(self, snapshot: Snapshot, name: str) -> str:
        for entry in snapshot.left_out:
            if loose(name) in map(loose, entry.place.names):
                return f'"{name}": in the library this is {entry.reason}{entry.advice}'
        facts = self._facts(snapshot, snapshot.items, complete=False)
        spellings = [each for item, known in zip(snapshot.items, facts, strict=True) for each in (*item.names, *known.aliases)]
        near = suggestion(name, spellings)
        if near or not snapshot.items:
            where = ", ".join(str(folder) for folder in self.folders) or "no folder"
            return f'no LoRA named "{name}"{near}' if near else f'no LoRA named "{name}"; there are no LoRAs in {where}'
        known_names = sorted({item.name for item in snapshot.items})
        listed = ", ".join(known_names[:8]) + (f" and {len(known_names) - 8} more (loraloom list)" if len(known_names) > 8 else "")
        return f'no LoRA named "{name}"; there are {listed}'


def _by(names: Mapping[str, tuple[Item, ...]], name: str) -> tuple[Item, ...]:
    """The files of a name, with its ending or without."""
    return tuple(dict.fromkeys((*names.get(name, ()), *(names.get(stem(name), ()) if has_ending(name) else ()))))


def _same_file(one: Item, other: Item) -> bool:
    """Whether both paths lead to one file: hard links."""
    try:
        return one.path.samefile(other.path)
    except OSError:
        return False


def _here(name: str) -> Path | None:
    """The file of this name below the current folder, with the ending or without; None if there is none."""
    for path in (Path(name), Path(f"{name}{SUFFIX}")):
        try:
            if path.is_file():
                return Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute() keeps `..`
        except OSError:  # too long a name
            continue
    return None


def _at(path: Path) -> Item:
    """The file at a path."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in it
        raise NotFound(f'no file "{path}"{suggestion(str(path), _files_beside(path))}') from error
    return Item(path, path.parent, status.st_size, status.st_mtime_ns, beside(path), config_beside(path))


def _files_beside(path: Path) -> list[str]:
    try:
        return [str(item) for item in path.parent.iterdir() if has_ending(item.name)]
    except (OSError, ValueError):
        return []
