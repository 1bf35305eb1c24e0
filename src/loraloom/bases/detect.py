"""Which base a file is for: metadata first, then the names and shapes of its tensors. The file's name is never evidence."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from loraloom.bases import BASES
from loraloom.bases.base import Base

UNKNOWN = "an unknown base"
# What trainers call the families (formats.md §4), by prefix; the longest prefix counts.
_VERSIONS = {
    "sd_1.": "SD 1.x",
    "sd_v2": "SD 2.x",
    "sd_2.": "SD 2.x",
    "sdxl_": "SDXL",
    "sd3": "SD 3",
    "sd_3": "SD 3",
    "medium": "SD 3",
    "5-": "SD 3.5",
    "flux1": "Flux.1",
    "flux.1": "Flux.1",
    "flux2": "Flux.2",
    "flux.2": "Flux.2",
    "chroma": "Chroma",
    "lumina2": "Lumina 2",
}
_ARCHITECTURES = {
    "stable-diffusion-v2": "SD 2.x",
    "stable-diffusion-xl": "SDXL",
    "stable-diffusion-3": "SD 3",
    "flux-1": "Flux.1",
    "Flux.1": "Flux.1",
    "flux-2": "Flux.2",
}
# Key names that only one family has, looked for before any width; each pattern must be found in some key.
_TRANSFORMERS = (
    (("double_blocks|single_transformer_blocks",), "Flux.1", "double and single transformer blocks"),
    (("joint_blocks",), "SD 3", "joint blocks"),
)
# The same for UNets, looked for after the width of the cross-attention, which tells them apart better.
_BLOCK = "(down|up|input|output)_blocks|mid(dle)?_block"
_UNETS = (
    ((r"[._]transformer_blocks[._]([2-9]|1\d)[._]", _BLOCK), "SDXL", "three or more transformer blocks in a row"),
    ((r"^lora_te2_|^text_encoder_2\.", r"^lora_unet_|^unet\."), "SDXL", "a UNet and two text encoders"),
)
# Some transformers have an `attn2` too (LTX-Video's is as wide as SDXL's), so the block's name counts.
_CROSS_ATTENTION = (re.compile(r"attn2[._](processor[._])?to_[kv](_lora)?[._]"), re.compile(_BLOCK))
# Of the first text encoder and the second.
_TEXTS = tuple(
    re.compile(rf"^({prefixes}).*self_attn[._](q|k|v)_proj")
    for prefixes in (r"lora_te1?_|text_encoder\.|lycoris_te_", r"lora_te2_|text_encoder_2\.")
)
_INPUTS = ("lora_down.weight", "lora_A.weight", "lora_A.default.weight", "lora.down.weight", "lora_linear_layer.down.weight")
_CONTEXTS = {base.context_width: base.title for base in BASES}
# Families whose text encoders are in no table here: Flux.1 and SD 3 have SD 1.x's and SDXL's.
_WITHOUT_TABLE = tuple(sorted({*_VERSIONS.values(), *_ARCHITECTURES.values()} - {base.title for base in BASES}))


@dataclass(frozen=True)
class Detection:
    """`family` is None if the file speaks for none that loraloom knows; `title` says in words what it speaks for.

    `evidence` says why, the strongest last: "cross-attention 2048 wide". Without any, nothing is known.
    """

    family: str | None
    title: str
    evidence: tuple[str, ...]
    contradictions: tuple[str, ...] = ()

    @property
    def confident(self) -> bool:
        return bool(self.evidence)


class _Clue(NamedTuple):
    title: str
    evidence: str
    others: tuple[str, ...] = ()  # families that it speaks for just as well


def detect(shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> Detection:
    """The family that a file's header speaks for. Reads names, shapes and metadata only; without shapes, what its metadata says."""
    told, seen = _from_metadata(metadata), _from_tensors(shapes) if shapes else None
    if told is None and seen is None:
        return Detection(None, UNKNOWN, evidence=())
    if told and seen and told.title in seen.others:
        seen = seen._replace(title=told.title)
    # Shapes cannot be wrong about what fits, but two versions of an embedded base differ in what shapes do not show.
    versions = told is not None and seen is not None and _is_version(told.title) and _is_version(seen.title)
    chosen = told if told and (seen is None or seen.title == UNKNOWN or versions) else seen
    assert chosen is not None
    contradictions: tuple[str, ...] = ()
    if told and chosen is seen and told.title != chosen.title:
        contradictions = (f"metadata says {told.title} ({told.evidence}), tensors say {chosen.title} ({chosen.evidence})",)
    evidence = tuple(clue.evidence for clue in (told, seen) if clue and clue.title == chosen.title)
    family = next((base.family for base in BASES if base.title == chosen.title), None)
    return Detection(family, chosen.title, evidence, contradictions)


def _from_metadata(metadata: Mapping[str, str]) -> _Clue | None:
    for key, known in (("ss_base_model_version", _versions()), ("modelspec.architecture", _architectures())):
        value = metadata.get(key, "")
        embedded = re.match(r"loraloom[_-]([a-z]{1,20})[_-](\d{1,9})(/|$)", value)
        if embedded:
            return _Clue(f"loraloom {embedded[1]} {embedded[2]}", f"{key} = {value}")
        prefix = max((prefix for prefix in known if value.startswith(prefix)), key=len, default=None)
        if prefix is not None:
            return _Clue(known[prefix], f"{key} = {value}"[:120])
    return _Clue("SD 2.x", "ss_v2 = True") if metadata.get("ss_v2") == "True" else None


@cache
def _versions() -> dict[str, str]:
    return {base.version: base.title for base in BASES} | _VERSIONS


@cache
def _architectures() -> dict[str, str]:
    return {base.architecture: base.title for base in BASES} | _ARCHITECTURES


def _is_version(title: str) -> bool:
    return title.startswith("loraloom ")


def _from_tensors(shapes: Mapping[str, tuple[int, ...]]) -> _Clue | None:
    """What is surest first. A cross-attention of a width that nobody has is only counted where nothing else speaks."""
    attention = _from_cross_attention(shapes)
    known = attention if attention and attention.title != UNKNOWN else None
    found = _from_names(shapes, _TRANSFORMERS) or known or _from_names(shapes, _UNETS) or attention
    # A transformer that no signature knows still is no UNet: text encoders of SD 1.x's and SDXL's widths are everywhere.
    return found or (None if _has_transformer(shapes) else _from_text_encoders(shapes))


def _has_transformer(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return any(key.startswith(("transformer.", "lora_transformer_")) for key in shapes)


def _from_names(shapes: Mapping[str, tuple[int, ...]], signatures: Iterable[tuple[tuple[str, ...], str, str]]) -> _Clue | None:
    names = "\n".join(shapes)  # one search instead of one for each name: a stranger's file has up to 50,000
    for patterns, title, evidence in signatures:
        if all(re.search(pattern, names, re.MULTILINE) for pattern in patterns):
            return _Clue(title, evidence)
    return None


def _from_cross_attention(shapes: Mapping[str, tuple[int, ...]]) -> _Clue | None:
    width = _commonest_input(shapes, *_CROSS_ATTENTION)
    return None if width is None else _Clue(_CONTEXTS.get(width, UNKNOWN), f"cross-attention {width} wide")


def _from_text_encoders(shapes: Mapping[str, tuple[int, ...]]) -> _Clue | None:
    """The first family with text encoders of these widths. Several share them, so metadata may name another that has them."""
    widths = [_commonest_input(shapes, pattern) for pattern in _TEXTS]
    found = [str(width) for width in widths if width is not None]
    if not found:
        return None
    fits = [base.title for base in BASES if _has(base.text_widths, widths)]
    evidence = f"text encoder {found[0]} wide" if len(found) == 1 else f"text encoders {' and '.join(found)} wide"
    return _Clue(fits[0] if fits else UNKNOWN, evidence, (*fits, *_WITHOUT_TABLE))


def _has(own: tuple[int, ...], found: Iterable[int | None]) -> bool:
    """Whether a family has text encoders of the widths that were found, in their places."""
    return all(width is None or own[index : index + 1] == (width,) for index, width in enumerate(found))


def _commonest_input(shapes: Mapping[str, tuple[int, ...]], *patterns: re.Pattern[str]) -> int | None:
    """The commonest input width of the layers whose keys have all of these patterns."""
    inputs = ((key, shape[1]) for key, shape in shapes.items() if len(shape) >= 2 and key.endswith(_INPUTS))
    widths = Counter(width for key, width in inputs if all(pattern.search(key) for pattern in patterns))
    return next((width for width, _ in widths.most_common(1)), None)


def by_family(family: str) -> Base | None:
    """The base of this family name, or None."""
    return next((base for base in BASES if base.family == family), None)
