"""Which folders are read, and how often the pictures of each count."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loraloom.errors import DatasetError
from loraloom.train.config.source import Source
from loraloom.train.naming import listed, with_ending
from loraloom.train.pictures import USUAL, endings

_KOHYA = re.compile(r"(\d{1,6})_(.+)")


@dataclass(frozen=True)
class Folder:
    """A folder that holds pictures; below the job's own, named `10_cat`, its pictures count ten times and are called "cat" for want of
    a caption. `0_cat` is off."""

    path: Path
    root: Path  # the folder of the job that it lies in, or is
    times: int = 1  # how often the job says that its pictures count
    label: str = ""  # of the root in names of pictures; empty where there is only one
    regular: bool = False  # holds regularisation pictures

    @property
    def repeats(self) -> int:
        """How often each picture counts in an epoch; 0 for a folder that is off."""
        found = _KOHYA.fullmatch(self.path.name) if self.path != self.root else None  # 2024_photos is a year
        return self.times * (int(found[1]) if found else 1)

    @property
    def caption(self) -> str:
        named = self.path != self.root or self.regular
        return found[2].replace("_", " ").strip() if named and (found := _KOHYA.fullmatch(self.path.name)) else ""

    def name_of(self, path: Path) -> str:
        """Of a file in it: with "/", the same wherever the root lies."""
        below = path.relative_to(self.root).as_posix()
        return f"{self.label}/{below}" if self.label else below


def find_folders(given: Sequence[Path], *, subfolders: bool, regular: bool, notes: list[str]) -> list[Folder]:
    """The folders of a job's list that are read, in its order. Raises DatasetError for one that is none or is named twice."""
    sources = [Source.of(path) for path in given]
    twice = next((source.path for index, source in enumerate(sources) if source.path in [each.path for each in sources[:index]]), None)
    if twice is not None:
        raise DatasetError(f"pictures folder {twice} is given twice; to count its pictures twice, write {twice.name}:2")
    found: list[Folder] = []
    for source, label in zip(sources, _labels(sources, regular=regular), strict=True):
        _require_folder(source.path)
        read = [path for path in _below(source.path, deep=subfolders) if subfolders or _KOHYA.fullmatch(path.name)]
        folders = [Folder(path, source.path, source.times, label, regular) for path in (source.path, *read)]
        off = [folder.path for folder in folders if not folder.repeats]
        found += [folder for folder in folders if not any(folder.path.is_relative_to(path) for path in off)]
        notes += _told(source, folders, off, subfolders=subfolders)
    return found


def _require_folder(path: Path) -> None:
    if not path.is_dir():
        what = "is a file; give the folder that it lies in" if path.exists() else "does not exist"
        raise DatasetError(f"pictures folder {path} {what}")


def _labels(sources: Sequence[Source], *, regular: bool) -> Iterator[str]:
    """Different ones: they are in the names by which chance knows pictures."""
    names = [source.name for source in sources]
    for index, name in enumerate(names):
        before = names[:index].count(name)
        own = f"{name}~{before + 1}" if before else name
        yield f"regularization/{own}" if regular else own if len(names) > 1 else ""


def _below(folder: Path, *, deep: bool) -> Iterator[Path]:
    """Its folders by name; links are not followed further down, which could go in circles."""
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read: {error.strerror or error}; check its permissions") from error
    for path in inside:
        yield path
        if deep and not path.is_symlink():
            yield from _below(path, deep=True)


def _told(source: Source, folders: Sequence[Folder], off: Sequence[Path], *, subfolders: bool) -> Iterator[str]:
    """What is there and is not read, at any depth, and what a name does not mean."""
    if off:
        yield f"counts 0 times, so it is off: {listed(off, lambda path: f'{path.name}/')}"
    if (found := _KOHYA.fullmatch(source.path.name)) and source.times == 1:
        name, times = source.path.name, found[1]
        yield f"{name} is the folder that is given, so {times} in its name is no repeat; {name}:{times} counts its pictures so often"
    read = {folder.path for folder in folders}
    left = [path for path in _below(source.path, deep=True) if path not in read and not any(path.is_relative_to(each) for each in off)]
    if subfolders or not (held := {path: pictures for path in left if (pictures := with_ending(path, endings()))}):
        return
    if len(held) == 1:
        path, pictures = next(iter(held.items()))
        rename = f", or name it 1_{path.name}" if path.parent == source.path else ""
        yield f"{path.relative_to(source.path).as_posix()}/ is not read ({listed(pictures)}): --subfolders reads it{rename}"
        return
    count = sum(map(len, held.values()))
    shown = listed(list(held), lambda path: f"{path.relative_to(source.path).as_posix()}/")
    yield f"{len(held)} folders below {source.path.name} with {count} pictures are not read ({shown}): --subfolders reads them"


def no_pictures(folders: Sequence[Folder], notes: Sequence[str]) -> DatasetError:
    """Why there is nothing to train on; `notes` say what is there and not read."""
    if not folders:
        return DatasetError(f"no folder is left to train on: {'; '.join(notes)}")
    roots = list(dict.fromkeys(folder.root for folder in folders))
    held = [path.relative_to(root) for root in roots for path in _below(root, deep=True) if with_ending(path, endings())]
    what = f"{', '.join(map(str, roots))}: no pictures; training needs at least one {', '.join(USUAL[:-1])} or {USUAL[-1]} file"
    if held:
        what += f". There are some further down, in {listed(held, Path.as_posix)}: read them with --subfolders"
    return DatasetError("; ".join((what, *notes)) if notes and not held else what)
