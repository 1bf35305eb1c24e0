"""The LoRA files below some folders, each under every name that leads to it, and what lies beside it. Directory entries only: no
file is opened."""

import hashlib
import os
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from loraloom.catalogue.sidecar import Beside, endings_beside
from loraloom.dialects.folder import CONFIG
from loraloom.errors import FileError, NotFound, suggestion
from loraloom.filenames import has_ending, shown, stem

_FOLLOW = "; to follow it, put the folder where it leads into the setting lora_folders, or turn the setting follow_links on"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = -62_135_596_800, 253_402_300_799  # seconds: the years 1 and 9999
_LINKED = 200_000  # entries that are looked at through links to folders; links of links multiply


class Place(NamedTuple):
    """Where a name of a file stands."""

    path: Path
    folder: Path  # of the library, as it was given

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return stem(shown(self.path.name))

    @property
    def below(self) -> str:
        """The path below the library without its ending: `styles/neon`."""
        inside = str(self.path)[len(str(self.folder)) :].lstrip(os.sep)  # relative_to takes ten times as long
        return stem(shown(inside).replace(os.sep, "/"))

    @property
    def names(self) -> tuple[str, ...]:
        """Every spelling that this place gives, shortest first; the last one tells files of two libraries apart."""
        return self.name, self.below, f"{shown(self.folder.name)}/{self.below}"


@dataclass(frozen=True)
class Item:
    """One file of the library."""

    path: Path  # without links where it lies in the library itself
    folder: Path  # of the library, as it was given
    size: int  # bytes
    mtime_ns: int
    beside: tuple[Beside, ...] = ()  # its sidecars
    config: tuple[int, int] | None = None  # size and mtime_ns of PEFT's config beside it, which says the alphas of its tensors
    also: tuple[Place, ...] = ()  # where links and other folders of the library lead to the same file

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
        return Place(self.path, self.folder).name

    @cached_property
    def below(self) -> str:
        """The path below the library without its ending: `styles/neon`."""
        return Place(self.path, self.folder).below

    @property
    def names(self) -> tuple[str, ...]:
        """Every spelling that the file's places give: of its own first, shortest first, then those of links."""
        return *Place(self.path, self.folder).names, *(name for place in self.also for name in place.names)

    @property
    def modified(self) -> datetime:
        """When the file was written, in UTC; the nearest time that a calendar has for stamps that mean none."""
        return _EPOCH + timedelta(seconds=max(_FIRST, min(_LAST, self.mtime_ns // 10**9)))

    @property
    def identity(self) -> tuple[Path, int, int, tuple[int, int] | None]:
        """Changes whenever the file does, or the config without which it is another network."""
        return self.path, self.size, self.mtime_ns, self.config


class LeftOut(NamedTuple):
    """An entry that leads to no file of the library, and why."""

    place: Place
    reason: str
    advice: str = ""  # what to do about it


class Survey(NamedTuple):
    """What a look at the folders found."""

    items: tuple[Item, ...]
    left_out: tuple[LeftOut, ...]


def scan(folders: Iterable[Path], *, follow_links: bool = False) -> tuple[Item, ...]:
    """The items of a `survey`."""
    return survey(folders, follow_links=follow_links).items


def survey(folders: Iterable[Path], *, follow_links: bool = False) -> Survey:
    """Every `.safetensors` file at any depth, each once, in order of folders and names. Hidden ones are not looked at.

    Links are followed to places inside these folders, everywhere with `follow_links`; a file has all names that lead to it. What goes
    away meanwhile is not there. Raises NotFound for a folder that is not there, FileError for one that cannot be read.
    """
    given = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100 - Path.absolute() keeps `..`
    look = _Look(None if follow_links else [folder.resolve() for folder in given])
    for folder in given:
        if not folder.is_dir():
            near = suggestion(folder.name, _folders_beside(folder))
            raise NotFound(f"{folder}: there is no such folder of LoRAs{near}; see the setting lora_folders", fields=("lora_folder",))
        look.walk(folder)
    look.walk_links()
    return Survey(look.items(given), tuple(look.left_out))


class _Linked(NamedTuple):
    """A link to a folder, to be followed when all folders were walked."""

    place: str
    real: str
    folder: Path
    above: tuple[str, ...]  # the real folders whose links led here: where one of them would come again is a loop


@dataclass
class _Look:
    """One look at the folders. `inside` are the real folders that links may lead to; None: everywhere."""

    inside: list[Path] | None
    found: dict[str, Item] = field(default_factory=dict)  # by real path
    left_out: list[LeftOut] = field(default_factory=list)
    _through: set[str] = field(default_factory=set)  # files that only a link leads to so far
    _spelled: dict[str, str] = field(default_factory=dict)  # real paths by their letters alone: `_same`
    _links: deque[_Linked] = field(default_factory=deque)
    _through_links: int = 0

    def items(self, given: Sequence[Path]) -> tuple[Item, ...]:
        """In the order of the folders that were given, and of names in each."""
        order = {folder: place for place, folder in reversed(list(enumerate(given)))}
        return tuple(sorted(self.found.values(), key=lambda item: (order[item.folder], item.path.parts)))

    def walk(self, folder: Path) -> None:
        """The files of a folder that was given, at any depth; raises FileError if it cannot be read itself."""
        self._walk(_Linked(str(folder), str(folder.resolve()), folder, ()), given=True)

    def walk_links(self) -> None:
        """What links to folders lead to. Last, so that every file of the library has its own path before another one."""
        while self._links and self._through_links < _LINKED:
            self._walk(self._links.popleft())
        if self._links:
            link = self._links[0]
            reason = f"more than {_LINKED:,} files and folders are reached through links, so this one and more were not followed"
            self.left_out.append(LeftOut(Place(Path(link.place), link.folder), reason))

    def _walk(self, start: _Linked, *, given: bool = False) -> None:
        """A stack instead of recursion: folders may be nested deeper than Python calls."""
        pending = [start]
        while pending:
            here = pending.pop()
            try:
                with os.scandir(here.place) as entries:
                    listed = {entry.name: entry for entry in entries if not entry.name.startswith(".")}
            except FileNotFoundError:
                continue
            except OSError as error:
                if given and here is start:
                    raise FileError(f"{here.place}: this folder cannot be read: {error.strerror or error}") from error
                self._leave_out(here.place, here.folder, f"this folder cannot be read: {error.strerror or error}")
                continue
            self._through_links += len(listed) if here.above else 0
            beside = endings_beside(listed)
            pending += reversed([inner for name in sorted(listed) for inner in self._entry(listed[name], here, listed, beside)])

    def _entry(
        self, entry: "os.DirEntry[str]", here: _Linked, listed: "dict[str, os.DirEntry[str]]", beside: Mapping[str, Sequence[str]]
    ) -> Iterator[_Linked]:
        """Takes a file up; gives a folder to be walked at once, and keeps a link to one for later."""
        try:
            linked = entry.is_symlink()
            real = os.path.realpath(entry.path) if linked else os.path.join(here.real, entry.name)  # noqa: PTH118 - of 10,000 files
            if linked and not self._allowed(real):
                self._outside(entry, here)
            elif entry.is_dir():
                if not linked:
                    yield _Linked(entry.path, real, here.folder, here.above)
                elif not any(_reaches(real, above) for above in (here.real, *here.above)):
                    self._links.append(_Linked(entry.path, real, here.folder, (*here.above, here.real)))
            elif has_ending(entry.name) and entry.is_file():
                own = tuple(self._beside(stem(entry.name), listed, here, beside))
                found = Item(*_place(entry, here), *_state(entry.stat()), own, _config(listed))
                self._take(real, found, through=linked or bool(here.above))
            elif linked and _like_a_network(entry.name) and not os.path.lexists(real):
                self._leave_out(entry.path, here.folder, "a link that leads to nothing")
        except OSError:  # gone meanwhile, or links that lead to themselves
            if entry.is_symlink() and _like_a_network(entry.name):
                self._leave_out(entry.path, here.folder, "a link that leads to nothing")

    def _take(self, real: str, item: Item, *, through: bool) -> None:
        """The file, or one more name of it. Its own path stands before those through links."""
        real = self._same(real)
        known = self.found.get(real)
        if known is None or (real in self._through and not through):
            also = () if known is None else (Place(known.path, known.folder), *known.also)
            self.found[real] = replace(item, also=also) if also else item
            (self._through.add if through else self._through.discard)(real)
        else:
            self.found[real] = replace(known, also=(*known.also, Place(item.path, item.folder)))

    def _same(self, real: str) -> str:
        """The path under which this file is known. File systems that take letters of either case, or in either Unicode form, for the
        same lead to one file under several spellings."""
        letters = unicodedata.normalize("NFC", real).casefold() if not real.isascii() else real.lower()
        known = self._spelled.setdefault(letters, real)
        with suppress(OSError):
            if known != real and os.path.samefile(known, real):  # noqa: PTH121 - no Path for each of 10,000 files
                return known
        return real

    def _beside(
        self, name: str, listed: "dict[str, os.DirEntry[str]]", here: _Linked, beside: Mapping[str, Sequence[str]]
    ) -> Iterator[Beside]:
        for ending in beside.get(name, ()):
            entry = listed[name + ending]
            with suppress(OSError):
                if (not entry.is_symlink() or self._allowed(os.path.realpath(entry.path))) and entry.is_file():
                    status = entry.stat()
                    yield Beside(ending, status.st_size, status.st_mtime_ns)

    def _allowed(self, real: str) -> bool:
        """Whether links may lead there."""
        if self.inside is None:
            return True
        path = Path(real)
        return any(path.is_relative_to(root) for root in self.inside) or any(
            _same_file(each, root) for root in self.inside for each in path.parents
        )

    def _outside(self, entry: "os.DirEntry[str]", here: _Linked) -> None:
        if entry.is_dir() or has_ending(entry.name):
            self._leave_out(entry.path, here.folder, "a link that leads out of the folders of the library", _FOLLOW)

    def _leave_out(self, place: str, folder: Path, reason: str, advice: str = "") -> None:
        self.left_out.append(LeftOut(Place(Path(place), folder), reason, advice))


def _place(entry: "os.DirEntry[str]", here: _Linked) -> Place:
    return Place(Path(entry.path), here.folder)


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _config(listed: "Mapping[str, os.DirEntry[str]]") -> tuple[int, int] | None:
    with suppress(OSError, KeyError):
        return _state(listed[CONFIG].stat())
    return None


def config_beside(path: Path) -> tuple[int, int] | None:
    """Size and time of PEFT's config beside a file that was not found by a scan."""
    with suppress(OSError, ValueError):
        return _state(path.with_name(CONFIG).stat())
    return None


def _reaches(folder: str, inner: str) -> bool:
    """Whether `inner` is the folder or lies in it."""
    return inner == folder or inner.startswith(folder.rstrip(os.sep) + os.sep)


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _like_a_network(name: str) -> bool:
    """Whether a link could have led to a network or to a folder of them: not to a picture or to notes."""
    return has_ending(name) or "." not in name


def _folders_beside(folder: Path) -> list[str]:
    try:
        return [item.name for item in folder.parent.iterdir() if item.is_dir()]
    except OSError:
        return []
