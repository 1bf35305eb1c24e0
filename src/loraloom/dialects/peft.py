"""diffusers/PEFT in one file: `unet.<module>.lora_A.weight`, alpha in the metadata or nowhere.

Few programs read the metadata, so what is written has the scale in its factors, and its alpha is the rank. DoRA's vector has PEFT's
full name, with `.weight`: diffusers 0.42 finds a text encoder's under no other one, a UNet's under both.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from loraloom.adapters import Adapter
from loraloom.bases import Base, Layer, Target
from loraloom.dialects import peftconfig, quirks
from loraloom.dialects.base import Dialect
from loraloom.dialects.held import Held, hold
from loraloom.dialects.metadata import PEFT_CONFIG

if TYPE_CHECKING:
    from torch import Tensor

_FULL = {"lora_magnitude_vector": "lora_magnitude_vector.weight"}


class Peft(Dialect):
    name: ClassVar[str] = "peft"
    title: ClassVar[str] = "diffusers/PEFT"
    writes: ClassVar[bool] = True

    def spell(self, layer: Layer, base: Base) -> tuple[str, ...]:
        component, module = layer.target.component, layer.target.module
        return tuple(dict.fromkeys((f"{component}.{module}", f"{component}.{module.removeprefix('text_model.')}")))

    def fix(self, group: "dict[str, Tensor]", spelled: Mapping[str, str], layer: Layer, metadata: Mapping[str, str]) -> "dict[str, Tensor]":
        return quirks.turned(super().fix(group, spelled, layer, metadata), layer, metadata)

    def write_tensors(self, adapter: Adapter, layer: Layer, base: Base) -> "dict[str, Tensor]":
        prefix = self.spell(layer, base)[0]
        return {f"{prefix}.{_FULL.get(suffix, suffix)}": tensor for suffix, tensor in self._held(adapter, layer).tensors.items()}

    def write_metadata(self, adapters: Mapping[Target, Adapter], base: Base) -> Mapping[str, str]:
        config: dict[str, Any] = {}
        for component in dict.fromkeys(target.component for target in adapters):
            # PEFT looks for the ends of names, so the shorter spelling means the module under transformers 4 and 5 alike.
            held = {
                target.module.removeprefix("text_model."): self._held(adapter, base.by_target[target])
                for target, adapter in adapters.items()
                if target.component == component
            }
            config |= {f"{component}.{key}": value for key, value in peftconfig.describe(held).items()}
        return {PEFT_CONFIG: json.dumps(config, indent=2, sort_keys=True), "format": "pt"}

    def _held(self, adapter: Adapter, layer: Layer) -> Held:
        held = hold(adapter, layer, fold=True)
        if isinstance(held, str) or held.kind != "LORA":  # diffusers loads nothing else from one file
            raise self.cannot_hold(layer, held if isinstance(held, str) else f"the type {adapter.name}")
        return held
