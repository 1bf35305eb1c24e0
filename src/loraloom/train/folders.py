"""Which folders are read, and how often the pictures of each count."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loraloom.errors import DatasetError
from loraloom.train.config.source import Source
from loraloom.train.naming import listed, with_ending
from loraloom.train.pictures import ENDINGS

_KOHYA = re.compile(r"(\d{1,6})_(.+)")


@dataclass(frozen=True)
class Folder:
    """A folder that holds pictures; named `10_cat` its pictures count ten times and are called "cat" for want of a caption."""

    path: Path
    root: Path  # the folder of the job that it lies in, or is
    times: int = 1  # how often the job says that its pictures count
    label: str = ""  # of the root in names of pictures; empty where there is only one
    regular: bool = False  # holds regularisation pictures

    @property
    def repeats(self) -> int:
        return self.times * (max(1, int(found[1])) if (found := _KOHYA.fullmatch(self.path.name)) else 1)

    @property
    def caption(self) -> str:
        return found[2].replace("_", " ").strip() if (found := _KOHYA.fullmatch(self.path.name)) else ""

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
        below = [path for path in _below(source.path, deep=subfolders) if subfolders or _KOHYA.fullmatch(path.name)]
        if not subfolders:
            notes += _unread(source.path)
        found += [Folder(path, source.path, source.times, label, regular) for path in (source.path, *below)]
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


def _unread(folder: Path) -> Iterator[str]:
    for path in _below(folder, deep=False):
        if not _KOHYA.fullmatch(path.name) and (found := with_ending(path, ENDINGS)):
            yield f"{path.name}/ is not read ({listed(found)}): --subfolders reads it, or name it 1_{path.name}"


def no_pictures(folders: Sequence[Folder]) -> DatasetError:
    """Why there is nothing to train on."""
    roots = list(dict.fromkeys(folder.root for folder in folders))
    held = [path.relative_to(root) for root in roots for path in _below(root, deep=True) if with_ending(path, ENDINGS)]
    what = f"{', '.join(map(str, roots))}: no pictures; training needs at least one {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]} file"
    if held:
        what += f". There are some further down, in {listed(held, Path.as_posix)}: read them with --subfolders"
    return DatasetError(what)
