"""Trigger words of a network: from the files beside it, else from its metadata; the first source that has any.

Order: `x.json`, `x.metadata.json`, `x.civitai.info`, `modelspec.trigger_phrase`, `modelspec.tags`, `ss_tag_frequency`.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

_TAGGED = ("activation text", "trainedWords", "tags")
_SIDECARS: Mapping[str, tuple[str, ...]] = {".json": _TAGGED, ".metadata.json": _TAGGED, ".civitai.info": ("trainedWords",)}
_MAX_SIDECAR = 4 * 2**20  # bytes
_MAX_WORDS = 1000


def trigger_words(path: Path, metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The words in their order; from tag frequencies, most frequent first."""
    stem = path.name.removesuffix(".safetensors")
    for ending, keys in _SIDECARS.items():
        words = _sidecar(path.with_name(stem + ending), keys)
        if words:
            return words
    for key in ("modelspec.trigger_phrase", "modelspec.tags"):
        words = _words(metadata.get(key))
        if words:
            return words
    return _frequent(metadata.get("ss_tag_frequency", ""))


def _sidecar(path: Path, keys: tuple[str, ...]) -> tuple[str, ...]:
    """Beside many networks lie other `.json` files: what is not understood is no source."""
    try:
        if path.stat().st_size > _MAX_SIDECAR:
            return ()
        content = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    found = content if isinstance(content, dict) else {}
    return next((words for key in keys if (words := _words(found.get(key)))), ())


def _words(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    words = [part.strip() for part in parts if isinstance(part, str)]
    return tuple(dict.fromkeys(word for word in words if word))[:_MAX_WORDS]


def _frequent(text: str) -> tuple[str, ...]:
    """`{"10_name": {"tag": 12}}`, summed over folders."""
    try:
        folders = msgspec.json.decode(text, type=dict[str, dict[str, float]])
    except (msgspec.DecodeError, RecursionError):
        return ()
    counts: Counter[str] = Counter()
    for tags in folders.values():
        for tag, count in tags.items():
            counts[tag.strip()] += int(count) if abs(count) < 1e15 else 0
    return tuple(tag for tag, _ in counts.most_common(_MAX_WORDS) if tag)
