"""Files that go to diffusers as they are: the checks at the border, without our dialects. No torch.

What diffusers would drop, or take for something else, in silence is refused here by name.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loraloom.bases.detect import UNKNOWN, Detection, detect
from loraloom.errors import NotSafetensors, NotSupported, WrongBase
from loraloom.lorafile import LoraFile
from loraloom.tensorfile import Header

if TYPE_CHECKING:
    from torch.nn import Module

# Suffixes that only one type of adapter has (formats.md §2). diffusers 0.42 drops or refuses them, or runs them for one pipeline only.
_OTHER_TYPES = (
    ("DoRA", r"dora_scale|lora_magnitude_vector"),
    ("LoHa", r"\.hada_"),
    ("LoKr", r"\.lokr_"),
    ("OFT or BOFT", r"\.b?oft_"),
    ("IA3", r"\.on_input$|\.ia3_l"),
    ("GLoRA", r"\.[ab][12]\.weight$"),
    ("LoCon with a Tucker core", r"\.lora_mid\."),
    ("full weights", r"\.diff(_b)?$"),
    ("norms", r"\.[wb]_norm$|\.norm_(added_)?[qk]\.|_norm\.scale$"),
)
# What a LoRA for these may call itself beside what its names and widths say.
_ALSO_CALLED = {
    "SD3Transformer2DModel": ("SD 3", "SD 3.5"),
    "FluxTransformer2DModel": ("Flux.1", "Chroma"),
    "ChromaTransformer2DModel": ("Flux.1", "Chroma"),
    "Flux2Transformer2DModel": ("Flux.2",),
    "Lumina2Transformer2DModel": ("Lumina 2",),
}
_PEFT_CONFIG = "lora_adapter_metadata"  # diffusers hands it to PEFT's LoraConfig as it is
# Options that say how large an adapter is and where it stands. Others can make PEFT change the base or run another method.
_SIZES = {
    *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules", "exclude_modules"),
    *("use_rslora", "lora_bias", "lora_dropout", "inference_mode"),
}
_TEXTS = {"peft_type", "task_type", "base_model_name_or_path", "revision", "peft_version"}
# What the others are in every file that PEFT 0.21 writes, where that is not nothing.
_USUAL: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "init_lora_weights": (True, "gaussian"),
    "megatron_core": ("megatron.core",),
    "qalora_group_size": (16,),
}
_NOTHING: tuple[Any, ...] = (None, False, "", [], {})
_NAMES = re.compile(r"\^?[\w.-]*\$?")  # PEFT takes names of modules as regular expressions; a stranger's could run without end


def titles(parts: "Mapping[str, Module]") -> frozenset[str]:
    """The families that a LoRA for this pipeline may speak for: what a file with its names and widths would be taken for."""
    shapes = {
        f"{component}.{name.removesuffix('.weight')}.lora_A.weight": (1, *parameter.shape[1:])
        for component, part in parts.items()
        for name, parameter in part.named_parameters()
        if name.endswith(".weight") and parameter.ndim in (2, 4)
    }
    denoisers = {type(part).__name__ for part in parts.values()}
    return frozenset((detect(shapes, {}).title, *(title for name in denoisers for title in _ALSO_CALLED.get(name, ()))))


def read_unparsed(path: str | Path, base: str, known_as: frozenset[str], *, force: bool = False) -> LoraFile:
    """The file with its metadata and without adapters. `base` is the pipeline's name in messages, `known_as` its families.

    Raises FileError subclasses for a file that cannot be used, NotSupported for what is no plain LoRA, and WrongBase if it
    was made for another family (not with `force`).
    """
    header = Header.read(path)
    refuse_other_types(header)
    found = detect(header.shapes, header.metadata)
    warnings = tuple(f"{header.path.name}: {sentence}" for sentence in found.contradictions)
    if not found.confident:
        warnings += (f"{header.path.name} does not say what base it was made for; matched with {base} by names and shapes",)
    elif found.title != UNKNOWN and found.rules_out(known_as):
        mismatch = _mismatch(header, found, base, known_as)
        if not force:
            raise WrongBase(f"{mismatch}. Use a LoRA for this base, or another base")
        warnings += (f"{mismatch}, and this was forced",)
    elif found.title not in {*known_as, UNKNOWN}:
        warnings += (f"{_mismatch(header, found, base, known_as)}; matched by names and shapes",)
    made_for = f"{found.title} ({'; '.join(found.evidence)})" if found.evidence else UNKNOWN
    return LoraFile({}, dict(header.metadata), warnings=warnings, dialect="diffusers", path=header.path, made_for=made_for)


def refuse_other_types(header: Header) -> None:
    """Raises NotSupported for what is not plain LoRA, naming the first key or option that is not."""
    names = "\n".join(header.entries)  # one search for each type: a stranger's file has up to 50,000 names
    for kind, pattern in _OTHER_TYPES:
        found = re.search(pattern, names, re.MULTILINE)
        if found:
            key = names[names.rfind("\n", 0, found.start()) + 1 :].partition("\n")[0]
            raise NotSupported(
                f"{header.path.name}: {key[:200]} is {kind}; through diffusers only plain LoRA runs. Use a base that the native engine "
                "knows, or a plain LoRA"
            )
    for option, value in _peft_options(header).items():
        name = option.rpartition(".")[2]
        known = _only_names(value) if name in _SIZES else name in _TEXTS or value in (*_NOTHING, *_USUAL.get(name, ()))
        if not known:
            raise NotSupported(
                f"{header.path.name}: its metadata asks PEFT for {option[:60]} = {repr(value)[:60]}; through diffusers only plain LoRA runs"
            )


def _only_names(value: Any) -> bool:
    """Whether every text in it is the name of a module and no pattern."""
    texts = [value] if isinstance(value, str) else value if isinstance(value, dict | list) else ()
    return all(isinstance(text, str) and _NAMES.fullmatch(text) for text in texts)


def _peft_options(header: Header) -> dict[str, Any]:
    text = header.metadata.get(_PEFT_CONFIG)
    try:
        return msgspec.json.decode(text, type=dict[str, Any]) if text else {}
    except (msgspec.DecodeError, RecursionError) as error:
        raise NotSafetensors(f"{header.path}: {_PEFT_CONFIG} in its metadata is not a JSON object ({error}); download it again") from error


def _mismatch(header: Header, found: Detection, base: str, known_as: frozenset[str]) -> str:
    own = ", ".join(sorted(known_as - {UNKNOWN}))
    return f"{header.path.name} was made for {found.title} ({found.evidence[-1]}); the base is {base}" + (f" ({own})" if own else "")
