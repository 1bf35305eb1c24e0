"""A folder of pictures with their captions, read and checked before the first step; what is odd is told, nothing is dropped in silence."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loraloom.errors import DatasetError
from loraloom.train import captions
from loraloom.train.captions import CaptionList
from loraloom.train.pictures import ENDINGS, open_picture

_KOHYA = re.compile(r"(\d+)_(.+)")
_UNREAD = (".avif", ".gif", ".heic", ".heif", ".jxl", ".tif", ".tiff")  # pictures too, so it is said that they are left out


@dataclass(frozen=True)
class Picture:
    path: Path
    name: str  # path below the dataset's folder, with "/"
    caption: str  # the trigger included
    folder: "Folder"
    size: tuple[int, int]  # width, height in pixels


@dataclass(frozen=True)
class Folder:
    """A folder that holds pictures; named `10_cat` its pictures count ten times and are called "cat" for want of a caption."""

    path: Path

    @property
    def repeats(self) -> int:
        return max(1, int(found[1])) if (found := _KOHYA.fullmatch(self.path.name)) else 1

    @property
    def caption(self) -> str:
        return found[2].replace("_", " ").strip() if (found := _KOHYA.fullmatch(self.path.name)) else ""


@dataclass(frozen=True)
class Dataset:
    pictures: tuple[Picture, ...]  # by name
    fingerprint: str  # sha256 over names, bytes, captions and repeats
    notes: tuple[str, ...]

    @property
    def repeats(self) -> tuple[int, ...]:
        return tuple(picture.folder.repeats for picture in self.pictures)

    def tag_frequency(self) -> Mapping[str, Mapping[str, int]]:
        """Pictures by tag, for each folder: what other tools take trigger words from."""
        found: dict[str, Counter[str]] = {}
        for picture in self.pictures:
            tags = {tag.strip() for tag in picture.caption.split(",") if tag.strip()}
            found.setdefault(picture.folder.path.name, Counter()).update(sorted(tags))
        return {folder: dict(counts.most_common()) for folder, counts in found.items()}


def read_dataset(folder: Path, *, trigger: str, resolution: int, tokens_cut: Callable[[str], int]) -> Dataset:
    """Every picture of `folder` and of its `10_name` subfolders; raises DatasetError that says where and what to do."""
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        what = "is a file; give the folder that it lies in" if folder.exists() else "does not exist"
        raise DatasetError(f"pictures folder {folder} {what}")
    notes: list[str] = []
    pictures = tuple(sorted(_read_all(folder, trigger, notes), key=lambda picture: picture.name))
    if not pictures:
        raise DatasetError(f"{folder}: no pictures; training needs at least one {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]} file")
    notes += _odd(pictures, resolution, tokens_cut)
    return Dataset(pictures, _fingerprint(pictures), tuple(notes))


def _read_all(folder: Path, trigger: str, notes: list[str]) -> Iterator[Picture]:
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    for path in below:
        if not _KOHYA.fullmatch(path.name) and (found := _with_ending(path, ENDINGS)):
            notes.append(f"{path.name}/ is not read ({listed(found)}): name it 1_{path.name}, or move its pictures up")
    for path in (folder, *(path for path in below if _KOHYA.fullmatch(path.name))):
        yield from _read_folder(folder, Folder(path), trigger, notes)


def _read_folder(root: Path, folder: Folder, trigger: str, notes: list[str]) -> Iterator[Picture]:
    paths = _with_ending(folder.path, ENDINGS)
    listing = CaptionList.read(folder.path)
    texts = {path.stem: path for path in _with_ending(folder.path, captions.ENDINGS)}  # .txt replaces .caption
    missing = []
    for path in paths:
        given = captions.one_line(captions.read_text(texts[path.stem])) if path.stem in texts else listing.by_name.get(path.name, "")
        if not given and not folder.caption:
            missing.append(path)
        caption = captions.with_trigger(captions.one_line(given or folder.caption), trigger)
        yield Picture(path, path.relative_to(root).as_posix(), caption, folder, open_picture(path).size)
    if missing:
        instead = f'they are trained as "{trigger}"' if trigger else "they are trained without words, and no trigger is set either"
        notes.append(f"{len(missing)} of {len(paths)} pictures have no caption, {instead}: {listed(missing)}")
    if unread := _with_ending(folder.path, _UNREAD):
        notes.append(f"not read, save them as PNG or JPEG: {listed(unread)}")
    stems, names = {path.stem for path in paths}, {path.name for path in paths}
    if alone := [path for stem, path in sorted(texts.items()) if stem not in stems]:
        notes.append(f"captions without a picture are not used: {listed(alone)}")
    if alone := [folder.path / name for name in listing.by_name if name not in names]:
        notes.append(f"{captions.LIST} names pictures that are not there: {listed(alone)}")
    if alone := [folder.path / name for name in listing.by_name if name in names and Path(name).stem in texts]:
        notes.append(f"{captions.LIST} is not used for pictures that have a caption file: {listed(alone)}")


def _with_ending(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    found = (path for path in folder.iterdir() if path.suffix.lower() in endings and not path.name.startswith("."))
    return sorted(path for path in found if path.is_file())


def _odd(pictures: Sequence[Picture], resolution: int, tokens_cut: Callable[[str], int]) -> Iterator[str]:
    if small := [picture.path for picture in pictures if min(picture.size) < resolution]:
        yield f"{len(small)} of {len(pictures)} pictures are smaller than {resolution} pixels and are enlarged: {listed(small)}"
    if long := {picture.name: cut for picture in pictures if (cut := tokens_cut(picture.caption))}:
        shown = ", ".join(f"{name} (by {cut})" for name, cut in list(long.items())[:3])
        yield f"{len(long)} captions are longer than the text encoder reads and are cut: {shown}{' ...' if len(long) > 3 else ''}"


def listed(paths: Sequence[Path], most: int = 3) -> str:
    """`a.png, b.png, c.png and 4 more`."""
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(path.name for path in paths[:most]) + more


def _fingerprint(pictures: Sequence[Picture]) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        content = hashlib.sha256(picture.path.read_bytes()).hexdigest()
        digest.update(repr((picture.name, content, picture.caption, picture.folder.repeats)).encode())
    return digest.hexdigest()
