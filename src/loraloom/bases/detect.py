"""Which base a file is for: metadata first, then the names and shapes of its tensors. The file's name is never evidence."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

from loraloom.bases import BASES
from loraloom.bases.base import Base
from loraloom.bases.names import changed
from loraloom.bases.signatures import (
    BEGINNING,
    CALLED,
    COUNTED,
    COUNTED_CONTEXT,
    COUNTED_LAYERS,
    CROSS_ATTENTION,
    TEXTS,
    TRANSFORMERS,
    UNETS,
    Signature,
)

UNKNOWN = "an unknown base"
Confidence = Literal["certain", "likely", "cannot tell"]
# Of tensors whose second length is the input's.
_INPUTS = (
    *("lora_down.weight", "lora_A.weight", ".lora_A", "lora.down.weight", "lora_linear_layer.down.weight"),
    *("hada_w1_b", "diff", "q_layer.weight"),
)
_OUTPUTS = ("lora_up.weight", "lora_B.weight", ".lora_B", "lora.up.weight", "hada_w1_a", "diff", "dora_scale", "b1.weight")
_CONTEXTS = {base.context_width: base.title for base in BASES}
# Families whose text encoders are in no table here: Flux.1 and SD 3 have SD 1.x's and SDXL's.
_WITHOUT_TABLE = tuple(sorted(set(CALLED.values()) - {base.title for base in BASES}))


@dataclass(frozen=True)
class Detection:
    """`family` is None if the file speaks for none that loraloom knows; `title` says in words what it speaks for.

    `evidence` says why, the strongest last: "cross-attention 2048 wide". Without any, nothing is known. `confidence` is certain where
    the tensors have what only this family has, or agree with the metadata; likely where only one of the two speaks, or they do not agree.
    """

    family: str | None
    title: str
    evidence: tuple[str, ...]
    contradictions: tuple[str, ...] = ()
    confidence: Confidence = "cannot tell"
    possible: frozenset[str] | None = None  # titles of which one is certain; None: nothing is

    def rules_out(self, titles: Collection[str]) -> bool:
        """Whether the file is certainly for none of these families. What is only likely leaves it to names and shapes."""
        return self.possible is not None and self.possible.isdisjoint(titles)

    @property
    def confident(self) -> bool:
        """Whether the file speaks for anything, a base that nobody here knows included."""
        return bool(self.evidence)


class _Clue(NamedTuple):
    title: str
    evidence: str
    others: tuple[str, ...] = ()  # families that it speaks for just as well
    sure: bool = True  # whether only this family has it


def detect(shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> Detection:
    """The family that a file's header speaks for. Reads names, shapes and metadata only; without shapes, what its metadata says."""
    if plain := changed(shapes):
        shapes = {plain[key].name if key in plain else key: shape for key, shape in shapes.items()}
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
    return Detection(family, chosen.title, evidence, contradictions, _confidence(told, seen, chosen), _possible(told, seen))


def _possible(told: _Clue | None, seen: _Clue | None) -> frozenset[str] | None:
    """Metadata alone is what somebody wrote; but the versions of an embedded base differ in nothing else."""
    if told is not None and _is_version(told.title) and (seen is None or _is_version(seen.title)):
        return frozenset({told.title})
    if seen is None:
        return None
    return frozenset({seen.title, *seen.others, *({told.title} if told is not None and seen.others else ())})


def _confidence(told: _Clue | None, seen: _Clue | None, chosen: _Clue) -> Confidence:
    if chosen.title == UNKNOWN:
        return "cannot tell"
    agree = told is not None and seen is not None and told.title == seen.title
    alone = told is None and seen is not None and seen.sure
    return "certain" if agree or alone else "likely"


def _from_metadata(metadata: Mapping[str, str]) -> _Clue | None:
    for key in ("ss_base_model_version", "modelspec.architecture"):
        value, known = metadata.get(key, ""), _called()
        embedded = re.match(r"loraloom[_-]([a-z]{1,20})[_-](\d{1,9})(/|$)", value)
        if embedded:
            return _Clue(f"loraloom {embedded[1]} {embedded[2]}", f"{key} = {value}")
        plain = _plain(value)
        prefix = max((prefix for prefix in known if plain.startswith(prefix)), key=len, default=None)
        if prefix is not None:
            return _Clue(known[prefix], f"{key} = {value}"[:120])
    return _Clue("SD 2.x", "ss_v2 = True") if metadata.get("ss_v2") == "True" else None


@cache
def _called() -> dict[str, str]:
    """Title by what trainers write, the names of our own tables included."""
    own = {_plain(name): base.title for base in BASES for name in (base.version, base.architecture)}
    return own | CALLED


def _plain(name: str) -> str:
    return name[:120].lower().replace("_", "-")


def _is_version(title: str) -> bool:
    return title.startswith("loraloom ")


def _from_tensors(shapes: Mapping[str, tuple[int, ...]]) -> _Clue | None:
    """What is surest first. A cross-attention of a width that nobody has is only counted where nothing else speaks."""
    attention = _from_cross_attention(shapes)
    if attention and attention.title != UNKNOWN:  # in the blocks of a UNet, which no transformer has
        return attention
    inner = {key[begins.end() :]: key for key in shapes if (begins := BEGINNING.match(key))}
    found = _from_names(inner, shapes, TRANSFORMERS) or _from_names(dict(zip(shapes, shapes, strict=True)), shapes, UNETS) or attention
    # A transformer that no signature knows still is no UNet: text encoders of SD 1.x's and SDXL's widths are everywhere.
    return found or (None if _has_transformer(shapes) else _from_text_encoders(shapes))


def _has_transformer(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return any(key.startswith(("transformer.", "lora_transformer_")) for key in shapes)


def _from_names(names: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], signatures: Iterable[Signature]) -> _Clue | None:
    """`names` has the key of each name."""
    text = "\n".join(("", *names))  # one search instead of one for each name: a stranger's file has up to 50,000
    for signature in signatures:
        marked = any(mark in text for mark in signature.marks)
        if not marked or not all(re.search(pattern, text) for pattern in signature.patterns):
            continue
        first = re.compile(signature.patterns[0])
        keys = [key for name, key in names.items() if first.search(f"\n{name}")] if signature.widths or signature.outputs else []
        width, output = (_commonest(of(shapes, key) for key in keys) for of in (_input, _output))
        if (width in signature.widths or not signature.widths) and (output in signature.outputs or not signature.outputs):
            told = signature.evidence.format(width=width, output=output)
            return _Clue(signature.title, told, signature.others, sure=not signature.others)
    return None


def _from_cross_attention(shapes: Mapping[str, tuple[int, ...]]) -> _Clue | None:
    width = _commonest(_input(shapes, key) for key in _named(shapes, *CROSS_ATTENTION))
    if width is None:
        counted = (key for key in shapes if (found := COUNTED.fullmatch(key)) and int(found[1]) % COUNTED_LAYERS in COUNTED_CONTEXT)
        width = _commonest(shapes[key][1] for key in counted if len(shapes[key]) > 1)
    return None if width is None else _Clue(_CONTEXTS.get(width, UNKNOWN), f"cross-attention {width} wide")


def _from_text_encoders(shapes: Mapping[str, tuple[int, ...]]) -> _Clue | None:
    """The first family with text encoders of these widths. Several share them, so metadata may name another that has them."""
    widths = [_commonest(_square(shapes, key) for key in _named(shapes, pattern)) for pattern in TEXTS]
    found = [str(width) for width in widths if width is not None]
    if not found:
        return None
    fits = [base.title for base in BASES if _has(base.text_widths, widths)]
    evidence = f"text encoder {found[0]} wide" if len(found) == 1 else f"text encoders {' and '.join(found)} wide"
    return _Clue(fits[0] if fits else UNKNOWN, evidence, (*fits, *_WITHOUT_TABLE), sure=False)


def _has(own: tuple[int, ...], found: Iterable[int | None]) -> bool:
    """Whether a family has text encoders of the widths that were found, in their places."""
    return all(width is None or own[index : index + 1] == (width,) for index, width in enumerate(found))


def _named(keys: Iterable[str], *patterns: re.Pattern[str]) -> Iterator[str]:
    return (key for key in keys if all(pattern.search(key) for pattern in patterns))


def _commonest(widths: Iterable[int | None]) -> int | None:
    return next((width for width, _ in Counter(filter(None, widths)).most_common(1)), None)


def _input(shapes: Mapping[str, tuple[int, ...]], key: str) -> int | None:
    """How wide the input of the layer is, if this is the tensor of its adapter that says so."""
    shape = shapes[key]
    if len(shape) < 2:
        return None
    if key.endswith(_INPUTS):
        return shape[1]
    if key.endswith(("lokr_w1", "lokr_w1_b")):  # the product of both factors' widths
        stem = key[: key.rindex("lokr_w1")]
        second = shapes.get(f"{stem}lokr_w2") or shapes.get(f"{stem}lokr_w2_b") or ()
        return shape[1] * second[1] if len(second) >= 2 else None
    if key.endswith("oft_R.weight") and shape[0] > 1:  # upper triangles of blocks along the input; one row is shared by all
        return shape[0] * ((1 + math.isqrt(1 + 8 * shape[1])) // 2)
    return max(shape) if key.endswith("a1.weight") else None  # GLoRA: [in, rank] or [rank, in]


def _output(shapes: Mapping[str, tuple[int, ...]], key: str) -> int | None:
    """How many outputs the layer has, if this is the tensor of its adapter that says so."""
    shape = shapes[key]
    if key.endswith(_OUTPUTS) and len(shape) >= 2:
        return shape[0]
    if key.endswith(("lokr_w1", "lokr_w1_a")) and len(shape) >= 2:  # the product of both factors' outputs
        stem = key[: key.rindex("lokr_w1")]
        second = shapes.get(f"{stem}lokr_w2") or shapes.get(f"{stem}lokr_w2_a") or ()
        return shape[0] * second[0] if len(second) >= 2 else None
    return shape[-3] * shape[-1] if key.endswith(("oft_blocks", "oft_diag")) and len(shape) >= 3 else None


def _square(shapes: Mapping[str, tuple[int, ...]], key: str) -> int | None:
    """The same of a layer whose outputs are as many as its inputs, from tensors that speak of its outputs alone."""
    shape = shapes[key]
    if key.endswith(("oft_blocks", "oft_diag")) and len(shape) >= 3:
        return shape[-3] * shape[-1]
    known = len(shape) == 1 and key.endswith(".weight") and f"{key.removesuffix('weight')}on_input" in shapes  # IA3
    return shape[0] if known else _input(shapes, key)


def by_family(family: str) -> Base | None:
    """The base of this family name, or None."""
    return next((base for base in BASES if base.family == family), None)
