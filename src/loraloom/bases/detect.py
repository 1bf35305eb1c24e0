"""Which base a file is for: metadata first, then the shapes of its tensors. The file's name is never evidence."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from loraloom.bases import BASES
from loraloom.bases.base import Base

# Widths that are not a family of ours yet, so that messages can name what a file is for.
_OTHER_CONTEXTS = {1024: "SD 2.x", 2048: "SDXL"}
_OTHER_VERSIONS = {
    "sd_v2": "SD 2.x",
    "sdxl_": "SDXL",
    "flux1": "Flux.1",
    "flux2": "Flux.2",
    "sd3": "SD 3",
    "medium": "SD 3",
    "5-": "SD 3.5",
}

_CROSS_ATTENTION = re.compile(r"attn2[._](to_k|to_v|processor[._]to_k_lora|processor[._]to_v_lora)[._]")
_TEXT = re.compile(r"^(lora_te_|lora_te1_|text_encoder\.|lycoris_te).*self_attn[._](q|k|v)_proj")
_INPUTS = (
    "lora_down.weight",
    "lora_A.weight",
    "lora_A.default.weight",
    "lora.down.weight",
    "_lora.down.weight",
    "lora_linear_layer.down.weight",
)


@dataclass(frozen=True)
class Detection:
    """`family` is None if nothing speaks for a family that loraloom knows; `title` says it in words even then."""

    family: str | None
    title: str
    confident: bool
    evidence: tuple[str, ...]
    contradictions: tuple[str, ...] = ()


def detect(shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> Detection:
    """The family that a file's header speaks for. Reads names, shapes and metadata only."""
    told = _from_metadata(metadata)
    seen = _from_shapes(shapes)
    if told and seen and told[0] != seen[0]:
        # Shapes cannot be wrong about what fits; metadata can be.
        contradiction = f"metadata says {told[0]} ({told[1]}), tensors say {seen[0]} ({seen[1]})"
        return _result(seen[0], confident=True, evidence=(seen[1],), contradictions=(contradiction,))
    found = told or seen
    if found is None:
        return Detection(None, "an unknown base", confident=False, evidence=())
    return _result(found[0], confident=True, evidence=tuple(item[1] for item in (told, seen) if item))


def _result(title: str, *, confident: bool, evidence: tuple[str, ...], contradictions: tuple[str, ...] = ()) -> Detection:
    family = next((base.family for base in BASES if base.title == title), None)
    return Detection(family, title, confident, evidence, contradictions)


def _from_metadata(metadata: Mapping[str, str]) -> tuple[str, str] | None:
    for key, names in (("ss_base_model_version", _versions()), ("modelspec.architecture", _architectures())):
        value = metadata.get(key, "")
        for prefix, title in names.items():
            if value == prefix or (value.startswith(prefix) and not prefix.startswith("loraloom")):
                return title, f"{key} = {value}"
        embedded = re.match(r"loraloom[_-](\w+?)[_-](\d+)", value)
        if embedded:
            return f"loraloom {embedded[1]} {embedded[2]}", f"{key} = {value}"
    return None


def _versions() -> dict[str, str]:
    return {base.version: base.title for base in BASES} | _OTHER_VERSIONS


def _architectures() -> dict[str, str]:
    ours = {title: base.title for base in BASES for title in (base.architecture, f"{base.architecture}/lora")}
    return ours | {
        "stable-diffusion-v2": "SD 2.x",
        "stable-diffusion-xl": "SDXL",
        "flux-1": "Flux.1",
        "Flux.1": "Flux.1",
        "stable-diffusion-3": "SD 3",
    }


def _from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str] | None:
    if any("double_blocks" in key or "single_transformer_blocks" in key for key in shapes):
        return "Flux.1", "double or single transformer blocks"
    contexts, texts = Counter[int](), Counter[int]()
    for key, shape in shapes.items():
        if len(shape) >= 2 and key.endswith(_INPUTS):
            contexts[shape[1]] += bool(_CROSS_ATTENTION.search(key))
            texts[shape[1]] += bool(_TEXT.search(key))
    for counts, what, widths in (
        (contexts, "cross-attention", {base.context_width: base.title for base in BASES} | _OTHER_CONTEXTS),
        (texts, "text encoder", {base.text_widths[0]: base.title for base in BASES}),
    ):
        width = next((width for width, count in counts.most_common(1) if count), None)
        if width is not None:
            return widths.get(width, f"an unknown base ({what} {width} wide)"), f"{what} {width} wide"
    return None


def by_family(family: str) -> Base | None:
    return next((base for base in BASES if base.family == family), None)
