"""kohya (sd-scripts): `lora_unet_` or `lora_te_` and the module's name with dots as underscores.

SDXL is written as its trainer sees it, with the original names of the UNet (`lora_unet_input_blocks_4_1_...`) and a number for
each text encoder (`lora_te1_`, `lora_te2_`); SD 1.x and 2.x with diffusers' names and `lora_te_`. Either spelling is read.
"""

from typing import ClassVar

from loraloom.bases import Base, Layer
from loraloom.dialects.base import Dialect

_PREFIXES = {
    "unet": ("lora_unet",),
    "text_encoder": ("lora_te", "lora_te1"),  # diffusers writes te1 for SD 1.x too
    "text_encoder_2": ("lora_te2",),
}


class Kohya(Dialect):
    name: ClassVar[str] = "kohya"
    title: ClassVar[str] = "kohya"

    def spell(self, layer: Layer, base: Base) -> tuple[str, ...]:
        names = [layer.target.module]
        if layer.original is not None:
            names.append(layer.original)
        prefixes = _PREFIXES.get(layer.target.component, (f"lora_{layer.target.component}",))
        if _is_xl(base):
            names, prefixes = names[::-1], prefixes[::-1]
        return tuple(f"{prefix}_{name.replace('.', '_')}" for name in names for prefix in prefixes)


def _is_xl(base: Base) -> bool:
    """SDXL's layout: a UNet and two text encoders."""
    return {"unet", "text_encoder_2"} <= set(base.components)
