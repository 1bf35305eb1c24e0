"""What lies beside a file: a picture to show, and notes as the Stable Diffusion WebUI and several tools write them.

ink.safetensors  ink.png or ink.preview.png (.jpg, .jpeg, .webp)
ink.json           the user's own: `activation text`, `preferred weight` and `notes`, as the WebUI writes them
ink.metadata.json  ComfyUI LoRA Manager: `civitai.trainedWords`, `usage_tips` (JSON in a text), `model_name`, `favorite`, ...
ink.swarm.json     SwarmUI: `modelspec.trigger_phrase`, `modelspec.lora_default_weight`, ...
ink.cm-info.json   Stability Matrix: `TrainedWords`, `ModelName`, ...
ink.civitai.info   Civitai's own answer: `trainedWords`, `model.name`
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from loraloom.catalogue.notes import MAX_WORD, MAX_WORDS, as_word, as_words, read_notes
from loraloom.filenames import stem

__all__ = [
    "ENDINGS",
    "MAX_WORD",
    "MAX_WORDS",
    "Beside",
    "Sidecar",
    "as_word",
    "as_words",
    "beside",
    "endings_beside",
    "preview",
    "read_sidecar",
]

# In the order in which they count; the pictures' is that of the WebUI.
PREVIEWS = tuple(f"{middle}.{ending}" for ending in ("png", "jpg", "jpeg", "webp") for middle in ("", ".preview"))
NOTES = (".json", ".metadata.json", ".swarm.json", ".cm-info.json", ".civitai.info")
ENDINGS = (*PREVIEWS, *NOTES)
_LAST = {ending[ending.rindex(".") :] for ending in ENDINGS}

# Where each fact stands, in the order in which it counts in one file; a dot in a key of SwarmUI's is part of its name.
_WORDS = (
    ("activation text",),
    ("trainedWords",),
    ("civitai", "trainedWords"),
    ("TrainedWords",),
    *((key,) for key in ("modelspec.trigger_phrase", "trigger_phrase")),
)
_TAGS = (("tags",), ("Tags",), ("modelspec.tags",), ("model", "tags"), ("civitai", "model", "tags"))
_NOTES = (("notes",), ("modelspec.usage_hint",), ("usage_hint",))
_STRENGTH = (("preferred weight",), ("usage_tips", "strength"), ("modelspec.lora_default_weight",), ("lora_default_weight",))
_NAMES = (
    ("model_name",),
    ("UserTitle",),
    ("ModelName",),
    ("modelspec.title",),
    ("title",),
    ("model", "name"),
    ("civitai", "model", "name"),
)
_BASES = (("base_model",), ("BaseModel",), ("baseModel",), ("sd version",))
_FAVORITE = (("favorite",),)


class Beside(NamedTuple):
    """A file beside a network, as the folder lists it; it changes when that file does."""

    ending: str  # after the network's name without its own ending, as it is spelled: ".preview.png", ".PNG"
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Sidecar:
    """What the notes beside a network say; each from the first file that says it."""

    words: tuple[str, ...] = ()  # that start the network's style or subject
    tags: tuple[str, ...] = ()  # what it is about
    notes: str = ""
    strength: float | None = None  # preferred
    names: tuple[str, ...] = ()  # what it is called, in all of the files
    base: str = ""  # what it was made for, in the words of the tool
    favorite: bool = False
    problems: tuple[str, ...] = ()  # what could not be read of them, each with the file's name


def beside(path: Path) -> tuple[Beside, ...]:
    """The sidecars of one file that was not found by a scan."""
    try:
        listed = [item.name for item in path.parent.iterdir()]
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return ()
    found = []
    for ending in endings_beside(listed).get(stem(path.name), ()):
        with suppress(OSError, ValueError):
            status = path.with_name(stem(path.name) + ending).stat()
            found.append(Beside(ending, status.st_size, status.st_mtime_ns))
    return tuple(found)


def endings_beside(names: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """Of the names in a folder: by what stands before, the endings of sidecars as they are spelled, in the order in which they count."""
    found: dict[str, list[str]] = {}
    for name in names:
        if name[name.rfind(".") :].lower() in _LAST:
            lower = name.lower()
            for ending in ENDINGS:
                if lower.endswith(ending) and len(name) > len(ending):
                    found.setdefault(name[: -len(ending)], []).append(name[-len(ending) :])
    for endings in found.values():
        endings.sort(key=lambda ending: (ENDINGS.index(ending.lower()), ending != ending.lower()))
    return found


def preview(path: Path, endings: Iterable[str]) -> Path | None:
    """The picture that shows what a network does; `endings` are in the order in which they count."""
    ending = next((ending for ending in endings if ending.lower() in PREVIEWS), None)
    return None if ending is None else path.with_name(stem(path.name) + ending)


def read_sidecar(path: Path, endings: Iterable[str] | None = None) -> Sidecar:
    """The notes beside a network. Beside many networks lie other `.json` files: what they say of other things is no problem, what
    cannot be read is one. `endings` are those that are there, else the folder is asked."""
    given = [each.ending for each in beside(path)] if endings is None else endings
    there = [ending for ending in given if ending.lower() in NOTES]
    if not there:
        return Sidecar()
    found = [
        read_notes(path.with_name(stem(path.name) + ending)) for ending in sorted(there, key=lambda ending: NOTES.index(ending.lower()))
    ]
    return Sidecar(
        words=_first(content.words(place) for content in found for place in _WORDS) or (),
        tags=_first(content.words(place) for content in found for place in _TAGS) or (),
        notes=_first(content.text(place) for content in found for place in _NOTES) or "",
        strength=_first(content.strength(place) for content in found for place in _STRENGTH),
        names=tuple(dict.fromkeys(name for content in found for place in _NAMES if (name := as_word(content.text(place))))),
        base=as_word(_first(content.text(place) for content in found for place in _BASES) or ""),
        favorite=any(content.get(place) is True for content in found for place in _FAVORITE),
        problems=tuple(problem for content in found for problem in content.problems),
    )


def _first(values: Iterable[Any]) -> Any:
    """The first that says something; None if none does."""
    return next((value for value in values if value), None)
