"""diffusers before PEFT: `<module>.attn1.processor.to_q_lora.down.weight`, text encoders with `lora_linear_layer`; also without `unet.`."""

from collections.abc import Mapping
from typing import ClassVar

from loraloom.bases import Base, Layer
from loraloom.dialects.base import Dialect

_PROCESSED = ("to_q", "to_k", "to_v", "to_out.0")
_TEXT = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}  # diffusers 0.17 had the UNet's names there too


class OldDiffusers(Dialect):
    name: ClassVar[str] = "old-diffusers"
    title: ClassVar[str] = "old diffusers"
    suffixes: ClassVar[Mapping[str, str]] = {"down.weight": "lora_down.weight", "up.weight": "lora_up.weight"}

    def spell(self, layer: Layer, base: Base) -> tuple[str, ...]:
        component, module = layer.target.component, layer.target.module
        names = [module, module.removeprefix("text_model.")]
        for ending in _PROCESSED:
            if module.endswith(f".{ending}"):
                names.append(f"{module.removesuffix(ending)}processor.{ending.removesuffix('.0')}_lora")
        for ending, processed in _TEXT.items():
            if module.endswith(f".self_attn.{ending}"):
                names.append(f"{module.removesuffix(ending)}{processed}_lora")
        return tuple(dict.fromkeys(spelled for name in names for spelled in (f"{component}.{name}", name)))
