"""Which modules get which adapters, in words: `PATTERN=RECIPE`, or `!PATTERN` for modules that are left alone.

A pattern fits a module if it matches one or more whole parts of its name, `*` any run of letters and dots: `attn1`, `to_[kv]`,
`*.resnets.*`. Words say where a module stands instead: `in`, `mid`, `out`, a block number `4` or a range `4-8` as block weights
count, `te`, `te1`, `te2`, and `default` for what is trained without any rule. `out/attn2` is both. The last rule that fits counts.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from loraloom.bases import Layer
from loraloom.errors import SettingsError, suggestion
from loraloom.train.config.recipe import Recipe, read_recipe

_THIRDS = ("in", "mid", "out")
_TEXT_ENCODERS = {"te": "text_encoder*", "te1": "text_encoder", "te2": "text_encoder_2", "te3": "text_encoder_3"}
_BLOCKS = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")
DEFAULT = "default"
WORDS = (*_THIRDS, *_TEXT_ENCODERS, DEFAULT)


@dataclass(frozen=True)
class Rule:
    """One `--target`. `recipe` is None where the modules are left alone."""

    text: str
    parts: tuple[str, ...]  # all of which must fit
    recipe: Recipe | None

    def fits(self, layer: Layer, *, usual: bool) -> bool:
        """Whether the pattern means this module; `usual` is whether it is trained without rules."""
        return all(usual if part == DEFAULT else _fits(part, layer) for part in self.parts)

    def nearest(self, layers: Iterable[Layer]) -> str:
        """What an error says of a pattern that fits nothing: the names like it."""
        names = dict.fromkeys(part for layer in layers for part in (layer.target.component, *layer.target.module.split(".")))
        found = (suggestion(part.strip("*!."), [*names, *WORDS]) for part in self.parts)
        return next(filter(None, found), "; `loraloom inspect` of a LoRA for this base shows names of modules")


def read_rule(text: str, job: Recipe) -> Rule:
    """`job` is the recipe of the job's own type. Raises SettingsError."""
    pattern, equals, words = text.strip().partition("=")
    excluded, pattern = pattern.startswith("!"), pattern.removeprefix("!")
    parts = tuple(part.strip() for part in pattern.split("/"))
    if not all(parts):
        raise SettingsError(f"target {text!r} has no pattern; write it as 'attn*=lora:16' or '!time_emb*'")
    if excluded and equals:
        raise SettingsError(f"target {text!r} leaves modules alone, so nothing comes after '='")
    return Rule(text, parts, None if excluded else read_recipe(words, job))


def _fits(part: str, layer: Layer) -> bool:
    if part in _THIRDS:
        return layer.third == part
    if part in _TEXT_ENCODERS:
        return fnmatchcase(layer.target.component, _TEXT_ENCODERS[part])
    if found := _BLOCKS.fullmatch(part):
        return layer.block is not None and int(found[1]) <= layer.block <= int(found[2] or found[1])
    return fnmatchcase(f".{layer.target}.", f"*.{part}.*")
