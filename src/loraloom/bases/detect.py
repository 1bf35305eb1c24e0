"""Which base a file is for: metadata first, then the names and shapes of its tensors. The file's name is never evidence."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
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
_BLOCK = "(down|up|input|output)_blocks|mid(dle)?_block"
_SIGNATURES = (
    (("double_blocks|single_transformer_blocks",), "Flux.1", "double and single transformer blocks"),
    (("joint_blocks",), "SD 3", "joint blocks"),
    ((r"[._]transformer_blocks[._]([2-9]|1\d)[._]", _BLOCK), "SDXL", "three or more transformer blocks in a row"),
    ((r"^lora_te2_|^text_encoder_2\.", r"^lora_unet_|^unet\."), "SDXL", "a UNet and two text encoders"),
)
_CROSS_ATTENTION = re.compile(r"attn2[._](processor[._])?to_[kv](_lora)?[._]")
_TEXT = re.compile(r"^(lora_te1?_|text_encoder\.|lycoris_te_).*self_attn[._](q|k|v)_proj")
_INPUTS = ("lora_down.weight", "lora_A.weight", "lora_A.default.weight", "lora.down.weight", "lora_linear_layer.down.weight")
_CONTEXTS = {base.context_width: base.title for base in BASES} | {1024: "SD 2.x", 2048: "SDXL"}
_TEXTS = {base.text_widths[0]: base.title for base in BASES} | {1024: "SD 2.x"}


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


def detect(shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> Detection:
    """The family that a file's header speaks for. Reads names, shapes and metadata only."""
    told, seen = _from_metadata(metadata), _from_names(shapes) or _from_widths(shapes)
    if told is None and seen is None:
        return Detection(None, UNKNOWN, evidence=())
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


def _versions() -> dict[str, str]:
    return {base.version: base.title for base in BASES} | _VERSIONS


def _architectures() -> dict[str, str]:
    return {base.architecture: base.title for base in BASES} | _ARCHITECTURES


def _is_version(title: str) -> bool:
    return title.startswith("loraloom ")


def _from_names(shapes: Mapping[str, tuple[int, ...]]) -> _Clue | None:
    names = "\n".join(shapes)  # one search instead of one for each name: a stranger's file has up to 50,000
    for patterns, title, evidence in _SIGNATURES:
        if all(re.search(pattern, names, re.MULTILINE) for pattern in patterns):
            return _Clue(title, evidence)
    return None


def _from_widths(shapes: Mapping[str, tuple[int, ...]]) -> _Clue | None:
    contexts, texts = Counter[int](), Counter[int]()
    for key, shape in shapes.items():
        if len(shape) >= 2 and key.endswith(_INPUTS):
            contexts[shape[1]] += bool(_CROSS_ATTENTION.search(key))
            texts[shape[1]] += bool(_TEXT.search(key))
    for counts, what, titles in ((contexts, "cross-attention", _CONTEXTS), (texts, "text encoder", _TEXTS)):
        width = next((width for width, count in counts.most_common(1) if count), None)
        if width is not None:
            return _Clue(titles.get(width, UNKNOWN), f"{what} {width} wide")
    return None


def by_family(family: str) -> Base | None:
    """The base of this family name, or None."""
    return next((base for base in BASES if base.family == family), None)
