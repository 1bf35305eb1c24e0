"""Where captions stand.

Sources, the first that has one: one caption for all, `name.txt` or `name.caption`, a `metadata.jsonl` of the folder or of one above
it, the file's name where that is wished, kohya's folder rule `10_name`. Each line of a text is a caption of its own.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from loraloom.errors import DatasetError
from loraloom.train.naming import listed, with_ending
from loraloom.train.texts import read_text
from loraloom.train.wording import lines, one_line

ENDINGS = (".txt", ".caption")  # the first of two that are both there counts
LIST = "metadata.jsonl"
_NAMES = ("file_name", "filename", "file", "image", "image_path", "path")  # datasets' own name first
_FIELDS = ("text", "caption", "prompt", "captions", "texts")  # the same
_NUMBER = re.compile(r"(?:\s*\(\d+\)|[\s_.-]+\d+)$")  # "cat (2)", "cat_002"


@dataclass(frozen=True)
class CaptionList:
    """A folder's metadata.jsonl: one object a line, `{"file_name": "a.png", "text": "..."}`. A picture that several lines name has
    several captions."""

    path: Path
    by_name: Mapping[str, str]  # path below the list's folder, as `_key` writes it -> captions, a line each

    @classmethod
    def read(cls, folder: Path, encoding: str = "") -> "CaptionList":
        """Empty where the folder has none; raises DatasetError that names the line."""
        path = folder / LIST
        if not path.exists():
            return cls(path, {})
        found: dict[str, str] = {}
        for number, line in enumerate(read_text(path, encoding).splitlines(), 1):
            if line.strip():
                name, text = _entry(path, number, line)
                found[name] = f"{found[name]}\n{text}" if name in found else text
        return cls(path, found)

    def of(self, file: Path) -> str:
        return self.by_name.get(self.key(file), "")

    def key(self, file: Path) -> str:
        return _key(file.relative_to(self.path.parent).as_posix())


def _entry(path: Path, number: int, line: str) -> tuple[str, str]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}, line {number}: not JSON ({error})") from error
    name = next((found[field] for field in _NAMES if isinstance(found.get(field), str)), None) if isinstance(found, dict) else None
    given = next((found[field] for field in _FIELDS if isinstance(found.get(field), str | list)), None) if name else None
    texts = [given] if isinstance(given, str) else given
    if not name or texts is None or not all(isinstance(text, str) for text in texts):
        raise DatasetError(f'{path}, line {number}: expected {{"file_name": "a.png", "text": "caption"}}, found {line[:80]}')
    return _key(_below(path.parent, name)), "\n".join(texts)


def _below(folder: Path, name: str) -> str:
    """A name as it is seen from the list's folder: lists may say where they stood when they were made."""
    posix = name.replace("\\", "/")
    whole = folder.resolve().as_posix() + "/"
    return posix.removeprefix(whole)


def _key(name: str) -> str:
    """`./Sub/A.png` and `sub/a.png` are one file's; so are an é of one character and of two."""
    parts = [part for part in PurePosixPath(name).parts if part != "."]
    return unicodedata.normalize("NFC", "/".join(parts)).casefold()


def from_name(stem: str) -> str:
    """What a file's name says: `red_cat_02` is "red cat", and `0012` nothing."""
    words = one_line(_NUMBER.sub("", stem).replace("_", " ").replace("-", " "))
    return "" if words.isdigit() else words


@dataclass(frozen=True)
class FolderCaptions:
    """The captions of one folder. Raises DatasetError where a text cannot be read."""

    folder: Path
    texts: Mapping[str, Path]  # by stem: the file that counts
    lists: tuple[CaptionList, ...]  # of the folder itself, then of those above it up to the root
    instead: str  # of everything else, if it says anything
    by_name: bool  # the file's name for want of another
    join: bool  # the lines of a text are one caption
    encoding: str  # of texts that are not UTF-8

    @classmethod
    def read(
        cls, folder: Path, *, root: Path | None = None, instead: str = "", by_name: bool = False, join: bool = False, encoding: str = ""
    ) -> "FolderCaptions":
        texts = caption_files(folder)
        above = [folder, *(path for path in folder.parents if root is not None and path.is_relative_to(root))]
        lists = tuple(CaptionList.read(path, encoding) for path in above)
        return cls(folder, texts, lists, instead, by_name, join, encoding)

    @property
    def listing(self) -> CaptionList:
        """The folder's own list."""
        return self.lists[0]

    def of(self, picture: Path) -> tuple[str, ...]:
        """The captions of one picture, each on one line; empty if it has none."""
        return (
            self._lines(self.instead) or self._lines(self._given(picture)) or self._lines(from_name(picture.stem) if self.by_name else "")
        )

    def _given(self, picture: Path) -> str:
        if picture.stem in self.texts:
            return read_text(self.texts[picture.stem], self.encoding)
        return next(filter(None, (each.of(picture) for each in self.lists)), "")

    def _lines(self, text: str) -> tuple[str, ...]:
        return tuple(filter(None, (one_line(text),))) if self.join else lines(text)

    def odd(self, pictures: Sequence[Path], shown: Callable[[Path], str]) -> Iterator[str]:
        """What the user should know of texts that are not used; `shown` names a file."""
        stems, names = {path.stem for path in pictures}, {self.listing.key(path): path for path in pictures}
        if self.instead:
            if self.texts or self.listing.by_name:
                yield f"one caption is given for all pictures: the caption files of {shown(self.folder)} are not used"
            return
        if alone := [path for stem, path in sorted(self.texts.items()) if stem not in stems]:
            yield f"captions without a picture are not used: {listed(alone, shown)}"
        there = {self.listing.key(path) for path in self.folder.rglob("*")} if self.listing.by_name else set()
        if alone := [self.folder / name for name in self.listing.by_name if name not in names and name not in there]:
            yield f"{LIST} names pictures that are not there: {listed(alone, shown)}"
        if alone := [names[name] for name in self.listing.by_name if name in names and names[name].stem in self.texts]:
            yield f"{LIST} is not used for pictures that have a caption file: {listed(alone, shown)}"
        yield from self._twice(stems, shown)
        counts = Counter(path.stem for path in pictures)
        if several := [path for path in pictures if path.stem in self.texts and counts[path.stem] > 1]:
            yield f"pictures of the same name share one caption file: {listed(several, shown)}"

    def _twice(self, stems: set[str], shown: Callable[[Path], str]) -> Iterator[str]:
        """`a.caption` beside `a.txt`."""
        first, second = ENDINGS
        both = [path for path in with_ending(self.folder, (second,)) if path.stem in stems and self.texts[path.stem] != path]
        if not both:
            return
        differ = [path for path in both if self._text(path) != self._text(self.texts[path.stem])]
        if differ:
            yield f"warning: {first} counts, but the {second} beside it says something else: {listed(differ, shown)}"
        else:
            yield f"{first} counts where {second} is there too (they say the same): {listed(both, shown)}"

    def _text(self, path: Path) -> str:
        return one_line(read_text(path, self.encoding))


def caption_files(folder: Path) -> dict[str, Path]:
    """By stem: of two that are there the one that counts."""
    return {path.stem: path for ending in reversed(ENDINGS) for path in with_ending(folder, (ending,))}
