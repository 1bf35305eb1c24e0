"""kohya (sd-scripts): `lora_unet_` or `lora_te_` and the module's name with dots as underscores."""

from typing import ClassVar

from loraloom.bases import Layer
from loraloom.dialects.base import Dialect

_PREFIXES = {
    "unet": ("lora_unet",),
    "text_encoder": ("lora_te", "lora_te1"),  # diffusers writes te1 for SD 1.x too
    "text_encoder_2": ("lora_te2",),
}


class Kohya(Dialect):
    name: ClassVar[str] = "kohya"
    title: ClassVar[str] = "kohya"

    def spell(self, layer: Layer) -> tuple[str, ...]:
        names = [layer.target.module]
        if layer.original is not None:
            names.append(layer.original)
        prefixes = _PREFIXES.get(layer.target.component, (f"lora_{layer.target.component}",))
        return tuple(f"{prefix}_{name.replace('.', '_')}" for name in names for prefix in prefixes)
