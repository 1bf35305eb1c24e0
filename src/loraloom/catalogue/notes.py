"""One file of notes beside a network: JSON that people and many tools write, read as far as it can be read."""

import codecs
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from loraloom.filenames import shown

MAX_WORDS = 1000
MAX_WORD = 500  # characters
_MAX_BYTES = 4 * 2**20
_MAX_NOTES = 100_000  # characters
_MAX_STRENGTH = 1e6  # as in a tag
_JSON_TEXTS = {"usage_tips"}  # keys whose value is a text with JSON in it
_SHOWN = 40  # characters of a value
# With the longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass
class Content:
    """What a file says. `problems` grow where a value that is asked for is not of its kind; each begins with the file's name."""

    name: str
    values: Any = None
    problems: list[str] = field(default_factory=list)

    def get(self, place: Sequence[str]) -> Any:
        """The value at a path of keys; None where there is none."""
        value = self.values
        for depth, key in enumerate(place):
            value = value.get(key) if isinstance(value, dict) else None
            if key in _JSON_TEXTS and isinstance(value, str):
                value = self._inner(value, place[: depth + 1])
        return value

    def words(self, place: Sequence[str]) -> tuple[str, ...]:
        value = self.get(place)
        if value is not None and not isinstance(value, str | list):
            self._wrong(place, value, "a text or a list of texts")
        return as_words(value)

    def text(self, place: Sequence[str]) -> str:
        value = self.get(place)
        if value is not None and not isinstance(value, str):
            self._wrong(place, value, "a text")
        return value.strip()[:_MAX_NOTES] if isinstance(value, str) else ""

    def strength(self, place: Sequence[str]) -> float | None:
        """None also for 0, which the WebUI writes where nothing was chosen."""
        value = self.get(place)
        if value in (None, "") or value == 0:
            return None
        number = _number(value)
        if number is None:
            self._wrong(place, value, f"a number up to {_MAX_STRENGTH:g}")
        return number or None

    def _inner(self, text: str, place: Sequence[str]) -> Any:
        if not text.strip():
            return None
        try:
            return _decoded(text)
        except (ValueError, RecursionError):
            self._wrong(place, text, "JSON")
            return None

    def _wrong(self, place: Sequence[str], value: object, wanted: str) -> None:
        shown = value if isinstance(value, str) else repr(value)
        shown = " ".join(shown[: 4 * _SHOWN].split())
        problem = f"{self.name}: {'.'.join(place)} is {shown[:_SHOWN]!r}, not {wanted}; it does not count"
        if problem not in self.problems:
            self.problems.append(problem)


def read_notes(path: Path) -> Content:
    """What the file says; nothing where there is none. What cannot be read of it is in `problems`."""
    content = Content(shown(path.name))
    try:
        if path.stat().st_size > _MAX_BYTES:
            content.problems.append(f"{content.name}: larger than {_MAX_BYTES >> 20} MiB, so these notes were not read")
            return content
        text, note = _text(path.read_bytes())
    except FileNotFoundError:
        return content
    except OSError as error:
        content.problems.append(f"{content.name}: these notes cannot be read: {error.strerror or error}")
        return content
    content.problems += [f"{content.name}: {note}"] if note else []
    try:
        content.values = _decoded(text)
    except (ValueError, RecursionError) as error:
        content.problems.append(f"{content.name}: these notes do not count, as they are not JSON: {_why(text, error)}")
    return content


def as_words(value: Any) -> tuple[str, ...]:
    """A text with commas or a list of texts, as words; anything else is none."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    words = (as_word(part) for part in parts if isinstance(part, str))
    return tuple(dict.fromkeys(word for word in words if word))[:MAX_WORDS]


def as_word(text: str) -> str:
    """On one line, with single spaces, and not longer than a word of a stranger may be."""
    return " ".join(text[: 4 * MAX_WORD].split())[:MAX_WORD].strip()


def _text(content: bytes) -> tuple[str, str]:
    """The text, and a sentence where it is read in another encoding than it should have."""
    for encoding in _encodings(content):
        try:
            return content.decode(encoding).removeprefix("\ufeff"), ""
        except UnicodeDecodeError:
            continue
    return content.decode("cp1252", "replace"), "not UTF-8; read as Windows-1252, so letters beyond ASCII may be wrong"


def _encodings(content: bytes) -> Iterator[str]:
    """By its mark, else by the zeros beside the first letter of JSON, which is ASCII (RFC 4627, section 3), else UTF-8."""
    yield from (encoding for mark, encoding in _MARKS if content.startswith(mark))
    head = content[:2]
    if len(head) == 2 and 0 in head and head != b"\0\0":
        yield "utf-16-be" if head[0] == 0 else "utf-16-le"
    yield "utf-8"


def _decoded(text: str) -> Any:
    """Also what Python and people write: NaN, line breaks within texts. Raises ValueError, RecursionError."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return json.loads(text, strict=False)


def _why(text: str, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if not text.strip():
        return "the file is empty"
    if isinstance(error, json.JSONDecodeError):
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        return "the file was cut short" if cut else f"line {error.lineno}, column {error.colno}: {error.msg}"
    return str(error)


def _number(value: Any) -> float | None:
    """A number, also as text; None for what is none, is not finite or is larger than a tag takes."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) <= _MAX_STRENGTH else None
