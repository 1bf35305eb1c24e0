"""Embeddings that lie in a network's file: `bundle_emb.<word>.string_to_param.*`, or one tensor for each text encoder.

The first is a textual inversion file of the WebUI inside the network's, the second what OneTrainer and SDXL tools write.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from loraloom.bases import Base
from loraloom.lorafile import Embeddings
from loraloom.strength import is_text_encoder
from loraloom.tensorfile import Header

if TYPE_CHECKING:
    from torch import Tensor

_KEY = re.compile(r"^bundle_emb\.(?P<word>.+)\.(?P<part>string_to_param\.\*|clip_l|clip_g|t5|t5xxl)$")
_COMPONENTS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
MAX_VECTORS = 75  # what stands between the first and the last token of CLIP's text


class Bundled(NamedTuple):
    """Every `bundle_emb.` key of a file is in one of the two."""

    words: Mapping[str, tuple[str, str]]  # by key: word and component
    unknown: Mapping[str, str]  # by key: the reason


def bundled(header: Header, base: Base) -> Bundled:
    words, unknown = {}, {}
    for key, shape in header.shapes.items():
        if not key.startswith("bundle_emb."):
            continue
        reason = "is no embedding that is known here"
        if found := _KEY.match(key):
            component, reason = _component(found["part"], shape, base)
            if component and "F" in header.entries[key].dtype:
                words[key] = (found["word"], component)
                continue
            reason = reason or f"holds {header.entries[key].dtype}, not floating-point numbers"
        unknown[key] = reason
    return Bundled(words, unknown)


def spelled(embeddings: "Embeddings", base: Base) -> "dict[str, Tensor]":
    """Keys of the embeddings as `bundled` reads them: the WebUI's where there is one text encoder, else one for each."""
    parts = {component: part for part, component in _COMPONENTS.items()}
    alone = len(base.text_widths) == 1
    return {
        f"bundle_emb.{word}.{'string_to_param.*' if alone else parts[component]}": tensor
        for word, by_component in embeddings.items()
        for component, tensor in by_component.items()
    }


def _component(part: str, shape: tuple[int, ...], base: Base) -> tuple[str, str]:
    """The text encoder that has this width, or none and why."""
    if len(shape) != 2 or not 1 <= shape[0] <= MAX_VECTORS:
        return "", f"{list(shape)} is not 1 to {MAX_VECTORS} vectors"
    widths = dict(_widths(base))
    fitting = [name for name, width in widths.items() if width == shape[1] and name == _COMPONENTS.get(part, name)]
    if fitting:
        return fitting[0], ""
    return "", f"is {shape[1]} wide; the text encoders of {base.title} are {' and '.join(map(str, widths.values()))}"


def _widths(base: Base) -> Iterator[tuple[str, int]]:
    names = [name for name in base.components if is_text_encoder(name)]
    yield from zip(names, base.text_widths, strict=True)
