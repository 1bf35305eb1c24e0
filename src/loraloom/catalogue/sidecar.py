"""What lies beside a file: a picture to show, and notes in the words of the Stable Diffusion WebUI and of Civitai's tools.

    ink.safetensors  ink.png or ink.preview.png (.jpg, .jpeg, .webp)  ink.json  ink.metadata.json  ink.civitai.info

`ink.json` is the user's own: the WebUI writes `activation text`, `preferred weight` and `notes` into it.
"""

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

# In the order in which they count; the pictures' is that of the WebUI.
PREVIEWS = tuple(f"{middle}.{ending}" for ending in ("png", "jpg", "jpeg", "webp") for middle in ("", ".preview"))
_TAGGED = ("activation text", "trainedWords", "tags")
NOTES: Mapping[str, tuple[str, ...]] = {".json": _TAGGED, ".metadata.json": _TAGGED, ".civitai.info": ("trainedWords",)}
ENDINGS = (*PREVIEWS, *NOTES)
MAX_WORDS = 1000
MAX_WORD = 500  # characters
_MAX_BYTES = 4 * 2**20
_MAX_NOTES = 100_000  # characters
_MAX_STRENGTH = 1e6  # as in a tag


class Beside(NamedTuple):
    """A file beside a network, as the folder lists it; it changes when that file does."""

    ending: str  # after the network's name without its own ending: ".preview.png"
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Sidecar:
    """What the notes beside a network say; each from the first file that says it."""

    words: tuple[str, ...] = ()  # that start the network's style or subject
    tags: tuple[str, ...] = ()  # what it is about
    notes: str = ""
    strength: float | None = None  # preferred


def beside(path: Path) -> tuple[Beside, ...]:
    """The sidecars of one file that was not found by a scan."""
    stem = path.name.removesuffix(".safetensors")
    found = []
    for ending in ENDINGS:
        with suppress(OSError, ValueError):  # ValueError: a NUL in the name
            status = path.with_name(stem + ending).stat()
            found.append(Beside(ending, status.st_size, status.st_mtime_ns))
    return tuple(found)


def preview(path: Path, endings: Iterable[str]) -> Path | None:
    """The picture that shows what a network does."""
    there = set(endings)
    ending = next((ending for ending in PREVIEWS if ending in there), None)
    return None if ending is None else path.with_name(path.name.removesuffix(".safetensors") + ending)


def read_sidecar(path: Path, endings: Iterable[str] = tuple(NOTES)) -> Sidecar:
    """The notes beside a network. Beside many networks lie other `.json` files: what is not understood says nothing."""
    there = set(endings)
    if there.isdisjoint(NOTES):
        return Sidecar()
    stem = path.name.removesuffix(".safetensors")
    found = {ending: _content(path.with_name(stem + ending)) for ending in NOTES if ending in there}
    words = (words for ending, content in found.items() for key in NOTES[ending] if (words := as_words(content.get(key))))
    own = [content for ending, content in found.items() if ending != ".civitai.info"]
    return Sidecar(
        words=next(words, ()),
        tags=next((tags for content in own if (tags := as_words(content.get("tags")))), ()),
        notes=next((notes for content in own if (notes := _notes(content.get("notes")))), ""),
        strength=next((weight for content in own if (weight := _strength(content.get("preferred weight"))) is not None), None),
    )


def as_words(value: Any) -> tuple[str, ...]:
    """A text with commas or a list of texts, as words; anything else is none."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    words = (as_word(part) for part in parts if isinstance(part, str))
    return tuple(dict.fromkeys(word for word in words if word))[:MAX_WORDS]


def as_word(text: str) -> str:
    """On one line, with single spaces, and not longer than a word of a stranger may be."""
    return " ".join(text[: 4 * MAX_WORD].split())[:MAX_WORD].strip()


def _content(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        content = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _notes(value: Any) -> str:
    return value.strip()[:_MAX_NOTES] if isinstance(value, str) else ""


def _strength(value: Any) -> float | None:
    """The WebUI writes 0 where nothing was chosen."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value == 0:
        return None
    return float(value) if abs(value) <= _MAX_STRENGTH else None
