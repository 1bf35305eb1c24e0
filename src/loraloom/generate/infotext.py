"""The recipe of a picture as text, in the form of the Stable Diffusion WebUI (its "infotext"), and back.

    a castle <lora:ink:0.8>
    Negative prompt: people
    Steps: 20, Sampler: DDIM, CFG scale: 2.5, Seed: 7, Size: 64x64, Model: tiny, Lora hashes: "ink: 0123456789ab"

The WebUI reads it line by line and strips lines, so a few prompts (with a line "Negative prompt:", or with spaces at the
end) do not survive its form. Those are written once more, quoted, under the keys `Prompt` and `Negative`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from loraloom.errors import FileError
from loraloom.schedule import number

_NEGATIVE = "Negative prompt:"
# The WebUI's own expression, with a bound on a key's length: a stranger's text is read in linear time.
_PAIR = re.compile(r'(\w[\w \-/]{1,60}):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')

_QUOTED_HASHES = re.compile(r'("(?:\\.|[^\\"])*"): ([0-9a-fx]+)(?:, |$)')


@dataclass(frozen=True)
class Recipe:
    """All that one picture was made from. `str` of it is what the PNG carries; `parse` of that is an equal recipe."""

    prompt: str = ""  # with its tags
    negative_prompt: str = ""
    steps: int = 0
    sampler: str = ""
    guidance: float | None = None
    seed: int = 0
    width: int = 0
    height: int = 0
    model: str = ""
    lora_hashes: Mapping[str, str] = field(default_factory=dict)  # first 12 digits by name
    extra: Mapping[str, str] = field(default_factory=dict)  # other keys: Version, and what other programs write

    @classmethod
    def parse(cls, text: str) -> "Recipe":
        """Read a recipe, of ours or of another program of the WebUI's form. What is not there keeps its default."""
        *lines, last = text.strip().split("\n")
        pairs = _PAIR.findall(last)
        if len(pairs) < 3:  # the WebUI's rule: a last line with fewer is part of the prompt
            lines, pairs = [*lines, last], []
        values = {key: _unquoted(value) for key, value in pairs}
        prompt, negative = _split([line.strip() for line in lines])
        width, _, height = values.pop("Size", "").partition("x")
        return cls(
            prompt=values.pop("Prompt", prompt),
            negative_prompt=values.pop("Negative", negative),
            steps=_whole(values.pop("Steps", "")),
            sampler=values.pop("Sampler", ""),
            guidance=_number(values.pop("CFG scale", "")),
            seed=_whole(values.pop("Seed", "")),
            width=_whole(width),
            height=_whole(height),
            model=values.pop("Model", ""),
            lora_hashes=_hashes(values.pop("Lora hashes", "")),
            extra=values,
        )

    def __str__(self) -> str:
        text = self._text({})
        read = Recipe.parse(text)
        exact = {"Prompt": (self.prompt, read.prompt), "Negative": (self.negative_prompt, read.negative_prompt)}
        return self._text({key: ours for key, (ours, theirs) in exact.items() if ours != theirs})

    def _text(self, exact: Mapping[str, str]) -> str:
        values = {
            "Steps": str(self.steps),
            "Sampler": self.sampler,
            **({} if self.guidance is None else {"CFG scale": number(self.guidance)}),
            "Seed": str(self.seed),
            "Size": f"{self.width}x{self.height}",
            "Model": self.model,
            **({"Lora hashes": _hashes_text(self.lora_hashes)} if self.lora_hashes else {}),
            **self.extra,
            **exact,
        }
        negative = f"\n{_NEGATIVE} {self.negative_prompt}" if self.negative_prompt else ""
        return f"{self.prompt}{negative}\n" + ", ".join(f"{key}: {_quoted(value)}" for key, value in values.items())


def read_recipe(path: str | Path) -> Recipe:
    """The recipe that a picture carries; raises FileError if it is no picture or carries none."""
    try:
        with Image.open(path) as image:
            text = image.info.get("parameters")
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise FileError(f"{path}: not a picture that can be read: {error}") from error
    if not isinstance(text, str):
        raise FileError(f"{path}: this picture carries no recipe (no PNG text named 'parameters'); it may have been saved anew since")
    return Recipe.parse(text)


def _split(lines: list[str]) -> tuple[str, str]:
    """Prompt and negative prompt: the latter begins at the first line that says so and goes on to the end."""
    start = next((place for place, line in enumerate(lines) if line.startswith(_NEGATIVE)), len(lines))
    negative = [lines[start].removeprefix(_NEGATIVE).strip(), *lines[start + 1 :]] if start < len(lines) else []
    return "\n".join(lines[:start]), "\n".join(negative)


def _hashes_text(hashes: Mapping[str, str]) -> str:
    """`a: 0123, b: 4567` as the WebUI writes it; names in quotes where it would not read back."""
    plain = ", ".join(f"{name}: {digest}" for name, digest in hashes.items())
    if _hashes(plain) == hashes:
        return plain
    return ", ".join(f"{json.dumps(name, ensure_ascii=False)}: {digest}" for name, digest in hashes.items())


def _hashes(text: str) -> Mapping[str, str]:
    """By name; in names without quotes commas and colons belong to them."""
    if (quoted := _QUOTED_HASHES.findall(text)) and ", ".join(f"{name}: {digest}" for name, digest in quoted) == text:
        return {_unquoted(name): digest for name, digest in quoted}
    found: dict[str, str] = {}
    begun = ""
    for piece in text.split(", "):
        name, colon, digest = piece.rpartition(": ")
        if colon and re.fullmatch("[0-9a-fx]+", digest):
            found[begun + name] = digest
            begun = ""
        else:
            begun += f"{piece}, "
    return found


def _quoted(value: str) -> str:
    plain = value == value.strip() and not re.search(r'[,:\n"]', value)
    return value if plain else json.dumps(value, ensure_ascii=False)


def _unquoted(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value


def _whole(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
