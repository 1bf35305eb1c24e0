"""Where captions stand.

Sources, the first that has one: one caption for all, `name.txt` or `name.caption`, the folder's `metadata.jsonl`, the file's name
where that is wished, kohya's folder rule `10_name`.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loraloom.errors import DatasetError
from loraloom.train.naming import listed, with_ending
from loraloom.train.wording import one_line

ENDINGS = (".txt", ".caption")  # the first of two that are both there counts
LIST = "metadata.jsonl"
_FIELDS = ("text", "caption", "prompt")  # datasets' own name first
_NUMBER = re.compile(r"(?:\s*\(\d+\)|[\s_.-]+\d+)$")  # "cat (2)", "cat_002"


@dataclass(frozen=True)
class CaptionList:
    """A folder's metadata.jsonl: one object a line, `{"file_name": "a.png", "text": "..."}`."""

    path: Path
    by_name: Mapping[str, str]  # file name -> caption

    @classmethod
    def read(cls, folder: Path) -> "CaptionList":
        """Empty where the folder has none; raises DatasetError that names the line."""
        path = folder / LIST
        if not path.exists():
            return cls(path, {})
        lines = enumerate(read_text(path).splitlines(), 1)
        return cls(path, dict(_entry(path, number, line) for number, line in lines if line.strip()))


def _entry(path: Path, number: int, line: str) -> tuple[str, str]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}, line {number}: not JSON ({error})") from error
    name = found.get("file_name") if isinstance(found, dict) else None
    caption = next((found[field] for field in _FIELDS if isinstance(found.get(field), str)), None) if name else None
    if not isinstance(name, str) or caption is None:
        raise DatasetError(f'{path}, line {number}: expected {{"file_name": "a.png", "text": "caption"}}, found {line[:80]}')
    return name, caption


def read_text(path: Path) -> str:
    """A text file as UTF-8, with or without a byte order mark; raises DatasetError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error


def from_name(stem: str) -> str:
    """What a file's name says: `red_cat_02` is "red cat", and `0012` nothing."""
    words = one_line(_NUMBER.sub("", stem).replace("_", " ").replace("-", " "))
    return "" if words.isdigit() else words


@dataclass(frozen=True)
class FolderCaptions:
    """The captions of one folder. Raises DatasetError where a text cannot be read."""

    folder: Path
    texts: Mapping[str, Path]  # by stem: the file that counts
    listing: CaptionList
    instead: str  # of everything else, if it says anything
    by_name: bool  # the file's name for want of another

    @classmethod
    def read(cls, folder: Path, *, instead: str = "", by_name: bool = False) -> "FolderCaptions":
        texts = {path.stem: path for ending in reversed(ENDINGS) for path in with_ending(folder, (ending,))}
        return cls(folder, texts, CaptionList.read(folder), one_line(instead), by_name)

    def of(self, picture: Path) -> str:
        """The caption of one picture on one line; empty if it has none."""
        if self.instead:
            return self.instead
        given = read_text(self.texts[picture.stem]) if picture.stem in self.texts else self.listing.by_name.get(picture.name, "")
        return one_line(given) or (from_name(picture.stem) if self.by_name else "")

    def odd(self, pictures: Sequence[Path], shown: Callable[[Path], str]) -> Iterator[str]:
        """What the user should know of texts that are not used; `shown` names a file."""
        stems, names = {path.stem for path in pictures}, {path.name for path in pictures}
        if self.instead:
            if self.texts or self.listing.by_name:
                yield f"one caption is given for all pictures: the caption files of {shown(self.folder)} are not used"
            return
        if alone := [path for stem, path in sorted(self.texts.items()) if stem not in stems]:
            yield f"captions without a picture are not used: {listed(alone, shown)}"
        if alone := [self.folder / name for name in self.listing.by_name if name not in names]:
            yield f"{LIST} names pictures that are not there: {listed(alone, shown)}"
        if alone := [self.folder / name for name in self.listing.by_name if name in names and Path(name).stem in self.texts]:
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
        differ = [path for path in both if one_line(read_text(path)) != one_line(read_text(self.texts[path.stem]))]
        if differ:
            yield f"warning: {first} counts, but the {second} beside it says something else: {listed(differ, shown)}"
        else:
            yield f"{first} counts where {second} is there too (they say the same): {listed(both, shown)}"
